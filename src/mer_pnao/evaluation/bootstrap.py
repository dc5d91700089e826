"""Paired bootstrap over clips: intervals of Com, and the probability that a system beats the baseline.

Every system is scored on the same resamples, so what the draw of the clips does to all of them alike cancels
in a comparison. Shapes: N clips, C classes, R resamples.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer_pnao.evaluation.scores import DIM_WEIGHT, Scores, combine, score

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

_TAILS = [50 * (1 - 0.95), 50 * (1 + 0.95)]  # percent, of 95 % intervals
DRAWS_AT_ONCE = 1 << 20  # clips drawn before they are counted: bounds the memory at some tens of MB


class Predicted(NamedTuple):
    """One system's decisions for N clips."""

    emotion: ArrayLike  # (N,) labels of the same kind as the truth's
    valence: ArrayLike  # (N,) finite wherever the truth has a valence


@dataclass(frozen=True)
class Comparison:
    """A system's scores with their uncertainty; without a baseline there is no gain and no P."""

    scores: Scores
    com_low: float
    com_high: float
    gain: float | None  # Com minus the baseline's
    gain_low: float | None
    gain_high: float | None
    p_better: float | None  # share of resamples with a higher Com than the baseline's, plus half of the ties


def paired_bootstrap(
    emotion_true: ArrayLike,
    valence_true: ArrayLike,
    systems: Mapping[str, Predicted],
    baseline: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """Compare systems on R resamples of the same N clips, drawn with replacement (Efron's percentile method).

    Takes labels (N,) and valences (N,) with NaN where a clip has none. The draws depend on N, R and the seed
    alone, the intervals cover 95 %. Raises ValueError when a length differs, a needed valence is not finite, the
    baseline is not among the systems, or R is out of range.
    """
    alone = {name: [each] for name, each in systems.items()}
    return bootstrap_of_means(emotion_true, valence_true, alone, baseline, resamples, seed)


def bootstrap_of_means(
    emotion_true: ArrayLike,
    valence_true: ArrayLike,
    systems: Mapping[str, Sequence[Predicted]],
    baseline: str | None,
    resamples: int = 2000,
    seed: int = 0,
) -> dict[str, Comparison]:
    """`paired_bootstrap` for systems that were trained with several seeds: the scores are means over their seeds.

    A system is the list of its trainings. The interval holds the draw of the clips, not that of the seeds.
    """
    if baseline is not None and baseline not in systems:
        raise ValueError(f"the baseline {baseline!r} is not among the systems {', '.join(systems)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    keys = {name: [f"{name} {place}" for place in range(len(trainings))] for name, trainings in systems.items()}
    single = {key: each for name in systems for key, each in zip(keys[name], systems[name], strict=True)}
    scores = {key: score(emotion_true, each.emotion, valence_true, each.valence) for key, each in single.items()}
    coms = _resampled_com(emotion_true, valence_true, single, resamples, seed)
    points = {name: _mean([scores[key] for key in keys[name]]) for name in systems}
    means = {name: np.mean([coms[key] for key in keys[name]], axis=0) for name in systems}
    return {name: _compare(name, points, means, baseline) for name in systems}


def _compare(name: str, points: Mapping[str, Scores], coms: Mapping[str, Floats], baseline: str | None) -> Comparison:
    low, high = np.percentile(coms[name], _TAILS)
    if baseline is None:
        return Comparison(points[name], float(low), float(high), None, None, None, None)
    gains = coms[name] - coms[baseline]
    gain_low, gain_high = np.percentile(gains, _TAILS)
    better = np.mean(gains > 0) + 0.5 * np.mean(gains == 0)
    gain = points[name].com - points[baseline].com
    return Comparison(points[name], float(low), float(high), gain, float(gain_low), float(gain_high), float(better))


def _mean(scores: Sequence[Scores]) -> Scores:
    dims = [each.dim for each in scores if each.dim is not None]
    return combine(float(np.mean([each.dis for each in scores])), float(np.mean(dims)) if dims else None)


def _resampled_com(
    emotion_true: ArrayLike,
    valence_true: ArrayLike,
    systems: Mapping[str, Predicted],
    resamples: int,
    seed: int,
) -> dict[str, Floats]:
    """Com of every system on every resample, (R,) each."""
    names = list(systems)
    answers = [np.asarray(emotion_true), *(np.asarray(systems[name].emotion) for name in names)]
    labels, codes = np.unique(np.concatenate(answers), return_inverse=True)
    true, *predicted = codes.reshape(len(answers), -1).astype(np.int64)
    valence = np.asarray(valence_true, dtype=float)
    known = np.isfinite(valence)
    errors = {
        name: np.where(known, np.asarray(systems[name].valence, dtype=float) - valence, 0.0) ** 2 for name in names
    }
    pairs = {name: true * len(labels) + each for name, each in zip(names, predicted, strict=True)}
    parts: dict[str, list[Floats]] = {name: [] for name in names}
    for drawn in _draws(len(true), resamples, seed):
        clips_with_valence = known[drawn].sum(axis=1)
        for name in names:
            dis = _weighted_f1(_confusions(pairs[name][drawn], len(labels)))
            dim = errors[name][drawn].sum(axis=1) / np.maximum(clips_with_valence, 1)
            com = dis - DIM_WEIGHT * dim
            # Where valences are rare, a resample may draw none; its Com would be another quantity.
            parts[name].append(com[clips_with_valence > 0] if known.any() else com)
    return {name: np.concatenate(each) for name, each in parts.items()}


def _draws(clips: int, resamples: int, seed: int) -> Iterator[Integers]:
    """The clips of each resample, (R', N) at a time; the same stream as one draw of (R, N)."""
    generator = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_ONCE // clips)
    for start in range(0, resamples, rows):
        yield generator.integers(clips, size=(min(rows, resamples - start), clips))


def _confusions(pairs: Integers, classes: int) -> Integers:
    """Count (R', N) codes true * C + predicted into confusion matrices (R', C, C) with one bincount."""
    cells = classes * classes
    shifted = pairs + cells * np.arange(len(pairs))[:, None]
    counts = np.bincount(shifted.ravel(), minlength=cells * len(pairs))
    return counts.reshape(len(pairs), classes, classes)


def _weighted_f1(confusions: Integers) -> Floats:
    """F1 = 2 TP / (true + predicted) of each class, averaged by the share of its true clips, (R',)."""
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    support, chosen = confusions.sum(axis=2), confusions.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + chosen, 1)
    return np.asarray((f1 * support).sum(axis=1) / support.sum(axis=1), dtype=float)
