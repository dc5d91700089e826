"""The compact network computes what the masked one computes."""

from copy import deepcopy

import pytest
import torch
from torch import Tensor

from mer_pnao.network.emotion_network import FUSIONS, Blueprint, EmotionNetwork, NetworkConfig
from mer_pnao.network.gathering import SCORERS
from mer_pnao.pruning.surgery import compact, keep_only, masked

WIDTHS = {"a": 7, "b": 5, "v": 6, "w": 4}


def network_of(scorer: str, fusion: str, seed: int = 0) -> EmotionNetwork:
    torch.manual_seed(seed)
    blueprint = Blueprint(WIDTHS, ("a", "b"), ("v", "w"), 6, fusion, NetworkConfig(16, 12, 0.3, scorer))
    return EmotionNetwork(blueprint).double().eval()


def inputs(clips: int = 9) -> dict[str, Tensor]:
    return {name: torch.randn(clips, width, dtype=torch.float64) for name, width in WIDTHS.items()}


def random_masks(network: EmotionNetwork, keep: float) -> dict[str, Tensor]:
    masks = {}
    for name, layer in network.prunable().items():
        mask = torch.rand(layer.out_features) < keep
        mask[torch.randint(layer.out_features, ())] = True
        masks[name] = mask
    return masks


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("keep", [0.15, 0.6])
def test_compact_equals_masked(scorer: str, fusion: str, keep: float) -> None:
    network = network_of(scorer, fusion)
    clips = inputs()
    for _ in range(5):
        masks = random_masks(network, keep)
        small = compact(network, masks)
        for got, want in zip(small(clips), masked(network, masks)(clips), strict=True):
            assert torch.allclose(got, want, rtol=0, atol=1e-10)
        assert sum(p.numel() for p in small.parameters()) < sum(p.numel() for p in network.parameters())


@pytest.mark.parametrize("scorer", SCORERS)
def test_compacting_again_composes(scorer: str) -> None:
    network = network_of(scorer, "attention")
    once = compact(network, random_masks(network, 0.6))
    masks = random_masks(once, 0.6)
    twice = compact(once, masks)
    clips = inputs()
    for got, want in zip(twice(clips), masked(once, masks)(clips), strict=True):
        assert torch.allclose(got, want, rtol=0, atol=1e-10)
    direct = keep_only(network, twice.kept())
    for (name, got), want in zip(direct.state_dict().items(), twice.state_dict().values(), strict=True):
        assert torch.equal(got, want), name


def test_the_fused_vector_keeps_only_positions_that_a_modality_feeds() -> None:
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
    assert small.branch("b").gathering.fused_width == 12
    clips = inputs()
    for got, want in zip(small(clips), masked(network, masks)(clips), strict=True):
        assert torch.allclose(got, want, rtol=0, atol=1e-10)


def test_a_removed_node_takes_its_bias_along() -> None:
    """Trap 6: a bias left behind would go on feeding the next layer."""
    network = network_of("tanh", "entropy")
    name = next(iter(network.prunable()))
    network.prunable()[name].bias.data.fill_(5.0)
    mask = torch.ones(16, dtype=torch.bool)
    mask[4] = False
    assert masked(network, {name: mask}).prunable()[name].bias[4] == 0
    assert len(compact(network, {name: mask}).prunable()[name].bias) == 15


def test_the_given_network_is_left_alone() -> None:
    network = network_of("linear", "attention")
    before = deepcopy(network.state_dict())
    compact(network, random_masks(network, 0.3))
    masked(network, random_masks(network, 0.3))
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
def test_compacting_holds_for_linear_outputs_and_branches_that_gather_every_set(scorer: str) -> None:
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
