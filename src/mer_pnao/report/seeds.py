"""What another training seed does to the scores: mean and standard deviation over the seeds."""

from collections.abc import Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.report.evidence import Evidence, System


class Spread(NamedTuple):
    """A score over the seeds."""

    mean: float
    std: float | None  # of a sample (ddof 1); None for a single seed


class OverSeeds(NamedTuple):
    """A system's best rounds, one a seed."""

    seeds: tuple[int | None, ...]  # the model of record's first
    coms: tuple[float, ...]  # on the test clips, in the same order
    spreads: Mapping[str, Spread | None]  # by measure; None where a corpus has no valence


def trainval_scores(evidence: Evidence, system: System) -> Scores | None:
    """The scores of the out-of-fold predictions, or None where a system has none."""
    return None if system.trainval.empty else _scores(evidence.trainval, system.trainval)


def over_seeds(evidence: Evidence) -> dict[str, OverSeeds]:
    """Every system that has a seed (the linear probe has none); empty when no system has several."""
    systems = evidence.systems.items()
    if not any(system.repeats for _, system in systems):
        return {}
    return {name: _over_seeds(evidence, system) for name, system in systems if system.seed is not None}


def _over_seeds(evidence: Evidence, system: System) -> OverSeeds:
    tests = [_scores(evidence.test, training.test) for training in system.trainings]
    trainvals = [trainval_scores(evidence, training) for training in system.trainings]
    values: dict[str, list[float | None]] = {"trainval_com": [each.com if each else None for each in trainvals]}
    values |= {measure: [getattr(scores, measure) for scores in tests] for measure in ("dis", "dim", "com")}
    seeds = tuple(training.seed for training in system.trainings)
    spreads = {measure: _spread(each) for measure, each in values.items()}
    return OverSeeds(seeds, tuple(scores.com for scores in tests), spreads)


def _spread(values: list[float | None]) -> Spread | None:
    known = [value for value in values if value is not None]
    if len(known) < len(values):
        return None
    return Spread(float(np.mean(known)), float(np.std(known, ddof=1)) if len(known) > 1 else None)


def _scores(truth: pd.DataFrame, predicted: pd.DataFrame) -> Scores:
    return score(truth["discrete"], predicted["discrete"], truth["valence"], predicted["valence"])
