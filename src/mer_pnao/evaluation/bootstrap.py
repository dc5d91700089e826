"""Paired bootstrap over speakers: intervals of Com, and the probability that a system beats the baseline.

Every system is scored on the same resamples, so what the draw of the speakers does to all of them alike cancels in a
comparison. Clips of one speaker are alike, so where speakers are known, speakers are drawn with all their clips (the
cluster bootstrap: Davison and Hinkley 1997, section 3.8; Field and Welsh 2007). With few of them its intervals are too
narrow; below ten the exact sign-flip test (Fisher 1935) over the speakers' differences stands beside.
Shapes: N clips, U units that are drawn, C classes, R resamples.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mer_pnao.evaluation.scores import DIM_WEIGHT, Scores, mean_scores, score, weighted_f1

Floats = NDArray[np.float64]
Integers = NDArray[np.int64]

FEW_SPEAKERS = 10  # below, the sign-flip test is given
TAILS = [50 * (1 - 0.95), 50 * (1 + 0.95)]  # percent, of 95 % intervals
DRAWS_AT_ONCE = 1 << 20  # units drawn before they are counted: bounds the memory at some tens of MB


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
    p_sign_flip: float | None = None  # one-sided, of such a gain or loss by chance; None from ten speakers on


def paired_bootstrap(
    emotion_true: ArrayLike,
    valence_true: ArrayLike,
    systems: Mapping[str, Predicted],
    baseline: str | None = None,
    resamples: int = 2000,
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> dict[str, Comparison]:
    """Compare systems on R resamples of the same speakers, drawn with replacement (Efron's percentile method).

    Takes labels (N,) and valences (N,) with NaN where a clip has none, and each clip's speaker (N,); without groups, or
    with a single one, clips are drawn. The draws depend on the number of units, R and the seed alone, the intervals
    cover 95 %. Raises ValueError when a length differs, a needed valence is not finite, the baseline is not among the
    systems, or R is out of range.
    """
    alone = {name: [each] for name, each in systems.items()}
    return bootstrap_of_means(emotion_true, valence_true, alone, baseline, resamples, seed, groups=groups)


def bootstrap_of_means(
    emotion_true: ArrayLike,
    valence_true: ArrayLike,
    systems: Mapping[str, Sequence[Predicted]],
    baseline: str | None,
    resamples: int = 2000,
    seed: int = 0,
    *,
    groups: Sequence[str] | None = None,
) -> dict[str, Comparison]:
    """`paired_bootstrap` for systems that were trained with several seeds: the scores are means over their seeds.

    A system is the list of its trainings. Each resample draws a seed, too, the same one for all systems of as many, so
    that interval and P are those of a training with whatever seed, and not of the mean.
    """
    if baseline is not None and baseline not in systems:
        raise ValueError(f"the baseline {baseline!r} is not among the systems {', '.join(systems)}")
    if resamples < 1:
        raise ValueError(f"resamples must be at least 1, got {resamples}")
    points = {
        name: mean_scores([score(emotion_true, each.emotion, valence_true, each.valence) for each in trainings])
        for name, trainings in systems.items()
    }
    units = units_of(groups, len(np.asarray(emotion_true)))
    tallies = _tallies(emotion_true, valence_true, systems, units)
    shown = np.random.default_rng([seed, 1]).random(resamples)  # which seed a resample takes, as a share of them
    coms = {name: _resampled_com(each, shown, seed) for name, each in tallies.items()}
    found = {name: _compare(name, points, coms, baseline) for name in systems}
    if baseline is None or groups is None or not 1 < len(set(groups)) < FEW_SPEAKERS:
        return found
    own = {name: com_by_group(emotion_true, valence_true, each, groups) for name, each in systems.items()}
    gains = {name: np.array([own[name][group] - com for group, com in own[baseline].items()]) for name in systems}
    return {name: replace(each, p_sign_flip=_sign_flip(gains[name])) for name, each in found.items()}


def com_by_group(
    emotion_true: ArrayLike, valence_true: ArrayLike, trainings: Sequence[Predicted], groups: Sequence[str]
) -> dict[str, float]:
    """The mean Com of a system's trainings on each speaker's clips; takes and raises what `paired_bootstrap` does."""
    emotion, valence, of = np.asarray(emotion_true), np.asarray(valence_true), np.asarray(groups)
    decided = [(np.asarray(each.emotion), np.asarray(each.valence)) for each in trainings]
    coms = {}
    for group in sorted(set(groups)):
        here = of == group
        each = [score(emotion[here], chosen[here], valence[here], estimate[here]).com for chosen, estimate in decided]
        coms[group] = float(np.mean(each))
    return coms


def _compare(name: str, points: Mapping[str, Scores], coms: Mapping[str, Floats], baseline: str | None) -> Comparison:
    low, high = np.percentile(coms[name], TAILS)
    if baseline is None:
        return Comparison(points[name], float(low), float(high), None, None, None, None)
    gains = coms[name] - coms[baseline]
    gain_low, gain_high = np.percentile(gains, TAILS)
    better = np.mean(gains > 0) + 0.5 * np.mean(gains == 0)
    gain = points[name].com - points[baseline].com
    return Comparison(points[name], float(low), float(high), gain, float(gain_low), float(gain_high), float(better))


def _sign_flip(differences: Floats) -> float:
    """The share of all sign patterns of the differences (U,) whose mean goes as far to the same side as theirs."""
    signs = 1 - 2 * (np.arange(2 ** len(differences))[:, None] >> np.arange(len(differences)) & 1)
    return float(np.mean(signs @ differences >= abs(differences.sum()) - 1e-12))


def units_of(groups: Sequence[str] | None, clips: int) -> Integers:
    """The unit that each clip is drawn with, (N,) in 0..U-1: its speaker, or itself where fewer than two are known."""
    if groups is None or len(set(groups)) < 2:
        return np.arange(clips)
    if len(groups) != clips:
        raise ValueError(f"groups must be of one length with the clips, got {len(groups)} for {clips}")
    return np.unique(np.asarray(groups), return_inverse=True)[1].astype(np.int64)


class _Tally(NamedTuple):
    """What a unit adds to a resample's score."""

    confusions: Integers  # (U, C * C), true class first
    errors: NDArray[Any]  # (U,) squared ones of valence
    known: Integers  # (U,) clips with a valence

    def com(self, drawn: NDArray[Any]) -> tuple[Floats, NDArray[np.bool_]]:
        """Com (R,) of resamples that take each unit so many times (R, U), and where there is one."""
        classes = math.isqrt(self.confusions.shape[1])
        dis = weighted_f1((drawn @ self.confusions).reshape(-1, classes, classes))
        known = drawn @ self.known
        com = dis - DIM_WEIGHT * (drawn @ self.errors) / np.maximum(known, 1)
        # Where valences are rare, a resample may draw none; its Com would be another quantity.
        return com, (known > 0) | (not self.known.any())


def _tallies(
    emotion_true: ArrayLike, valence_true: ArrayLike, systems: Mapping[str, Sequence[Predicted]], units: Integers
) -> dict[str, list[_Tally]]:
    trainings = [each for name in systems for each in systems[name]]
    answers = [np.asarray(emotion_true), *(np.asarray(each.emotion) for each in trainings)]
    labels, codes = np.unique(np.concatenate(answers), return_inverse=True)
    true, *predicted = codes.reshape(len(answers), -1).astype(np.int64)
    valence = np.asarray(valence_true, dtype=float)
    clips_with_valence, count, cells = np.isfinite(valence), int(units.max()) + 1, len(labels) ** 2
    known = np.bincount(units, clips_with_valence, count).astype(np.int64)

    def tally(emotion: Integers, estimate: ArrayLike) -> _Tally:
        pairs = np.bincount(units * cells + true * len(labels) + emotion, minlength=count * cells)
        errors = np.where(clips_with_valence, np.asarray(estimate, dtype=float) - valence, 0.0) ** 2
        return _Tally(pairs.reshape(count, cells), np.bincount(units, errors, count), known)

    made = iter([tally(emotion, each.valence) for emotion, each in zip(predicted, trainings, strict=True)])
    return {name: [next(made) for _ in systems[name]] for name in systems}


def _resampled_com(trainings: Sequence[_Tally], shown: Floats, seed: int) -> Floats:
    """Com of a system on every resample that has one, of the training whose turn it is, (R,)."""
    turn, parts = (shown * len(trainings)).astype(np.int64), []
    start = 0
    for drawn in draws_of(len(trainings[0].known), len(shown), seed):
        each = [tally.com(drawn) for tally in trainings]
        rows = np.arange(len(drawn))
        coms = np.stack([com for com, _ in each])[turn[start : start + len(rows)], rows]
        parts.append(coms[each[0][1]])
        start += len(rows)
    return np.concatenate(parts)


def draws_of(units: int, resamples: int, seed: int) -> Iterator[Floats]:
    """How often each resample takes each unit, (R', U) at a time; the same stream as one draw of (R, U)."""
    generator = np.random.default_rng(seed)
    rows = max(1, DRAWS_AT_ONCE // units)
    for start in range(0, resamples, rows):
        drawn = generator.integers(units, size=(min(rows, resamples - start), units))
        shifted = drawn + units * np.arange(len(drawn))[:, None]
        yield np.bincount(shifted.ravel(), minlength=drawn.size).reshape(drawn.shape).astype(float)
