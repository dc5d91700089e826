"""The linear probe as a system of Table 1."""

from pathlib import Path

import numpy as np

from mer_pnao.outs.decisions import Decisions
from mer_pnao.outs.names import PROBE, TRAINVAL
from mer_pnao.outs.record import Record, Settings
from mer_pnao.params.profile import Params
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.write import write_decisions
from mer_pnao.training.probe import fit_probe


def run_probe(dataset: Dataset, params: Params, out: Path) -> None:
    """Fit the linear probe out of fold and write its record and predictions.

    A test prediction averages the folds' probes, as it does for the networks.
    """
    folds = folds_of(dataset.train, params)
    classes = len(dataset.labels)
    trainval = _without_branches(np.zeros((len(folds), classes)), np.zeros(len(folds)))
    tests: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in dataset.tests}
    counts = []
    for fold in range(params.folds):
        probe = fit_probe(
            dataset.train.select(np.flatnonzero(folds != fold)),
            params.evaluation.probe_c,
            params.evaluation.probe_ridge,
        )
        rows = np.flatnonzero(folds == fold)
        trainval.posterior[rows], trainval.valence[rows] = probe.predict(dataset.train.select(rows))
        for split, examples in dataset.tests.items():
            tests[split].append(probe.predict(examples))
        counts.append(probe.parameters)
    means = {
        split: _without_branches(*(np.mean(values, axis=0) for values in zip(*each, strict=True)))
        for split, each in tests.items()
    }
    Record(
        system=PROBE,
        settings=Settings(profile=params.profile, fold_seed=params.seed),
        parameters=counts[0],
        parameters_ratio=None,
        scores=write_decisions(out, dataset, {TRAINVAL: trainval, **means}, ()),
        data_digest=dataset.digest,
    ).write(out)


def _without_branches(posterior: np.ndarray, valence: np.ndarray) -> Decisions:
    clips, classes = posterior.shape
    return Decisions(posterior, valence, np.zeros((clips, 0)), np.zeros((clips, 0, classes)))
