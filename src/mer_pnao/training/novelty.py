"""Whether a clip is like the training clips: its Mahalanobis distance to them under probabilistic PCA.

A network decides as surely for a clip unlike any that it has seen (Lee et al. 2018 measure that by this distance).
Probabilistic PCA (Tipping and Bishop 1999) gives the inverse covariance of a feature set in few numbers. What is far
is read from clips whose speakers were held out, as conformal anomaly detection does (Laxhammar and Falkman 2011): of
further clips of the same kind about the asked share is called far, or 1 / (N + 1) where N clips cannot tell less.

Shapes: N clips, D the width of a set, K principal components.
"""

from dataclasses import dataclass, replace
from math import ceil, sqrt

import numpy as np
from numpy.typing import NDArray

_COMPONENTS = 16
_NOISE = 0.01  # at least, in z-scored units: a direction without variance must not decide alone
_ROUNDING = 1e-6  # relative, some ulps of float32, as the networks' z-scores have it


@dataclass(frozen=True)
class Novelty:
    """What the training clips' vectors of one feature set are like. All float32."""

    mean: NDArray[np.float32]  # (D,)
    std: NDArray[np.float32]  # (D,)
    directions: NDArray[np.float32]  # (K, D) principal ones of the z-scored vectors
    gains: NDArray[np.float32]  # (K,) share of a direction's square that the variance along it explains
    limit: NDArray[np.float32]  # () the distance that counts as far

    def distance(self, features: NDArray[np.float32]) -> NDArray[np.float64]:
        """How far (N, D) vectors lie from the training clips, (N,), in multiples of what counts as far."""
        scaled = (np.asarray(features, dtype=float) - self.mean) / self.std
        explained = (self.gains * (scaled @ self.directions.T) ** 2).sum(axis=1)
        square = ((scaled**2).sum(axis=1) - explained).clip(0)
        distance: NDArray[np.float64] = np.sqrt(square) / float(self.limit)
        return distance


def fit_novelty(features: NDArray[np.float32], folds: NDArray[np.int64], far: float) -> Novelty:
    """Learn from the training clips' vectors (N, D), each held out once by its fold (N,).

    Of clips like them about the share `far` is called far, and at least 1 / (N + 1), for then the farthest one is the
    limit.
    """
    held_out = np.empty(len(folds))
    for fold in np.unique(folds):
        out = folds == fold
        held_out[out] = _fit(features[~out]).distance(features[out])
    rank = min(ceil((len(folds) + 1) * (1 - far)), len(folds))
    limit = max(np.sort(held_out)[rank - 1], sqrt(_NOISE))  # a set without any variance has the distance 0
    return replace(_fit(features), limit=np.array(limit, np.float32))


def _fit(features: NDArray[np.float32]) -> Novelty:
    from scipy.linalg import eigh  # not at the top: who only measures distances waits for no scipy

    vectors = np.asarray(features, dtype=float)
    mean, std = vectors.mean(axis=0), vectors.std(axis=0)
    # A dimension that is constant here says nothing, to the networks neither: such are the rare ones of small corpora.
    std = np.where(std > _ROUNDING * np.abs(mean), std, np.inf)
    scaled = (vectors - mean) / std
    count, width = scaled.shape
    components = min(_COMPONENTS, count - 1, width)
    covariance = scaled.T @ scaled / count
    variances, directions = eigh(covariance, subset_by_index=(width - components, width - 1))
    noise = max((covariance.trace() - variances.sum()) / max(width - components, 1), _NOISE)
    gains = 1 - noise / variances.clip(noise)
    parts = (np.asarray(part, np.float32) for part in (mean, std, directions.T, gains, 1.0))
    return Novelty(*parts)
