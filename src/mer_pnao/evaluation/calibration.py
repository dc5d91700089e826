"""Calibration of the emotion posteriors: does a confidence of 0.8 mean right four times in five?

Shapes: N clips, C classes, K bins, U units that are drawn.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer_pnao.evaluation.bootstrap import TAILS, draws_of, units_of

BINS = 10


@dataclass(frozen=True)
class Reliability:
    """The bins of a reliability diagram over the top posterior; NaN where a bin is empty. All (K,)."""

    edges: NDArray[np.float64]  # (K + 1,) of equal width from 0 to 1; a bin holds its upper edge
    clips: NDArray[np.int64]
    confidence: NDArray[np.float64]  # mean top posterior
    accuracy: NDArray[np.float64]  # share of right decisions

    @property
    def error(self) -> float:
        """Expected calibration error: the mean of |accuracy - confidence|, weighted by the bins' clips."""
        filled = self.clips > 0
        gaps = np.abs(self.accuracy[filled] - self.confidence[filled])
        return float(np.average(gaps, weights=self.clips[filled]))


def reliability(posterior: ArrayLike, emotion_true: ArrayLike, bins: int = BINS) -> Reliability:
    """Bin N clips by their top posterior (Guo et al. 2017, section 2).

    Takes posteriors (N, C) and class indices (N,); of equal posteriors the first class is the decision.
    Raises ValueError when the shapes do not fit, a posterior is outside [0, 1], or clips or bins are missing.
    """
    probabilities, true = np.asarray(posterior, dtype=float), np.asarray(emotion_true)
    if probabilities.ndim != 2 or true.shape != probabilities.shape[:1] or probabilities.size == 0 or bins < 1:
        raise ValueError(
            "reliability takes (N, C) posteriors, (N,) classes and at least 1 bin, got "
            f"{probabilities.shape}, {true.shape} and {bins}"
        )
    if not ((probabilities >= 0) & (probabilities <= 1 + 1e-6)).all():  # float32 sums may pass 1 by an ulp
        raise ValueError("a posterior lies outside [0, 1]")
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == true
    place = _bin_of(top, bins)
    clips = np.bincount(place, minlength=bins)
    filled = np.where(clips > 0, clips, np.nan)
    return Reliability(
        np.linspace(0, 1, bins + 1),
        clips.astype(np.int64),
        np.bincount(place, top, minlength=bins) / filled,
        np.bincount(place, right, minlength=bins) / filled,
    )


def expected_calibration_error(posterior: ArrayLike, emotion_true: ArrayLike, bins: int = BINS) -> float:
    """The reliability diagram's weighted mean gap, in [0, 1]; takes and raises what `reliability` does."""
    return reliability(posterior, emotion_true, bins).error


def error_interval(
    posterior: ArrayLike,
    emotion_true: ArrayLike,
    resamples: int = 2000,
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> tuple[float, float]:
    """A bootstrap interval of the calibration error, from resamples of speakers as `paired_bootstrap` draws them.

    Takes posteriors (N, C), class indices (N,) and each clip's speaker (N,). Chance makes a resample's error larger
    than that of its clips, as it made theirs larger than the truth. So the interval is the basic bootstrap's, 2 error
    - quantile (Davison and Hinkley 1997, section 5.2), which takes that off and may lie below the error; percentiles
    would never hold the small error of 120 well calibrated clips. It is made for 95 %, and with few speakers covers
    less (simulated with 5 to 24 of them: 80 to 88 %). Raises ValueError for what `reliability` refuses.
    """
    error = expected_calibration_error(posterior, emotion_true)
    probabilities = np.asarray(posterior, dtype=float)
    top, right = probabilities.max(axis=1), probabilities.argmax(axis=1) == np.asarray(emotion_true)
    units = units_of(groups, len(top))
    count = int(units.max()) + 1
    gaps = np.bincount(units * BINS + _bin_of(top, BINS), right - top, count * BINS).reshape(count, BINS)
    clips = np.bincount(units)
    errors = [np.abs(drawn @ gaps).sum(axis=1) / (drawn @ clips) for drawn in draws_of(count, resamples, seed)]
    low, high = np.clip(2 * error - np.percentile(np.concatenate(errors), TAILS[::-1]), 0, 1)
    return float(low), float(high)


def errors_if_calibrated(posterior: ArrayLike, draws: int = 1000, seed: int = 0) -> NDArray[np.float64]:
    """The calibration errors (draws,) that N clips give by chance when their posteriors (N, C) are exactly right.

    An expected calibration error is never negative, so even a calibrated system has one on finitely many clips. Here
    each decision is drawn to be right with the probability of its top posterior (Broecker and Smith 2007).
    """
    top = np.asarray(posterior, dtype=float).max(axis=1)
    in_bin = np.eye(BINS)[_bin_of(top, BINS)]
    right = np.random.default_rng(seed).random((draws, len(top))) < top
    gaps = np.abs((right - top) @ in_bin)  # of a bin, times its clips
    return np.asarray(gaps.sum(axis=1) / len(top), dtype=float)


def _bin_of(top: NDArray[np.float64], bins: int) -> NDArray[np.int64]:
    """Each clip's bin (N,)."""
    return np.clip(np.searchsorted(np.linspace(0, 1, bins + 1), top, side="left") - 1, 0, bins - 1)
