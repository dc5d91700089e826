"""What the weights of a decision fusion change, in single networks and held against the plain mean of the branches.

Shapes: K networks, N clips, M branches, C classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike


@dataclass(frozen=True)
class FusionEffect:
    """Decisions of K networks for N clips; shares of nothing are none."""

    decisions: int  # K * N
    changed: int  # where the weighted branches decide otherwise than their plain mean
    better: int  # of these, the weights' decision is right
    worse: int  # of these, the mean's is
    differ: int  # where not all branches decide the same
    surest_right: int  # of these, the branch of the lowest entropy is right
    average_right: float  # of these, as many are right when a branch is taken at random

    def __add__(self, other: "FusionEffect") -> "FusionEffect":
        return FusionEffect(*(getattr(self, name) + getattr(other, name) for name in self.__dataclass_fields__))


def fusion_effect(branches: ArrayLike, weights: ArrayLike, emotion_true: ArrayLike) -> FusionEffect:
    """Count over each network by itself, where equation 6 works, and not over their mean.

    Takes the branches' posteriors (K, N, M, C), their weights (K, N, M) and the class indices (N,). Of equal entropies
    the first branch is the surest. Raises ValueError when the shapes do not fit.
    """
    posteriors, shares = np.asarray(branches, dtype=float), np.asarray(weights, dtype=float)
    true = np.asarray(emotion_true)
    if posteriors.ndim != 4 or shares.shape != posteriors.shape[:3] or true.shape != posteriors.shape[1:2]:
        got = f"{posteriors.shape}, {shares.shape} and {true.shape}"
        raise ValueError(f"fusion_effect takes (K, N, M, C), (K, N, M) and (N,), got {got}")
    weighted = (shares[..., None] * posteriors).sum(axis=2).argmax(axis=2)
    plain = posteriors.mean(axis=2).argmax(axis=2)
    changed = weighted != plain
    single = posteriors.argmax(axis=3)
    differ = (single != single[..., :1]).any(axis=2)
    right = single == true[:, None]
    # Not scipy's entr: nothing else that the stages after training import needs scipy.
    logs = np.log(posteriors, where=posteriors > 0, out=np.zeros_like(posteriors))
    surest = (posteriors * logs).sum(axis=3).argmax(axis=2)
    surest_right = np.take_along_axis(right, surest[..., None], axis=2)[..., 0]
    return FusionEffect(
        decisions=int(changed.size),
        changed=int(changed.sum()),
        better=int((changed & (weighted == true)).sum()),
        worse=int((changed & (plain == true)).sum()),
        differ=int(differ.sum()),
        surest_right=int(surest_right[differ].sum()),
        average_right=float(right.mean(axis=2)[differ].sum()),
    )
