"""Which nodes go, against brute force and against Torch-Pruning's own choice."""

import pytest
import torch
import torch_pruning as tp

from mer_pnao.controls.group_norm import GroupNorm
from mer_pnao.controls.selection import drawn_at_random, masks_of_size, most_important, nonzero_parameters
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import FUSIONS, EmotionNetwork
from mer_pnao.network.gathering import SCORERS
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.surgery import compact

WIDTHS = {"a": 12, "b": 10, "v": 8}
MLP = "branches.a.gathering.modalities"


def network_of(scorer: str = "tanh", seed: int = 0, fusion: str = "entropy") -> EmotionNetwork:
    """A dense network whose rows differ in size, as after training."""
    torch.manual_seed(seed)
    network = EmotionNetwork(Blueprint(WIDTHS, ("a", "b"), ("v",), 3, fusion, NetworkConfig(16, 8, 0.2, scorer)))
    with torch.no_grad():
        for layer in network.prunable().values():
            layer.weight.mul_(torch.rand(layer.out_features, 1) + 0.05)
    return network


def test_most_important_keeps_the_first_at_a_tie() -> None:
    masks = most_important({"l": torch.tensor([1.0, 3.0, 1.0, 2.0])}, {"l": 3})
    assert masks["l"].tolist() == [True, True, False, True]


@pytest.mark.parametrize("goal", [300, 600, 900, 1100])
def test_the_common_threshold_comes_nearest_to_the_goal(goal: int) -> None:
    network = network_of()
    gamma = importances(network.prunable())
    levels = sorted(torch.cat(list(gamma.values())).tolist())
    every = [nonzero_parameters(compact(network, node_masks(gamma, one / levels[-1], min_nodes=2))) for one in levels]
    masks = masks_of_size(network, gamma, goal, 2)
    assert abs(nonzero_parameters(compact(network, masks)) - goal) == min(abs(one - goal) for one in every)
    kept = torch.cat([gamma[name][mask] for name, mask in masks.items() if int(mask.sum()) > 2])
    gone = torch.cat([gamma[name][~mask] for name, mask in masks.items()])
    assert gone.max() < kept.min()


def test_random_nodes_keep_the_shapes_and_every_node_has_the_same_chance() -> None:
    network = network_of()
    torch.manual_seed(5)
    masks = {name: torch.rand(layer.out_features) < 0.5 for name, layer in network.prunable().items()}
    kept = compact(network, masks).kept()
    want = {key: value.shape for key, value in EmotionNetwork(network.blueprint, kept).state_dict().items()}
    hits = torch.zeros(16)
    for seed in range(400):
        drawn = drawn_at_random(network.blueprint, kept, seed)
        hits[drawn[f"{MLP}.a.inner"]] += 1
        if seed < 5:
            got = EmotionNetwork(network.blueprint, drawn).state_dict()
            assert {key: value.shape for key, value in got.items()} == want
    share = len(kept[f"{MLP}.a.inner"]) / 16
    assert (hits / 400 - share).abs().max() < 4.5 * (share * (1 - share) / 400) ** 0.5


@pytest.mark.parametrize("fusion", FUSIONS)
@pytest.mark.parametrize("scorer", SCORERS)
def test_group_importances_are_the_mean_squares_of_the_coupled_weights(scorer: str, fusion: str) -> None:
    """Torch-Pruning's importance, written out: the mean over a group's layers, relative to the group's mean."""
    network = network_of(scorer, fusion=fusion)
    got = GroupNorm(network, 1e-4).importances()
    assert got.keys() == network.prunable().keys()
    layers = {name: module.weight.detach() for name, module in network.named_modules() if hasattr(module, "weight")}
    inner = (layers[f"{MLP}.a.inner"] ** 2).sum(1) + (layers[f"{MLP}.a.outer"] ** 2).sum(0)
    torch.testing.assert_close(got[f"{MLP}.a.inner"], inner / inner.mean())
    rows = [(layers[f"{MLP}.{name}.outer"] ** 2).sum(1) for name in ("a", "v")]
    reads = [(layers[f"branches.a.decoder.{name}"] ** 2).sum(0) for name in ("emotion", "valence_of_fused")]
    if scorer == "tanh":
        reads.append((layers["branches.a.gathering.scorer.project"] ** 2).sum(0))
    elif scorer != "mean":
        scored = layers[f"branches.a.gathering.scorer.{'score' if scorer == 'linear' else 'inner'}"]
        reads += list((scored**2).sum(0).split(8))
    if fusion == "attention":
        reads.append((layers["fusion.score"] ** 2).sum(0)[:8])  # branch a's part of the fused vectors
    outer = torch.stack([*rows, *reads]).sum(0)
    torch.testing.assert_close(got[f"{MLP}.a.outer"], outer / outer.mean())
    assert torch.equal(got[f"{MLP}.v.outer"], got[f"{MLP}.a.outer"])


@pytest.mark.parametrize("ratio", [0.2, 0.4])
def test_a_threshold_on_them_removes_what_group_norm_pruner_would(ratio: float) -> None:
    network = network_of()
    norm = GroupNorm(network, 1e-4)
    gamma = norm.importances()
    norm.pruner.pruning_ratio = ratio
    norm.pruner.per_step_pruning_ratio = norm.pruner.iterative_pruning_ratio_scheduler(ratio, 1)
    names = {id(layer): name for name, layer in network.prunable().items()}
    removed: dict[str, set[int]] = {name: set() for name in gamma}
    for group in norm.pruner.step(interactive=True):
        for dependency, nodes in group:
            if dependency.handler == tp.prune_linear_out_channels:
                removed[names[id(dependency.target.module)]] |= set(nodes)
    assert sum(map(len, removed.values())) > 10
    theirs = {name: torch.tensor([node not in removed[name] for node in range(len(g))]) for name, g in gamma.items()}
    masks = masks_of_size(network, gamma, nonzero_parameters(compact(network, theirs)), 1)
    assert all(torch.equal(masks[name], mask) for name, mask in theirs.items())


def test_the_group_penalty_pulls_the_less_important_nodes_harder() -> None:
    """Its gradient: strength times the weight, times 2^4 for the least important node of a group to 1 for the most."""
    network = network_of()
    norm = GroupNorm(network, 0.01)
    for parameter in network.parameters():
        parameter.grad = torch.zeros_like(parameter)
    norm.regularise(network)
    root = norm.importances()[f"{MLP}.a.inner"].sqrt()
    gamma = 16 ** ((root.max() - root) / (root.max() - root.min()))
    layer = network.prunable()[f"{MLP}.a.inner"]
    torch.testing.assert_close(layer.weight.grad, 0.01 * gamma.unsqueeze(1) * layer.weight.detach())
    assert network.branch("a").decoder.valence.weight.grad is not None
    assert int(network.branch("a").decoder.valence.weight.grad.count_nonzero()) == 0
