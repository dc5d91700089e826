"""Calibration of the emotion posteriors: does a confidence of 0.8 mean right four times in five?

Shapes: N clips, C classes, K bins.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

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
    edges = np.linspace(0, 1, bins + 1)
    place = np.clip(np.searchsorted(edges, top, side="left") - 1, 0, bins - 1)
    clips = np.bincount(place, minlength=bins)
    filled = np.where(clips > 0, clips, np.nan)
    return Reliability(
        edges,
        clips.astype(np.int64),
        np.bincount(place, top, minlength=bins) / filled,
        np.bincount(place, right, minlength=bins) / filled,
    )


def expected_calibration_error(posterior: ArrayLike, emotion_true: ArrayLike, bins: int = BINS) -> float:
    """The reliability diagram's weighted mean gap, in [0, 1]; takes and raises what `reliability` does."""
    return reliability(posterior, emotion_true, bins).error
