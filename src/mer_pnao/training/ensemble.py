"""The final system: two systems' decisions, weighted linearly, with one weight chosen out of fold."""

import numpy as np
from numpy.typing import NDArray

from mer_pnao.evaluation.scores import score
from mer_pnao.training.examples import Examples

GRID = np.linspace(0, 1, 41)


def choose_weight(
    first: tuple[NDArray[np.float64], NDArray[np.float64]],
    second: tuple[NDArray[np.float64], NDArray[np.float64]],
    examples: Examples,
) -> float:
    """The first system's weight with the best Com; of equal ones the one nearest to one half.

    Each system gives out-of-fold posteriors (N, C) and valences (N,) for the N training clips.
    """

    def com(weight: float) -> float:
        posterior, valence = (weight * a + (1 - weight) * b for a, b in zip(first, second, strict=True))
        return score(examples.emotion, posterior.argmax(axis=1), examples.valence, valence).com

    return float(max(GRID, key=lambda weight: (com(weight), -abs(weight - 0.5))))
