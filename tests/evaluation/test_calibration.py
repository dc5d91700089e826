from fractions import Fraction

import numpy as np
import pytest
from scipy import stats

from mer_pnao.evaluation.calibration import (
    error_interval,
    errors_if_calibrated,
    expected_calibration_error,
    reliability,
)


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


def slow_error(posterior: np.ndarray, truth: np.ndarray, bins: int) -> float:
    """Clip by clip and bin by bin, in exact fractions: sum over bins of clips / N |accuracy - confidence|."""
    rows = [[Fraction(float(p)) for p in row] for row in posterior]
    error = Fraction(0)
    for number in range(bins):
        low, high = Fraction(number, bins), Fraction(number + 1, bins)
        inside = []
        for row, true in zip(rows, truth, strict=True):
            top = max(row)
            if low < top <= high:
                inside.append((top, row.index(top) == true))
        if inside:
            accuracy = Fraction(sum(right for _, right in inside), len(inside))
            confidence = sum(top for top, _ in inside) / len(inside)
            error += Fraction(len(inside), len(rows)) * abs(accuracy - confidence)
    return float(error)


@pytest.mark.parametrize(
    ("classes", "bins", "spread"), [(2, 10, 1.0), (6, 10, 0.3), (6, 8, 1.0), (3, 1, 1.0), (8, 15, 5)]
)
def test_it_is_the_definition_taken_literally(classes: int, bins: int, spread: float) -> None:
    r = np.random.default_rng(classes * bins)
    posterior = r.dirichlet(np.full(classes, spread), 300)
    truth = np.where(r.random(300) < 0.6, posterior.argmax(axis=1), r.integers(classes, size=300))
    assert expected_calibration_error(posterior, truth, bins) == pytest.approx(slow_error(posterior, truth, bins))


def test_on_the_edges_of_bins_it_is_the_definition_too() -> None:
    top = np.repeat([0.5, 0.625, 0.75, 0.875, 1.0], 5)  # exact in binary, as the edges of eight bins are
    posterior, truth = two_classes(list(top)), np.tile([0, 0, 0, 1, 1], 5)
    found = reliability(posterior, truth, bins=8)
    assert found.clips.tolist() == [0, 0, 0, 5, 5, 5, 5, 5]
    assert found.error == pytest.approx(slow_error(posterior, truth, 8))


def test_by_chance_it_is_what_labels_drawn_from_the_posteriors_give() -> None:
    posterior = np.random.default_rng(3).dirichlet(np.full(4, 0.5), 120)
    drawn = errors_if_calibrated(posterior, draws=3000, seed=5)
    labels = np.random.default_rng(4)
    slow = [expected_calibration_error(posterior, [labels.choice(4, p=row) for row in posterior]) for _ in range(300)]
    assert drawn.shape == (3000,)
    assert stats.ks_2samp(drawn, slow).pvalue > 1e-3
    assert np.array_equal(errors_if_calibrated(posterior, 9, seed=5), errors_if_calibrated(posterior, 9, seed=5))


def test_certain_posteriors_have_no_error_by_chance() -> None:
    assert errors_if_calibrated(np.eye(3), draws=20).tolist() == [0] * 20


def slow_interval(
    posterior: np.ndarray, truth: np.ndarray, resamples: int, seed: int, groups: list[str] | None
) -> list[float]:
    """Every resample's clips put together, and the error of each taken with `slow_error`."""
    names = np.arange(len(truth)) if groups is None else np.asarray(groups)
    units = [np.flatnonzero(names == name) for name in np.unique(names)]
    taken = np.random.default_rng(seed).integers(len(units), size=(resamples, len(units)))
    drawn = [np.concatenate([units[unit] for unit in each]) for each in taken]
    errors = [slow_error(posterior[clips], truth[clips], 10) for clips in drawn]
    ends = 2 * slow_error(posterior, truth, 10) - np.percentile(errors, [97.5, 2.5])
    return [max(0.0, end) for end in ends]


@pytest.mark.parametrize("speakers", [None, 7, 1])
@pytest.mark.parametrize("shift", [0, 0.4])
def test_the_interval_of_the_error_is_a_bootstrap_taken_literally(speakers: int | None, shift: float) -> None:
    r = np.random.default_rng(6)
    posterior = r.dirichlet(np.full(4, 0.6), 40)
    truth = np.where(r.random(40) < posterior.max(axis=1) - shift, posterior.argmax(axis=1), 0)
    groups = speakers and [f"speaker{i}" for i in r.integers(speakers, size=40)]
    found = error_interval(posterior, truth, 60, 3, groups=groups)
    expected = slow_interval(posterior, truth, 60, 3, groups if speakers != 1 else None)
    assert found == pytest.approx(expected, abs=1e-9)


def test_the_interval_holds_the_true_error_about_as_often_as_it_says() -> None:
    """Posteriors that promise .2 too much, each speaker as much: 200 test splits of 30 speakers."""
    r, held = np.random.default_rng(8), 0
    for _ in range(200):
        top = r.uniform(0.75, 0.95, 240)
        truth = (r.random(240) > top - 0.2).astype(int)
        low, high = error_interval(two_classes(list(top)), truth, 300, groups=[f"s{i % 30}" for i in range(240)])
        held += low <= 0.2 <= high
    assert 0.88 < held / 200 <= 1


def test_speakers_who_differ_widen_the_interval_of_the_error() -> None:
    groups = np.repeat([f"speaker{i}" for i in range(12)], 20)
    truth = np.repeat(np.arange(12) % 2, 20)  # of every second speaker all is wrong
    posterior = two_classes([0.8] * 240)
    widths = [np.ptp(error_interval(posterior, truth, 500, groups=of)) for of in (None, list(groups))]
    assert widths[1] > 3 * widths[0]
