"""Nested cross-validation: each speaker's clips are tested by systems in which that speaker had no part.

Out-of-fold scores flatter whatever was chosen by them, such as an early stop, a best round or a weight, and a single
split into training and test speakers has few of the latter. Here outer folds leave speakers out in turn, and inside
each of them the whole way is gone from the beginning: inner folds, early stop, best round, Final's weight, the probe
(Varma and Simon 2006; Cawley and Talbot 2010). So every clip is tested once. The profile's own values are given: to
have chosen them by these speakers flatters the networks.
"""

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from mer_pnao.foundations.errors import as_input_error
from mer_pnao.outs.decisions import Decisions, read_predictions
from mer_pnao.outs.names import DENSE, FINAL, PREDICTIONS, PROBE, PRUNED, SYSTEMS, further_seeds
from mer_pnao.outs.record import Record, best_round_directory, round_directories
from mer_pnao.params.profile import Params
from mer_pnao.pruning.rounds import MapFolds, RoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.final import combine_final
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.probe import run_probe
from mer_pnao.systems.train import run_systems
from mer_pnao.training.examples import Examples
from mer_pnao.training.folds import make_folds


@dataclass(frozen=True)
class OuterResult:
    """What a system, trained with a seed in an outer fold, decides for that fold's clips."""

    system: str
    seed: int | None  # None: it has none
    fold: int
    clips: Examples
    decisions: Decisions
    parameters: int


def total_rounds(params: Params) -> int:
    """How many rounds `run_nested` reports as done."""
    return params.outer.folds * len(params.seeds) * (len(DENSE) + len(PRUNED) * (params.pnao.rounds + 1))


def run_nested(
    dataset: Dataset,
    params: Params,
    store: RoundStore,
    models: Path,
    run: MapFolds = map,
    done: Callable[[int], None] = lambda _: None,
) -> Iterator[OuterResult]:
    """Train and test every system with every seed in each outer fold; rounds that the store holds are known.

    The labelled clips of train and test are one pool; further splits take no part. `models` is a folder for a
    fold's models, which is emptied. Raises InputError when the clips allow no such folds, or a training diverges.
    """
    pool, folds = dataset.train.joined(dataset.test), range(params.outer.folds)
    with as_input_error(ValueError):
        outer = make_folds(pool.emotion, pool.speakers, params.outer.folds, params.seed)
    parts = [(pool.select(np.flatnonzero(outer != fold)), pool.select(np.flatnonzero(outer == fold))) for fold in folds]
    for train, _ in parts:  # what the clips do not allow is said before hours of training
        folds_of(train, params)
    for fold, (train, test) in zip(folds, parts, strict=True):
        inner = replace(dataset, train=train, test=test, others={})
        shutil.rmtree(models, ignore_errors=True)
        run_probe(inner, params, models / PROBE)
        for _ in run_systems({system: models / system for system in (*DENSE, *PRUNED)}, inner, params, store, run):
            done(1)
        combine_final(inner, params.features.acoustic, models, models / FINAL)
        for system in SYSTEMS:
            for training in (models / system, *further_seeds(models / system).values()):
                yield _tested(system, training, fold, inner)
    shutil.rmtree(models)


def _tested(system: str, training: Path, fold: int, inner: Dataset) -> OuterResult:
    best = best_round_directory(training) if round_directories(training) else training
    record, clips = Record.read(best), inner.test
    decisions = read_predictions(best / PREDICTIONS, inner.labels).decisions("test", clips.names)
    return OuterResult(system, record.settings.seed, fold, clips, decisions, record.parameters)
