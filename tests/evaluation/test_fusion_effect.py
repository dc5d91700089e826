"""What the fusion's weights change, counted clip by clip."""

from dataclasses import asdict

import numpy as np
import pytest

from mer_pnao.evaluation.fusion_effect import FusionEffect, fusion_effect


def by_hand(branches: np.ndarray, weights: np.ndarray, true: np.ndarray) -> FusionEffect:
    counts = FusionEffect(0, 0, 0, 0, 0, 0, 0.0)
    for network in range(len(branches)):
        for clip, right in enumerate(true):
            voters = branches[network, clip]
            joint = sum(w * voter for w, voter in zip(weights[network, clip], voters, strict=True))
            weighted, plain = int(np.argmax(joint)), int(np.argmax(sum(voters)))
            votes = [int(np.argmax(voter)) for voter in voters]
            entropies = [-sum(p * np.log(p) for p in voter if p) for voter in voters]
            different = len(set(votes)) > 1
            counts += FusionEffect(
                1,
                weighted != plain,
                weighted != plain and weighted == right,
                weighted != plain and plain == right,
                different,
                different and votes[int(np.argmin(entropies))] == right,
                sum(vote == right for vote in votes) / len(votes) if different else 0.0,
            )
    return counts


def test_the_counts_are_those_by_hand() -> None:
    draw = np.random.default_rng(0)
    branches = draw.dirichlet(np.full(4, 0.4), size=(3, 60, 3))
    weights = draw.dirichlet(np.ones(3), size=(3, 60))
    true = draw.integers(4, size=60)
    found = fusion_effect(branches, weights, true)
    assert asdict(found) == pytest.approx(asdict(by_hand(branches, weights, true)))
    assert found.decisions == 180
    assert 0 < found.better < found.changed
    assert found.better + found.worse <= found.changed


def test_equal_weights_change_nothing() -> None:
    draw = np.random.default_rng(1)
    branches = draw.dirichlet(np.ones(4), size=(2, 40, 3))
    found = fusion_effect(branches, np.full((2, 40, 3), 1 / 3), draw.integers(4, size=40))
    assert (found.changed, found.better, found.worse) == (0, 0, 0)


def test_the_surest_branch_hand_worked() -> None:
    sure, unsure, other, certain = [0.9, 0.1], [0.6, 0.4], [0.3, 0.7], [1.0, 0.0]
    branches = [
        [sure, unsure, unsure],  # all the same: left out
        [sure, other, unsure],  # the surest is right, and so are two of three
        [sure, other, other],  # the surest is wrong, two of three are right
        [unsure, other, unsure],  # the surest (second) is right alone
        [[0.0, 1.0], certain, sure],  # the first of two certain ones is taken
    ]
    found = fusion_effect([branches], np.full((1, 5, 3), 1 / 3), [0, 0, 1, 1, 1])
    assert (found.decisions, found.differ, found.surest_right) == (5, 4, 3)
    assert found.average_right == pytest.approx((2 + 2 + 1 + 1) / 3)
    nothing = fusion_effect(np.zeros((1, 0, 2, 2)), np.zeros((1, 0, 2)), [])
    assert nothing == FusionEffect(0, 0, 0, 0, 0, 0, 0.0)


def test_shapes_that_do_not_fit_are_refused() -> None:
    with pytest.raises(ValueError, match=r"takes \(K, N, M, C\), \(K, N, M\) and \(N,\), got \(2, 3, 4\)"):
        fusion_effect(np.ones((2, 3, 4)), np.ones((2, 3)), np.zeros(3))
