"""Equations 5-7 against closed forms and hand-worked numbers."""

import math

import pytest
import torch

from mer_pnao.network.fusion import AttentionFusion, entropy, entropy_fusion, entropy_fusion_from_log


def random_posteriors(branches: int, clips: int, classes: int) -> torch.Tensor:
    torch.manual_seed(1)
    return torch.randn(branches, clips, classes, dtype=torch.float64).softmax(-1)


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
    emotion, _, weights = entropy_fusion(posteriors, torch.zeros(branches, 200, dtype=torch.float64))
    assert torch.allclose(weights.sum(0), torch.ones(200, dtype=torch.float64))
    assert weights.min() >= 0
    assert weights.max() <= 1 / (branches - 1) + 1e-12
    assert torch.allclose(emotion.sum(-1), torch.ones(200, dtype=torch.float64))


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
    assert torch.allclose(fusion(fused), expected)
