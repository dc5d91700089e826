"""The compact network computes what the masked one computes."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from mer_pnao.controls.group_norm import GroupNorm
from mer_pnao.network import blueprint
from mer_pnao.network.blueprint import GATHERED, OUTPUTS, Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import FUSIONS, EmotionNetwork
from mer_pnao.network.gathering import SCORERS, Sizes
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.systems.cost import parameters

Masked = Callable[[EmotionNetwork, dict[str, Tensor]], EmotionNetwork]
PlainForward = Callable[[Blueprint, dict[str, np.ndarray], dict[str, np.ndarray]], dict[str, np.ndarray]]
WIDTHS = {"a": 7, "b": 5, "v": 6, "w": 4}


def network_of(scorer: str, fusion: str, seed: int = 0) -> EmotionNetwork:
    torch.manual_seed(seed)
    blueprint = Blueprint(WIDTHS, ("a", "b"), ("v", "w"), 6, fusion, NetworkConfig(16, 12, 0.3, scorer))
    return EmotionNetwork(blueprint).double().eval()


def inputs(clips: int = 9) -> dict[str, Tensor]:
    return {name: torch.randn(clips, width, dtype=torch.float64) for name, width in WIDTHS.items()}


def random_network(scorer: str, fusion: str, seed: int) -> EmotionNetwork:
    """One to three branches, none to two visual sets, other widths each time, statistics and biases that matter."""
    draw = np.random.default_rng(seed)
    acoustic, visual = ("a", "b", "c")[: draw.integers(1, 4)], ("v", "w")[: draw.integers(0, 3)]
    widths = {name: int(draw.integers(1, 7)) for name in (*acoustic, *visual)}
    hidden, width, classes = (int(draw.integers(2, below)) for below in (17, 13, 7))
    config = NetworkConfig(hidden, width, 0.3, scorer, float(draw.uniform(0.5, 3)), str(draw.choice(OUTPUTS)))
    blueprint = Blueprint(widths, acoustic, visual, classes, fusion, config, str(draw.choice(GATHERED)))
    torch.manual_seed(seed)
    network = EmotionNetwork(blueprint).double()
    network.fit_zscore({name: 2 * torch.randn(9, width, dtype=torch.float64) + 1 for name, width in widths.items()})
    with torch.no_grad():
        for layer in network.prunable().values():
            layer.bias.copy_(torch.rand_like(layer.bias))  # a node's bias alone keeps it alive
    return network.eval()


def random_masks(network: EmotionNetwork, keep: float, scorers: bool = False) -> dict[str, Tensor]:
    masks = {}
    for name, layer in network.prunable(scorers).items():
        mask = torch.rand(layer.out_features) < keep
        mask[torch.randint(layer.out_features, ())] = True
        masks[name] = mask
    return masks


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_compact_computes_what_numpy_computes_with_the_nodes_zeroed(
    scorer: str, fusion: str, plain_forward: PlainForward, masked: Masked
) -> None:
    """Once and again, on networks of every shape; the oracle keeps full size and knows no kept positions (trap 3)."""
    unfed = 0
    for seed in range(12):
        network = random_network(scorer, fusion, seed)
        clips = {name: torch.randn(5, width, dtype=torch.float64) for name, width in network.blueprint.widths.items()}
        plain = {name: values.numpy() for name, values in clips.items()}
        zeroed = {name: value.numpy().copy() for name, value in network.state_dict().items()}
        layers = network.prunable(scorers=True).items()
        small, left = network, {name: np.arange(layer.out_features) for name, layer in layers}
        for _ in range(2):
            masks = random_masks(small, (0.15, 0.4, 0.8)[seed % 3], scorers=seed % 2 == 0)
            before, small = small, compact(small, masks)
            for name, mask in masks.items():
                gone = left[name][~mask.numpy()]
                left[name] = left[name][mask.numpy()]
                zeroed[f"{name}.weight"][gone] = 0
                if f"{name}.bias" in zeroed:
                    zeroed[f"{name}.bias"][gone] = 0
            want = plain_forward(network.blueprint, zeroed, plain)
            with torch.inference_mode():
                found, by_library = small(clips)._asdict(), masked(before, masks)(clips)._asdict()
            for name, exact in want.items():
                assert np.abs(found[name].numpy() - exact).max() <= 1e-10, name
                assert (found[name] - by_library[name]).abs().max() <= 1e-10, name
            assert {name: kept.tolist() for name, kept in small.kept(scorers=True).items()} == {
                name: nodes.tolist() for name, nodes in left.items()
            }
            assert parameters(small) == count_by_hand(network.blueprint, left)
        widths = [small.branch(name).gathering.fused_width for name in network.blueprint.acoustic]
        unfed += min(widths) < network.blueprint.config.width
    assert unfed > 4  # fused positions that no modality feeds did occur


def count_by_hand(plan: Blueprint, left: dict[str, np.ndarray]) -> int:
    """The parameters of a network with these nodes left, layer by layer."""
    total, all_fused = 0, 0
    for acoustic in plan.acoustic:
        others = [name for name in plan.acoustic if name != acoustic] if plan.gathered == "all" else []
        sets, prefix = (acoustic, *others, *plan.visual), f"branches.{acoustic}.gathering.modalities"
        outer = {name: left[f"{prefix}.{name}.outer"] for name in sets}
        for name in sets:
            inner = len(left[f"{prefix}.{name}.inner"])
            total += (plan.widths[name] + 1) * inner + (inner + 1) * len(outer[name])
        fused = len(set().union(*outer.values()))
        together = sum(len(nodes) for nodes in outer.values())
        scorer = prefix.replace("modalities", "scorer")
        project, one, two = (len(left.get(f"{scorer}.{layer}", ())) for layer in ("project", "inner", "outer"))
        total += {
            "tanh": project * fused + project,
            "linear": (together + 1) * len(sets),
            "mean": 0,
            "mlp": (together + 1) * one + (one + 1) * two + (two + 1) * len(sets),
        }[plan.config.scorer]
        total += (fused + 1) * plan.classes + (fused + 1) + (plan.classes + 1) + 3
        all_fused += fused
    return total + ((all_fused + 1) * len(plan.acoustic) if plan.fusion == "attention" else 0)


@pytest.mark.parametrize("scorer", SCORERS)
def test_compacting_again_composes(scorer: str, masked: Masked) -> None:
    network = network_of(scorer, "attention")
    once = compact(network, random_masks(network, 0.6))
    masks = random_masks(once, 0.6)
    twice = compact(once, masks)
    clips = inputs()
    for got, want in zip(twice(clips), masked(once, masks)(clips), strict=True):
        assert torch.allclose(got, want, rtol=0, atol=1e-10)
    direct = keep_only(network, twice.kept(scorers=True))
    for (name, got), want in zip(direct.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(got, want), name


def test_the_fused_vector_keeps_only_positions_that_a_modality_feeds(masked: Masked) -> None:
    network = network_of("tanh", "entropy")
    masks = {}
    for name, layer in network.prunable().items():
        mask = torch.ones(layer.out_features, dtype=torch.bool)
        if name.startswith("branches.a.") and name.endswith("outer"):
            mask[:] = False
            mask[[1, 3] if ".v." in name else [3, 8]] = True
        masks[name] = mask
    small = compact(network, masks)
    assert small.branch("a").gathering.fused_kept.tolist() == [1, 3, 8]
    assert small.branch("a").decoder.emotion.in_features == 3
    assert small.branch("a").decoder.valence_of_fused.in_features == 3
    assert small.branch("b").gathering.fused_width == 12
    clips = inputs()
    for got, want in zip(small(clips), masked(network, masks)(clips), strict=True):
        assert torch.allclose(got, want, rtol=0, atol=1e-10)


class Squares(nn.Module):
    """A scorer that nobody else knows: score_m = w^T h_m^2."""

    softmax = True
    readers: ClassVar[dict[str, str]] = {}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.score = nn.Linear(sizes.positions, 1)

    def forward(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        return self.score(spread**2).squeeze(-1)  # type: ignore[no-any-return]

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        return {"score.weight": positions}


class Gates(nn.Module):
    """A fusion that nobody else knows: weights from one map of all fused vectors, each between 0 and 1."""

    def __init__(self, fused_widths: Sequence[int]) -> None:
        super().__init__()
        self.gate = nn.Linear(sum(fused_widths), len(fused_widths))

    def forward(self, fused: Sequence[Tensor], log_posteriors: Tensor) -> Tensor:
        return self.gate(torch.cat(list(fused), dim=-1)).sigmoid().T  # type: ignore[no-any-return]

    def columns(self, positions: Tensor) -> dict[str, Tensor]:
        return {"gate.weight": positions}


def test_a_new_fusion_needs_an_entry_and_nothing_else_and_a_new_scorer_its_name_too(
    masked: Masked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(FUSIONS, "gates", Gates)
    monkeypatch.setitem(SCORERS, "squares", Squares)
    monkeypatch.setattr(blueprint, "SCORER_NAMES", ("squares",))
    network = network_of("squares", "gates")
    masks, clips = random_masks(network, 0.3), inputs()
    small = compact(network, masks)
    assert small.branch("a").gathering.fused_width < 12
    for got, want in zip(small(clips), masked(network, masks)(clips), strict=True):
        torch.testing.assert_close(got, want, rtol=0, atol=1e-10)
    assert GroupNorm(network, 1e-4).importances().keys() == masks.keys()


def test_a_removed_node_takes_its_bias_along() -> None:
    """Trap 6: a bias left behind would go on feeding the next layer."""
    network = network_of("tanh", "entropy")
    name = next(iter(network.prunable()))
    network.prunable()[name].bias.data.fill_(5.0)
    mask = torch.ones(16, dtype=torch.bool)
    mask[4] = False
    assert len(compact(network, {name: mask}).prunable()[name].bias) == 15


def test_the_given_network_is_left_alone() -> None:
    network = network_of("linear", "attention")
    before = deepcopy(network.state_dict())
    compact(network, random_masks(network, 0.3))
    for name, value in network.state_dict().items():
        assert torch.equal(value, before[name])


def test_a_compact_network_still_trains() -> None:
    network = network_of("tanh", "attention")
    small = compact(network, random_masks(network, 0.4)).train()
    small(inputs()).posterior[:, 0].sum().backward()
    assert all(parameter.grad is not None for name, parameter in small.named_parameters() if "valence" not in name)


@pytest.mark.parametrize(
    ("mask", "name", "message"),
    [
        (torch.ones(16, dtype=torch.bool), "branches.a.decoder.emotion", "not a prunable layer"),
        (torch.ones(15, dtype=torch.bool), None, r"must be boolean \(16,\)"),
        (torch.zeros(16, dtype=torch.bool), None, "removes every node"),
    ],
)
def test_masks_that_do_not_fit_are_refused(mask: Tensor, name: str | None, message: str) -> None:
    network = network_of("tanh", "entropy")
    with pytest.raises(ValueError, match=message):
        compact(network, {name or "branches.a.gathering.modalities.a.inner": mask})


@pytest.mark.parametrize("scorer", SCORERS)
def test_compacting_holds_for_linear_outputs_and_branches_that_gather_every_set(scorer: str, masked: Masked) -> None:
    torch.manual_seed(1)
    config = NetworkConfig(hidden=9, width=7, scorer=scorer, output="linear")
    widths = {"a": 5, "b": 3, "v": 4}
    network = EmotionNetwork(Blueprint(widths, ("a", "b"), ("v",), 3, "entropy", config, "all")).double().eval()
    features = {name: torch.randn(6, width, dtype=torch.double) for name, width in widths.items()}
    masks = {name: torch.rand(layer.out_features) < 0.5 for name, layer in network.prunable().items()}
    for mask in masks.values():
        mask[0] = True
    small, large = compact(network, masks)(features), masked(network, masks).eval()(features)
    for one, other in zip(small, large, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-10)
