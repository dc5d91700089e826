"""Equations 8 and 9 against hand-worked values and closed-form gradients."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import FUSIONS, EmotionNetwork, Prediction
from mer_pnao.network.fusion import EntropyFusion, weighted_decision
from mer_pnao.network.gathering import SCORERS
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


def test_awl_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    for _ in range(20):
        values = (0.2 + 3 * torch.rand(4, dtype=torch.float64)).requires_grad_()
        assert torch.autograd.gradcheck(lambda v: uncertainty_weighted(*v), values)


def test_awl_is_not_the_popular_implementation() -> None:
    """That one writes 0.5 / s^2 for both losses and log(1 + s^2): at d = 2 it is off in all four terms."""
    one, zero = torch.tensor(1.0), torch.tensor(0.0)
    log3 = math.log(3)
    assert uncertainty_weighted(one, zero, 2 * one, one).item() == pytest.approx(1 / 4 + log3 + math.log(2))
    assert uncertainty_weighted(zero, one, one, 2 * one).item() == pytest.approx(1 / 8 + math.log(2) + log3)
    assert uncertainty_weighted(zero, zero, 2 * one, 2 * one).item() == pytest.approx(2 * log3)
    popular = 0.5 / 4 + math.log(1 + 4) + math.log(2)
    assert uncertainty_weighted(one, zero, 2 * one, one).item() != pytest.approx(popular, abs=0.1)


@pytest.mark.parametrize(("le", "lv"), [(0.4, 3.0), (2.5, 0.1)])
def test_the_deltas_settle_where_the_derivative_is_zero(le: float, lv: float) -> None:
    """dL/dd1 = -2 L_e / d1^3 + 1 / (1 + d1) = 0, so d1^3 = 2 L_e (1 + d1); likewise d2^3 = L_v (1 + d2)."""
    weights = UncertaintyWeights(has_valence=True).double()
    for _ in range(400):
        weights.zero_grad()
        uncertainty_weighted(torch.tensor(le), torch.tensor(lv), *weights()).backward()
        with torch.no_grad():
            for parameter in weights.parameters():
                parameter -= 0.1 * parameter.grad
    d1, d2 = (d.item() for d in weights())
    assert d1**3 == pytest.approx(2 * le * (1 + d1), rel=1e-6)
    assert d2**3 == pytest.approx(lv * (1 + d2), rel=1e-6)


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


def test_losses_of_random_predictions_by_hand() -> None:
    draw = np.random.default_rng(3)
    for _ in range(20):
        branches, clips, classes = (int(draw.integers(low, 7)) for low in (1, 1, 2))
        joint = draw.dirichlet(np.ones(classes), size=clips)
        single = draw.dirichlet(np.ones(classes), size=(branches, clips))
        valences, valence = draw.standard_normal((branches, clips)), draw.standard_normal(clips)
        emotion, target = draw.integers(classes, size=clips), draw.standard_normal(clips)
        target[draw.random(clips) < 0.3] = np.nan
        p = Prediction(
            torch.from_numpy(single).log(),
            torch.from_numpy(valences),
            torch.zeros(branches, clips),
            torch.from_numpy(joint),
            torch.from_numpy(valence),
        )
        l_e, l_v, known = 0.0, 0.0, [b for b in range(clips) if not np.isnan(target[b])]
        for b in range(clips):
            l_e -= math.log(joint[b, emotion[b]]) / clips
            l_e -= sum(math.log(single[m, b, emotion[b]]) for m in range(branches)) / branches / clips
        for b in known:
            l_v += (valence[b] - target[b]) ** 2 / len(known)
            l_v += sum((valences[m, b] - target[b]) ** 2 for m in range(branches)) / branches / len(known)
        assert emotion_loss(p, torch.from_numpy(emotion)).item() == pytest.approx(l_e)
        assert valence_loss(p, torch.from_numpy(target)).item() == pytest.approx(l_v)


@pytest.mark.parametrize("branches", [2, 3])
def test_gradients_stay_finite_however_certain_and_however_wrong_the_branches_are(branches: int) -> None:
    """Through equations 5-7 in float32, each clip's loss weighed by 1 / d1^2 = 100 as a well learnt corpus's is.

    Where one branch is certain of a wrong class and another one's weight vanishes, factors beyond 1e38 meet.
    """
    torch.manual_seed(branches)
    for spread in (10, 30, 60, 90, 150, 300):
        logits = (spread * torch.randn(branches, 4000, 4) * 1.5 * torch.rand(branches, 4000, 1)).requires_grad_()
        logs, valences = logits.log_softmax(-1), torch.zeros(branches, 4000)
        weights = EntropyFusion([])([], logs)
        posterior, valence = weighted_decision(logs.exp(), valences, weights)
        p = Prediction(logs, valences, weights, posterior, valence)
        (4000 * 100 * emotion_loss(p, torch.randint(4, (4000,)))).backward()
        assert bool(torch.isfinite(logits.grad).all()), spread
        assert logits.grad.abs().max() < 1000


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


@pytest.mark.parametrize("scorer", SCORERS)
@pytest.mark.parametrize("fusion", FUSIONS)
def test_the_sparsity_term_runs_over_every_weight_matrix_and_nothing_else(scorer: str, fusion: str) -> None:
    """Equation 8 with the L1 norm in the graph, over the parameters that are called weights: no bias, no delta."""
    torch.manual_seed(1)
    blueprint = Blueprint({"a": 5, "b": 4, "v": 3}, ("a", "b"), ("v",), 3, fusion, NetworkConfig(6, 4, 0.0, scorer))
    network = EmotionNetwork(blueprint).double()
    inputs = {name: torch.randn(7, width, dtype=torch.float64) for name, width in blueprint.widths.items()}
    emotion, valence, alpha = torch.randint(3, (7,)), torch.randn(7, dtype=torch.float64), 0.03

    def of_data(uncertainty: UncertaintyWeights) -> torch.Tensor:
        p = network(inputs)
        return uncertainty_weighted(emotion_loss(p, emotion), valence_loss(p, valence), *uncertainty())

    def gradients(uncertainty: UncertaintyWeights) -> dict[str, torch.Tensor]:
        named = {**dict(network.named_parameters()), **dict(uncertainty.named_parameters())}
        found = {name: p.grad.clone() for name, p in named.items() if p.grad is not None}
        network.zero_grad()
        return found

    in_graph = UncertaintyWeights(has_valence=True)
    norm = sum(p.abs().sum() for name, p in network.named_parameters() if name.endswith(".weight"))
    (of_data(in_graph) + alpha * norm).backward()
    want = gradients(in_graph)
    plain = UncertaintyWeights(has_valence=True)
    of_data(plain).backward()
    bare = gradients(plain)
    added = UncertaintyWeights(has_valence=True)
    of_data(added).backward()
    add_sparsity_gradient(network.weight_matrices(), alpha)
    got = gradients(added)
    assert set(got) == set(want) == {name for name, _ in network.named_parameters()} | {"log_delta1", "log_delta2"}
    for name, gradient in got.items():
        assert torch.allclose(gradient, want[name], rtol=1e-10, atol=1e-12), name
        assert torch.equal(gradient, bare[name]) is not name.endswith(".weight"), name
