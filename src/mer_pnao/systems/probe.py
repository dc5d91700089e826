"""The linear probe as a system of Table 1."""

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_pnao.outs.decisions import Decisions
from mer_pnao.outs.names import PROBE, TRAINVAL
from mer_pnao.outs.networks import average
from mer_pnao.outs.record import Record, Settings
from mer_pnao.params.profile import Params
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.write import scored, write_decisions
from mer_pnao.training.examples import Examples
from mer_pnao.training.probe import LinearProbe, fit_probe


def run_probe(dataset: Dataset, params: Params, out: Path) -> None:
    """Fit the linear probe out of fold and write its record and predictions.

    Of the strengths `evaluation.probe_c` the one with the best Train&Val Com is taken, of equal ones the first: as much
    is chosen for the networks. A test prediction averages the folds' probes, as it does for the networks.
    """
    folds, ridge = folds_of(dataset.train, params, dataset.labels), params.evaluation.probe_ridge
    tried = [(c, *_out_of_fold(dataset.train, folds, c, ridge)) for c in params.evaluation.probe_c]
    c, probes, trainval = max(tried, key=lambda each: scored(each[2], dataset.train).com)
    tests = {
        split: average([_decided(probe, examples) for probe in probes]) for split, examples in dataset.tests.items()
    }
    Record(
        system=PROBE,
        settings=Settings(profile=params.profile, probe_c=c, fold_seed=params.seed, folds=params.folds),
        parameters=round(np.mean([probe.parameters for probe in probes])),
        parameters_ratio=None,
        scores=write_decisions(out, dataset, {TRAINVAL: trainval, **tests}, ()),
        data_digest=dataset.digest,
    ).write(out)


def _out_of_fold(
    train: Examples, folds: NDArray[np.int64], c: float, ridge: float
) -> tuple[list[LinearProbe], Decisions]:
    """A probe a fold, and the decisions for every clip by the one that held it out."""
    decisions, probes = _without_branches(np.zeros((len(train), train.classes)), np.zeros(len(train))), []
    for fold in np.unique(folds):
        rows = np.flatnonzero(folds == fold)
        probes.append(fit_probe(train.select(np.flatnonzero(folds != fold)), c, ridge))
        decisions.posterior[rows], decisions.valence[rows] = probes[-1].predict(train.select(rows))
    return probes, decisions


def _decided(probe: LinearProbe, examples: Examples) -> Decisions:
    return _without_branches(*probe.predict(examples))


def _without_branches(posterior: np.ndarray, valence: np.ndarray) -> Decisions:
    clips, classes = posterior.shape
    return Decisions(posterior, valence, np.zeros((clips, 0)), np.zeros((clips, 0, classes)))
