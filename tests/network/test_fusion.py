"""Equations 5-7 against closed forms and hand-worked numbers."""

import math

import numpy as np
import pytest
import scipy.stats
import torch

from mer_pnao.network.fusion import AttentionFusion, EntropyFusion, entropy, entropy_fusion, weighted_decision


def random_posteriors(branches: int, clips: int, classes: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(branches, clips, classes, dtype=torch.float64).softmax(-1)


def entropy_fusion_from_log(logs: torch.Tensor, valences: torch.Tensor) -> tuple[torch.Tensor, ...]:
    """The network's decision: `EntropyFusion` sees log-posteriors."""
    weights = EntropyFusion([])([], logs)
    return *weighted_decision(logs.exp(), valences, weights), weights


def test_entropy_of_uniform_and_of_one_hot() -> None:
    posterior = torch.tensor([[0.25, 0.25, 0.25, 0.25], [1.0, 0.0, 0.0, 0.0], [0.5, 0.5, 0.0, 0.0]])
    assert torch.allclose(entropy(posterior), torch.tensor([math.log(4), 0.0, math.log(2)]))


def test_hand_worked_three_branches() -> None:
    # H = (0, ln 2, ln 4): the sum is 3 ln 2, so w = 1/2 (1 - 0, 1 - 1/3, 1 - 2/3) = (1/2, 1/3, 1/6).
    posteriors = torch.tensor([[[1.0, 0, 0, 0]], [[0.5, 0.5, 0, 0]], [[0.25, 0.25, 0.25, 0.25]]], dtype=torch.float64)
    valences = torch.tensor([[6.0], [-3.0], [12.0]], dtype=torch.float64)
    emotion, valence, weights = entropy_fusion(posteriors, valences)
    assert weights[:, 0].tolist() == pytest.approx([1 / 2, 1 / 3, 1 / 6])
    assert emotion[0].tolist() == pytest.approx([1 / 2 + 1 / 6 + 1 / 24, 1 / 6 + 1 / 24, 1 / 24, 1 / 24])
    assert valence.item() == pytest.approx(6 / 2 - 3 / 3 + 12 / 6)


def test_equal_entropies_weigh_equally() -> None:
    posteriors = torch.tensor([[[0.7, 0.2, 0.1]], [[0.1, 0.7, 0.2]], [[0.2, 0.1, 0.7]]], dtype=torch.float64)
    _, _, weights = entropy_fusion(posteriors, torch.zeros(3, 1, dtype=torch.float64))
    assert weights[:, 0].tolist() == pytest.approx([1 / 3] * 3)


def test_all_entropies_zero_weigh_equally() -> None:
    one_hot = torch.eye(3, dtype=torch.float64).unsqueeze(1)
    emotion, valence, weights = entropy_fusion(one_hot, torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64))
    assert weights[:, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert emotion[0].tolist() == pytest.approx([1 / 3] * 3)
    assert valence.item() == pytest.approx(3.0)


def test_a_single_branch_has_weight_one() -> None:
    posteriors = random_posteriors(1, 4, 5)
    valences = torch.arange(4, dtype=torch.float64).unsqueeze(0)
    emotion, valence, weights = entropy_fusion(posteriors, valences)
    assert torch.equal(weights, torch.ones(1, 4, dtype=torch.float64))
    assert torch.equal(emotion, posteriors[0])
    assert torch.equal(valence, valences[0])


def test_two_branches_swap_their_entropies() -> None:
    posteriors = random_posteriors(2, 50, 6)
    _, _, weights = entropy_fusion(posteriors, torch.zeros(2, 50, dtype=torch.float64))
    h = entropy(posteriors)
    assert torch.allclose(weights, h.flip(0) / h.sum(0))


@pytest.mark.parametrize("branches", [2, 3, 5])
def test_weights_sum_to_one_and_are_bounded(branches: int) -> None:
    posteriors = random_posteriors(branches, 200, 6)
    posteriors[0, ::3] = torch.eye(6, dtype=torch.float64)[2]  # certain: the bound is reached, and not passed
    emotion, _, weights = entropy_fusion(posteriors, torch.zeros(branches, 200, dtype=torch.float64))
    assert torch.allclose(weights[0, ::3], torch.tensor(1 / (branches - 1), dtype=torch.float64))
    assert torch.allclose(weights.sum(0), torch.ones(200, dtype=torch.float64))
    assert weights.min() >= 0
    assert weights.max() <= 1 / (branches - 1)
    assert torch.allclose(emotion.sum(-1), torch.ones(200, dtype=torch.float64))


def test_two_certain_branches_of_three_take_everything() -> None:
    """H = (0, 0, H3): w = 1/2 (1, 1, 0). One half is also the most that a branch of three can get."""
    posteriors = torch.tensor([[[1.0, 0, 0]], [[0, 1.0, 0]], [[0.2, 0.2, 0.6]]], dtype=torch.float64)
    emotion, valence, weights = entropy_fusion(posteriors, torch.tensor([[1.0], [2.0], [99.0]], dtype=torch.float64))
    assert weights[:, 0].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert emotion[0].tolist() == pytest.approx([0.5, 0.5, 0.0])
    assert valence.item() == pytest.approx(1.5)


def test_one_certain_branch_of_three_gets_one_half_and_of_two_gets_all() -> None:
    """The bound 1 / (M - 1): the surest of three branches is never trusted more than the other two together."""
    posteriors = torch.tensor([[[1.0, 0]], [[0.5, 0.5]], [[0.9, 0.1]]], dtype=torch.float64)
    h2, h3 = math.log(2), -0.9 * math.log(0.9) - 0.1 * math.log(0.1)
    _, _, weights = entropy_fusion(posteriors, torch.zeros(3, 1, dtype=torch.float64))
    assert weights[:, 0].tolist() == pytest.approx([0.5, 0.5 * h3 / (h2 + h3), 0.5 * h2 / (h2 + h3)])
    _, _, weights = entropy_fusion(posteriors[:2], torch.zeros(2, 1, dtype=torch.float64))
    assert weights[:, 0].tolist() == pytest.approx([1.0, 0.0])


@pytest.mark.parametrize("branches", [1, 2, 3, 4])
def test_random_posteriors_follow_the_formulas_clip_by_clip(branches: int) -> None:
    draw = np.random.default_rng(branches)
    for _ in range(20):
        clips, classes = (int(draw.integers(low, 9)) for low in (1, 2))
        emotion = draw.dirichlet(np.full(classes, 0.3), size=(branches, clips))
        emotion[draw.random((branches, clips)) < 0.2] = np.eye(classes)[0]  # now and then a certain one
        valence = 3 * draw.standard_normal((branches, clips))
        got = entropy_fusion(torch.from_numpy(emotion), torch.from_numpy(valence))
        for b in range(clips):
            h = [scipy.stats.entropy(emotion[i, b]) for i in range(branches)]  # eq. 5, in nats
            if branches == 1:
                w = [1.0]
            elif sum(h) == 0:
                w = [1 / branches] * branches
            else:
                w = [(1 - h[i] / sum(h)) / (branches - 1) for i in range(branches)]  # eq. 6
            e = sum(w[i] * emotion[i, b] for i in range(branches))  # eq. 7
            v = sum(w[i] * valence[i, b] for i in range(branches))
            assert got[0][b].tolist() == pytest.approx(e.tolist(), abs=1e-12)
            assert got[1][b].item() == pytest.approx(v, abs=1e-12)
            assert got[2][:, b].tolist() == pytest.approx(w, abs=1e-12)


def test_the_unit_of_entropy_cancels_in_the_weights_but_nats_are_what_is_returned() -> None:
    posterior = random_posteriors(3, 9, 4)
    assert entropy(posterior).numpy() == pytest.approx(scipy.stats.entropy(posterior.numpy(), axis=-1))
    bits = scipy.stats.entropy(posterior.numpy(), axis=-1, base=2)
    _, _, weights = entropy_fusion(posterior, torch.zeros(3, 9, dtype=torch.float64))
    assert weights.numpy() == pytest.approx((1 - bits / bits.sum(axis=0)) / 2)


@pytest.mark.parametrize("branches", [1, 2, 3])
def test_gradients_of_the_log_form_are_those_of_finite_differences(branches: int) -> None:
    """Of the weights, the joint posterior and the joint valence, with respect to logits and valences."""
    torch.manual_seed(branches)
    logits = (3 * torch.randn(branches, 4, 5, dtype=torch.float64)).requires_grad_()
    valences = torch.randn(branches, 4, dtype=torch.float64, requires_grad=True)

    def fused(logits: torch.Tensor, valences: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return entropy_fusion_from_log(logits.log_softmax(-1), valences)

    assert torch.autograd.gradcheck(fused, (logits, valences))


def test_one_derivative_by_hand() -> None:
    """Two branches, the second fixed: w1 = H2 / (H1 + H2), so dw1/dz = -H2 / (H1 + H2)^2 dH1/dz.

    For two classes with logits (z, 0), p = 1 / (1 + exp(-z)) and dH1/dz = -z p (1 - p).
    """
    z = torch.tensor(0.8, dtype=torch.float64, requires_grad=True)
    first = torch.stack([z, torch.zeros_like(z)]).log_softmax(0)
    second = torch.tensor([0.3, 0.7], dtype=torch.float64).log()
    _, _, weights = entropy_fusion_from_log(torch.stack([first, second]).unsqueeze(1), torch.zeros(2, 1).double())
    weights[0, 0].backward()
    p = 1 / (1 + math.exp(-0.8))
    h1, h2 = -p * math.log(p) - (1 - p) * math.log(1 - p), -0.3 * math.log(0.3) - 0.7 * math.log(0.7)
    assert z.grad.item() == pytest.approx(h2 / (h1 + h2) ** 2 * 0.8 * p * (1 - p))


def test_the_log_form_survives_posteriors_that_are_exactly_one_hot() -> None:
    """All entropies zero in the network too: uniform weights, finite gradients, no NaN from 0 log 0."""
    logits = torch.tensor([[[1e4, 0, 0]], [[0.0, 1e4, 0]], [[1e4, 0, 0]]], dtype=torch.float64, requires_grad=True)
    valences = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64, requires_grad=True)
    emotion, valence, weights = entropy_fusion_from_log(logits.log_softmax(-1), valences)
    assert weights[:, 0].tolist() == pytest.approx([1 / 3] * 3)
    assert emotion[0].tolist() == pytest.approx([2 / 3, 1 / 3, 0])
    assert valence.item() == pytest.approx(3)
    (emotion.square().sum() + valence.square().sum() + weights[0].sum()).backward()
    assert bool(torch.isfinite(logits.grad).all())
    assert valences.grad[:, 0].tolist() == pytest.approx([2 * 3 / 3] * 3)


def test_the_log_form_takes_the_logarithm_of_zero() -> None:
    """log 0 = -inf is what an exact zero of a posterior gives: 0 log 0 is 0 here too."""
    posteriors = torch.tensor([[[1.0, 0, 0]], [[0.5, 0.5, 0]], [[0.2, 0.2, 0.6]]], dtype=torch.float64)
    logs = posteriors.log().requires_grad_()
    valences = torch.tensor([[1.0], [2.0], [6.0]], dtype=torch.float64)
    got = entropy_fusion_from_log(logs, valences)
    for fused, want in zip(got, entropy_fusion(posteriors, valences), strict=True):
        assert torch.allclose(fused, want)
    (got[0].square().sum() + got[1].sum()).backward()
    assert bool(torch.isfinite(logs.grad).all())


def test_gradients_stay_finite_on_the_way_to_certainty() -> None:
    """In float32, where the entropies pass 1e-38 on their way to zero, dividing by their sum overflows."""
    for gap in range(10, 130):
        torch.manual_seed(gap)
        signs = torch.eye(3)[torch.randint(3, (3, 4))]
        logits = (gap * (1 + 0.1 * torch.rand(3, 4, 1)) * signs).requires_grad_()
        valences = torch.randn(3, 4, requires_grad=True)
        emotion, valence, weights = entropy_fusion_from_log(logits.log_softmax(-1), valences)
        assert torch.allclose(weights.sum(0), torch.ones(4))
        (100 * emotion.square().sum() + 100 * valence.square().sum()).backward()
        assert bool(torch.isfinite(logits.grad).all()), gap
        assert logits.grad.abs().max() < 1e4


def test_log_version_agrees_and_has_finite_gradients_at_certainty() -> None:
    logits = torch.tensor([[[200.0, 0, 0]], [[0.0, 200, 0]], [[1.0, 0, 0]]], requires_grad=True)
    valences = torch.tensor([[1.0], [2.0], [3.0]])
    emotion, valence, weights = entropy_fusion_from_log(logits.log_softmax(-1), valences)
    expected = entropy_fusion(logits.detach().softmax(-1), valences)
    for got, want in zip((emotion, valence, weights), expected, strict=True):
        assert torch.allclose(got, want, atol=1e-6)
    (emotion.sum() + valence.sum() + weights[0].sum()).backward()
    assert bool(torch.isfinite(logits.grad).all())


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"\(M, B, C\)"):
        entropy_fusion(random_posteriors(3, 4, 5), torch.zeros(3, 5))


def test_attention_fusion_is_a_softmax_of_a_linear_map() -> None:
    torch.manual_seed(0)
    fusion = AttentionFusion([2, 3]).double()
    fused = [torch.randn(4, 2, dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)]
    scores = torch.cat(fused, 1).numpy() @ fusion.score.weight.detach().numpy().T + fusion.score.bias.detach().numpy()
    expected = torch.from_numpy(scores).exp()
    expected = (expected / expected.sum(1, keepdim=True)).T
    assert torch.allclose(fusion(fused, torch.empty(0)), expected)
