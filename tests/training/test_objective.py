"""Equations 8 and 9 against hand-worked values and closed-form gradients."""

import math

import pytest
import torch
from torch import nn

from mer_pnao.network.emotion_network import Prediction
from mer_pnao.training.objective import (
    UncertaintyWeights,
    add_sparsity_gradient,
    emotion_loss,
    uncertainty_weighted,
    valence_loss,
)


def prediction(joint: list[list[float]], branches: list[list[list[float]]], valences: list[list[float]]) -> Prediction:
    log = torch.tensor(branches, dtype=torch.float64).log()
    values = torch.tensor(valences, dtype=torch.float64)
    return Prediction(log, values, torch.zeros_like(values), torch.tensor(joint, dtype=torch.float64), values.mean(0))


def test_awl_is_equation_9() -> None:
    value = uncertainty_weighted(*(torch.tensor(x) for x in (3.0, 8.0, 2.0, 4.0)))
    assert value.item() == pytest.approx(3 / 4 + 8 / 32 + math.log(3) + math.log(5))


def test_awl_gradients_are_the_closed_forms() -> None:
    le, lv, d1, d2 = (torch.tensor(x, dtype=torch.float64, requires_grad=True) for x in (1.7, 0.9, 1.3, 0.6))
    uncertainty_weighted(le, lv, d1, d2).backward()
    assert le.grad.item() == pytest.approx(1 / 1.3**2)
    assert lv.grad.item() == pytest.approx(1 / (2 * 0.6**2))
    assert d1.grad.item() == pytest.approx(-2 * 1.7 / 1.3**3 + 1 / 2.3)
    assert d2.grad.item() == pytest.approx(-0.9 / 0.6**3 + 1 / 1.6)


def test_deltas_are_positive_whatever_their_parameters() -> None:
    weights = UncertaintyWeights(has_valence=True)
    assert [d.item() for d in weights()] == [1.0, 1.0]
    with torch.no_grad():
        weights.log_delta1.fill_(-50.0)
    assert weights()[0].item() > 0


def test_without_valence_delta2_stays() -> None:
    weights = UncertaintyWeights(has_valence=False)
    uncertainty_weighted(torch.tensor(1.0), torch.tensor(0.0), *weights()).backward()
    assert weights.log_delta2.grad is None
    assert weights.log_delta1.grad is not None


def test_losses_are_joint_plus_mean_of_branches() -> None:
    p = prediction([[0.5, 0.5]], [[[0.8, 0.2]], [[0.4, 0.6]]], [[1.0], [3.0]])
    expected = -math.log(0.5) - (math.log(0.8) + math.log(0.4)) / 2
    assert emotion_loss(p, torch.tensor([0])).item() == pytest.approx(expected)
    # joint valence 2, target 0: 4; branches (1 + 9) / 2.
    assert valence_loss(p, torch.tensor([0.0])).item() == pytest.approx(4 + 5)


def test_clips_without_valence_are_left_out() -> None:
    p = prediction([[0.5, 0.5]] * 2, [[[0.8, 0.2]] * 2], [[1.0, 9.0]])
    known = torch.tensor([0.0, float("nan")])
    assert valence_loss(p, known).item() == pytest.approx(1 + 1)
    values = torch.tensor([[1.0, 2.0]], requires_grad=True)
    empty = p._replace(valences=values, valence=values.mean(0))
    valence_loss(empty, torch.tensor([float("nan")] * 2)).backward()
    assert torch.equal(values.grad, torch.zeros(1, 2))


def test_sparsity_gradient_is_that_of_the_l1_norm_in_the_graph() -> None:
    torch.manual_seed(0)
    layer, twin = nn.Linear(4, 3), nn.Linear(4, 3)
    twin.load_state_dict(layer.state_dict())
    with torch.no_grad():
        layer.weight[0, 0] = twin.weight[0, 0] = 0.0  # the sub-gradient at zero is zero in both
    x = torch.randn(5, 4)
    layer(x).square().sum().backward()
    add_sparsity_gradient([layer.weight], 0.01)
    (twin(x).square().sum() + 0.01 * twin.weight.abs().sum()).backward()
    assert torch.allclose(layer.weight.grad, twin.weight.grad)
    assert torch.allclose(layer.bias.grad, twin.bias.grad)
