"""Equations 10 and 11, and the traps that they hold."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.pruning.config import SCOPES, PnaoConfig
from mer_pnao.pruning.importance import importances, node_importance
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.ratio import naor_of_round
from mer_pnao.pruning.surgery import compact


def test_importance_is_the_mean_absolute_incoming_weight() -> None:
    weight = torch.tensor([[1.0, -2.0, 3.0], [0.0, 0.0, -0.3]])
    assert node_importance(weight).tolist() == pytest.approx([2.0, 0.1])


def test_importance_of_a_layer_does_not_grow_with_its_fan_in() -> None:
    assert node_importance(torch.full((1, 1000), 0.5)) == node_importance(torch.full((1, 2), 0.5))


def test_random_importances_are_equation_10_weight_by_weight() -> None:
    draw = np.random.default_rng(0)
    for _ in range(20):
        rows, columns = (int(n) for n in draw.integers(1, 9, 2))
        weight = draw.standard_normal((rows, columns))
        by_hand = [sum(abs(weight[j, n]) for n in range(columns)) / columns for j in range(rows)]
        assert node_importance(torch.from_numpy(weight)).tolist() == pytest.approx(by_hand)


def test_importances_read_the_present_weights_and_leave_them_alone() -> None:
    layer = torch.nn.Linear(3, 2)
    before = layer.weight.detach().clone()
    gamma = importances({"l": layer})["l"]
    assert gamma.tolist() == pytest.approx(np.abs(before.numpy()).mean(axis=1).tolist())
    assert not gamma.requires_grad
    assert torch.equal(layer.weight, before)


def test_importance_takes_matrices_only() -> None:
    for weight in (torch.zeros(3), torch.zeros(3, 0), torch.zeros(2, 3, 4)):
        with pytest.raises(ValueError, match="matrix"):
            node_importance(weight)


def test_the_maximum_runs_over_the_network_or_over_each_layer() -> None:
    gamma = {"wide": torch.tensor([1.0, 0.04, 0.5]), "narrow": torch.tensor([0.1, 0.04, 0.009])}
    network = node_masks(gamma, 0.05)
    assert network["wide"].tolist() == [True, False, True]
    assert network["narrow"].tolist() == [True, False, False]
    layer = node_masks(gamma, 0.05, scope="layer")
    assert layer["narrow"].tolist() == [True, True, True]


@pytest.mark.parametrize("scope", SCOPES)
def test_random_masks_are_equation_11_node_by_node(scope: str) -> None:
    draw = np.random.default_rng(1)
    pruned = 0
    for _ in range(40):
        sizes = draw.integers(1, 12, draw.integers(1, 6))
        gamma = {f"layer{i}": draw.gamma(1.0, 10.0 ** draw.integers(-1, 2), size) for i, size in enumerate(sizes)}
        naor, least = float(draw.random()), int(draw.integers(1, 4))
        got = node_masks({name: torch.from_numpy(values) for name, values in gamma.items()}, naor, scope, least)
        assert list(got) == list(gamma)
        everywhere = max(value for values in gamma.values() for value in values)
        for name, values in gamma.items():
            highest = everywhere if scope == "network" else max(values)
            kept = [j for j in range(len(values)) if values[j] - naor * highest >= 0]
            if len(kept) < least:
                kept = sorted(sorted(range(len(values)), key=lambda j: -values[j])[:least])
            assert torch.nonzero(got[name])[:, 0].tolist() == kept
            pruned += len(values) - len(kept)
    assert pruned > 100


def test_no_layers_no_masks() -> None:
    assert node_masks({}, 0.5) == {}


def test_the_step_function_is_one_at_zero() -> None:
    assert node_masks({"l": torch.tensor([1.0, 0.5, 0.25])}, 0.5)["l"].tolist() == [True, True, False]


def test_min_nodes_keeps_the_most_important_ones() -> None:
    gamma = {"alive": torch.tensor([1.0, 1.0]), "dead": torch.tensor([0.001, 0.003, 0.002, 0.0])}
    assert node_masks(gamma, 0.5, min_nodes=2)["dead"].tolist() == [False, True, True, False]
    assert node_masks(gamma, 0.5, min_nodes=9)["dead"].tolist() == [True] * 4


def test_importances_shrink_with_the_fan_in() -> None:
    """What equation 10 does not do: layers of different fan-in cannot be compared as they are initialised."""
    torch.manual_seed(0)
    narrow, wide = (float(node_importance(nn.Linear(inputs, 400).weight.detach()).mean()) for inputs in (16, 1024))
    assert narrow / wide == pytest.approx((1024 / 16) ** 0.5, rel=0.03)


@pytest.mark.parametrize("scope", ["network", "layer"])
@pytest.mark.parametrize("rule", ["nodes", "parameters"])
def test_a_share_goes_and_the_least_important_of_it(rule: str, scope: str) -> None:
    """The k that is found leaves what no other k comes nearer to, by exhaustion."""
    torch.manual_seed(3)
    plan = Blueprint({"a": 9, "b": 30, "v": 5}, ("a", "b"), ("v",), 3, "entropy", NetworkConfig(14, 10))
    network = EmotionNetwork(plan)
    gamma = importances(network.prunable())

    def left(k: float) -> int:
        masks = node_masks(gamma, k, scope, 2)
        if rule == "nodes":
            return sum(int(mask.sum()) for mask in masks.values())
        return sum(parameter.numel() for parameter in compact(network, masks).parameters())

    goal = 0.7 * left(0.0)
    k = naor_of_round(network, gamma, PnaoConfig(rule=rule, ratio=0.3, scope=scope, min_nodes=2, naor=0.9))
    peaks = {name: float(values.max()) for name, values in gamma.items()}
    highest = max(peaks.values())
    every = [float(v) / (highest if scope == "network" else peaks[name]) for name, of in gamma.items() for v in of]
    nearest = min(abs(left(each) - goal) for each in (*every, *(each * (1 - 1e-6) for each in every)))
    assert abs(left(k) - goal) <= nearest
    assert naor_of_round(network, gamma, PnaoConfig(naor=0.9)) == 0.9


@given(
    st.lists(st.floats(0, 10, allow_nan=False, width=32), min_size=1, max_size=30),
    st.floats(0, 1),
    st.integers(1, 5),
)
def test_masks_follow_the_definition(values: list[float], naor: float, min_nodes: int) -> None:
    gamma = torch.tensor(values)
    mask = node_masks({"l": gamma}, naor, min_nodes=min_nodes)["l"]
    assert int(mask.sum()) >= min(min_nodes, len(values))
    above = gamma >= naor * gamma.max()
    if int(above.sum()) >= min(min_nodes, len(values)):
        assert torch.equal(mask, above)
    assert gamma[mask].min() >= (gamma[~mask].max() if bool((~mask).any()) else 0)


@pytest.mark.parametrize(("naor", "message"), [(1.2, r"naor must lie in \[0, 1\], got 1.2"), (-0.1, "naor")])
def test_naor_out_of_range_is_refused(naor: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        node_masks({"l": torch.ones(2)}, naor)


def test_nan_importances_are_refused_by_name() -> None:
    with pytest.raises(ValueError, match="importances of l are not finite"):
        node_masks({"l": torch.tensor([1.0, float("nan")])}, 0.1)


def test_a_wide_layer_survives_its_initialisation() -> None:
    """Trap 1: with the two-input valence head in the maximum, half of a 1024-input layer fell before training."""
    with_heads = 0
    for seed in range(10):
        torch.manual_seed(seed)
        blueprint = Blueprint({"a": 1024, "v": 1024}, ("a",), ("v",), 6, "entropy", NetworkConfig(64, 32))
        network = EmotionNetwork(blueprint)
        masks = node_masks(importances(network.prunable()), 0.05)
        assert all(bool(mask.all()) for mask in masks.values())
        linears = {n: m for n, m in network.named_modules() if isinstance(m, torch.nn.Linear)}
        fallen = [~node_masks(importances(linears), 0.05)[name] for name in network.prunable()]
        with_heads += any(bool(mask.any()) for mask in fallen)
    assert with_heads > 0  # the trap is real: the heads do own the maximum
