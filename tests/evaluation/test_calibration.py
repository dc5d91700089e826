import numpy as np
import pytest

from mer_pnao.evaluation.calibration import expected_calibration_error, reliability


def two_classes(top: list[float]) -> np.ndarray:
    return np.array([[p, 1 - p] for p in top])


def test_hand_worked():
    posterior = two_classes([0.95, 0.93, 0.62, 0.66, 0.68, 0.64])
    found = reliability(posterior, [0, 1, 0, 0, 0, 1])  # 1 of 2 right near .94, 3 of 4 near .65
    assert found.clips.tolist() == [0, 0, 0, 0, 0, 0, 4, 0, 0, 2]
    assert found.confidence[[6, 9]] == pytest.approx([0.65, 0.94])
    assert found.accuracy[[6, 9]] == pytest.approx([0.75, 0.5])
    assert found.error == pytest.approx(4 / 6 * 0.10 + 2 / 6 * 0.44)
    assert np.isnan(found.accuracy[[0, 8]]).all()


def test_perfectly_calibrated_is_zero():
    posterior = two_classes([0.75] * 8 + [1.0] * 3)
    truth = [0] * 6 + [1] * 2 + [0] * 3
    assert expected_calibration_error(posterior, truth) == pytest.approx(0, abs=1e-15)


@pytest.mark.parametrize("confidence", [0.55, 0.8, 1.0])
def test_always_wrong_is_the_confidence(confidence):
    assert expected_calibration_error(two_classes([confidence] * 5), [1] * 5) == pytest.approx(confidence)


def test_an_upper_edge_belongs_to_its_bin():
    found = reliability(two_classes([0.5, 0.75, 1.0]), [0, 0, 0], bins=4)
    assert found.clips.tolist() == [0, 1, 1, 1]


def test_one_bin_is_the_gap_of_the_means():
    r = np.random.default_rng(0)
    posterior = r.dirichlet(np.ones(6), 200)
    truth = r.integers(6, size=200)
    gap = abs((posterior.argmax(1) == truth).mean() - posterior.max(1).mean())
    assert expected_calibration_error(posterior, truth, bins=1) == pytest.approx(gap)


def test_clips_drawn_from_their_posteriors_are_nearly_calibrated():
    r = np.random.default_rng(1)
    posterior = r.dirichlet(np.full(6, 0.5), 20_000)
    truth = (r.random((20_000, 1)) > posterior.cumsum(axis=1)).sum(axis=1)
    assert expected_calibration_error(posterior, truth) < 0.02
    assert expected_calibration_error(posterior, (truth + 1) % 6) > 0.4


@pytest.mark.parametrize(
    ("posterior", "truth"),
    [([[0.5, 0.5]], [0, 1]), ([0.5, 0.5], [0, 1]), ([[1.2, -0.2]], [0]), ([[np.nan, 1]], [0])],
)
def test_what_does_not_fit_is_refused(posterior, truth):
    with pytest.raises(ValueError, match="posterior"):
        reliability(posterior, truth)
