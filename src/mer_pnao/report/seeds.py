"""What another training seed does to the scores."""

from dataclasses import asdict

import pandas as pd

from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.report.evidence import Evidence, System


def trainval_scores(evidence: Evidence, system: System) -> Scores | None:
    """The scores of the out-of-fold predictions, or None where a system has none."""
    return None if system.trainval.empty else _scores(evidence.trainval, system.trainval)


def over_seeds(evidence: Evidence) -> dict[str, pd.DataFrame]:
    """The scores of every system that has a seed (the linear probe has none); empty when no system has several.

    A row a seed, the model of record's first: trainval_com, and of the test clips dis, dim and com; NaN where unknown.
    """
    systems = evidence.systems.items()
    if not any(system.repeats for _, system in systems):
        return {}
    return {name: _by_seed(evidence, system) for name, system in systems if system.seed is not None}


def _by_seed(evidence: Evidence, system: System) -> pd.DataFrame:
    rows = {}
    for training in system.trainings:
        trainval, test = trainval_scores(evidence, training), _scores(evidence.test, training.test)
        rows[training.seed] = {"trainval_com": trainval and trainval.com, **asdict(test)}
    return pd.DataFrame.from_dict(rows, orient="index", dtype=float)


def spread(scores: "pd.Series[float]") -> tuple[float, float]:
    """Mean and standard deviation (of a sample) over the seeds; NaN where a score is unknown, or there is but one."""
    return scores.mean(skipna=False), scores.std(skipna=False)


def _scores(truth: pd.DataFrame, predicted: pd.DataFrame) -> Scores:
    return score(truth["discrete"], predicted["discrete"], truth["valence"], predicted["valence"])
