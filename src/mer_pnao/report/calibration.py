"""What the report says about calibration: numbers of the joint posteriors and of the branches on the test clips."""

from dataclasses import dataclass

import numpy as np
from sklearn.metrics import roc_auc_score

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.evaluation.calibration import error_interval, errors_if_calibrated, expected_calibration_error
from mer_pnao.report.evidence import Evidence, System

_DRAWS = 1000  # of the error that chance alone gives


@dataclass(frozen=True)
class Calibration:
    """How far a system's posteriors on the test clips can be taken at their word."""

    accuracy: float  # share of right decisions
    top: float  # mean top posterior
    error: float  # expected calibration error of the joint posterior
    low: float  # of its bootstrap interval, which takes off what chance adds to an error and may lie below it
    high: float
    chance: float  # the error that a calibrated system stays below in 95 % of such test splits
    verdict: str  # "calibrated" when the error is within chance, else "overconfident", "underconfident" or "uneven"
    separation: float | None  # area under the ROC curve of 1 - H / log C for right against wrong; None if all are alike
    branches: dict[str, float]  # expected calibration error of each branch


def calibration(evidence: Evidence, system: System, resamples: int, seed: int) -> Calibration:
    """Judge one system on the test clips; the seed draws the resamples, and what chance alone would give."""
    truth, joint = evidence.classes(evidence.test["discrete"]), evidence.posterior(system.test)
    right = joint.argmax(axis=1) == truth
    error = expected_calibration_error(joint, truth)
    low, high = error_interval(joint, truth, resamples, seed, groups=speakers_of(evidence.test))
    accuracy, top = float(right.mean()), float(joint.max(axis=1).mean())
    chance = float(np.quantile(errors_if_calibrated(joint, _DRAWS, seed), 0.95))
    both = bool(right.any()) and not right.all()
    return Calibration(
        accuracy=accuracy,
        top=top,
        error=error,
        low=low,
        high=high,
        chance=chance,
        verdict=_verdict(error, chance, top - accuracy),
        separation=float(roc_auc_score(right, system.test["confidence"])) if both else None,
        branches={branch: expected_calibration_error(each, truth) for branch, each in system.branches.items()},
    )


def _verdict(error: float, chance: float, excess: float) -> str:
    """The direction is only named where it makes up most of the error."""
    if error <= chance:
        return "calibrated"
    if abs(excess) < error / 2:
        return "uneven"
    return "overconfident" if excess > 0 else "underconfident"
