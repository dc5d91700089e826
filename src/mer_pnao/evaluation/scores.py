"""The challenge's metric: Dis, Dim and Com."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

DIM_WEIGHT = 0.25  # Com = Dis - 0.25 Dim, MER 2023


@dataclass(frozen=True)
class Scores:
    """Dis: weighted F1 of the emotions; Dim: mean squared error of valence; Com = Dis - 0.25 Dim.

    Without valence there is no Dim, and Com is Dis.
    """

    dis: float
    dim: float | None
    com: float


def combine(dis: float, dim: float | None) -> Scores:
    """The scores with their combination."""
    return Scores(dis, dim, dis if dim is None else dis - DIM_WEIGHT * dim)


def score(emotion_true: ArrayLike, emotion_pred: ArrayLike, valence_true: ArrayLike, valence_pred: ArrayLike) -> Scores:
    """Score N clips: labels (N,) of any kind, valences (N,) with NaN where a clip has none.

    Raises ValueError when the lengths differ, when there are no clips, or when a predicted valence is not finite.
    """
    true, pred = np.asarray(emotion_true), np.asarray(emotion_pred)
    valence, estimate = np.asarray(valence_true, dtype=float), np.asarray(valence_pred, dtype=float)
    if len(true) == 0 or not len(true) == len(pred) == len(valence) == len(estimate):
        lengths = [len(true), len(pred), len(valence), len(estimate)]
        raise ValueError(f"score takes four arrays of one length of at least 1, got lengths {lengths}")
    labels, codes = np.unique(np.concatenate([true, pred]), return_inverse=True)
    pairs = np.ravel_multi_index(codes.reshape(2, -1), (len(labels), len(labels)))
    confusion = np.bincount(pairs, minlength=len(labels) ** 2).reshape(1, len(labels), len(labels))
    dis = float(weighted_f1(confusion)[0])
    known = np.isfinite(valence)
    if not known.any():
        return combine(dis, None)
    if not np.isfinite(estimate[known]).all():
        raise ValueError("a predicted valence is not finite")
    return combine(dis, float(np.mean((valence[known] - estimate[known]) ** 2)))


def weighted_f1(confusions: NDArray[Any]) -> NDArray[np.float64]:
    """F1 = 2 TP / (true + predicted) of each class, averaged by the share of its true clips.

    Takes confusion counts (R, C, C), the true class first, and gives (R,). Not by scikit-learn, whose checks take
    1.5 ms in every epoch and for every speaker.
    """
    hits = np.diagonal(confusions, axis1=1, axis2=2)
    support, chosen = confusions.sum(axis=2), confusions.sum(axis=1)
    f1 = 2 * hits / np.maximum(support + chosen, 1)
    return np.asarray((f1 * support).sum(axis=1) / support.sum(axis=1), dtype=float)


def mean_scores(each: Sequence[Scores]) -> Scores:
    """The means of several systems' scores of the same clips."""
    dims = [one.dim for one in each if one.dim is not None]
    return combine(float(np.mean([one.dis for one in each])), float(np.mean(dims)) if dims else None)


@dataclass(frozen=True)
class Recognition:
    """How often emotions are recognised, in the measures by which corpora without valence are reported."""

    uar: float  # unweighted average recall: the mean of the classes' recalls
    wa: float  # weighted accuracy, the share of clips that are right
    macro_f1: float


def recognition(emotion_true: ArrayLike, emotion_pred: ArrayLike) -> Recognition:
    """Score N decisions: labels (N,) of any kind. Classes without a clip do not count."""
    # Not at the top: it is slow to import, and only reports need it.
    from sklearn.metrics import accuracy_score, f1_score, recall_score

    true, pred = np.asarray(emotion_true), np.asarray(emotion_pred)
    there = np.unique(true)
    return Recognition(
        float(recall_score(true, pred, labels=there, average="macro", zero_division=0)),
        float(accuracy_score(true, pred)),
        float(f1_score(true, pred, labels=there, average="macro", zero_division=0)),
    )
