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

from mer_pnao.foundations.errors import InputError, as_input_error
from mer_pnao.outs.decisions import Decisions, read_predictions
from mer_pnao.outs.names import DENSE, FINAL, MEAN_FUSION, PREDICTIONS, PROBE, PRUNED, SYSTEMS, further_seeds
from mer_pnao.outs.networks import read_round
from mer_pnao.outs.record import Record, best_round_directory, round_directories
from mer_pnao.params.profile import Params
from mer_pnao.pruning.rounds import MapFolds, RoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.final import combine_final
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.probe import run_probe
from mer_pnao.systems.train import run_systems
from mer_pnao.training.examples import Examples
from mer_pnao.training.folds import learns_valence, make_folds

_DENSE = (MEAN_FUSION, *DENSE)
NESTED = (PROBE, MEAN_FUSION, *(system for system in SYSTEMS if system != PROBE))  # the rows of the nested table


@dataclass(frozen=True)
class OuterResult:
    """What a system, trained with a seed in an outer fold, decides for that fold's clips."""

    system: str
    seed: int | None  # None: it has none
    fold: int
    clips: Examples
    decisions: Decisions
    parameters: int  # of one network, or of all that the final system mixes
    single: tuple[Decisions, ...] = ()  # of the fold networks, each by itself; none where a system has none of its own


def total_rounds(params: Params) -> int:
    """How many rounds `run_nested` reports as done."""
    trainings = len(_DENSE) + len(PRUNED) * (params.pnao.rounds + 1)
    return params.outer.folds * len(params.seeds) * trainings


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
        outer = make_folds(pool.emotion, pool.speakers, params.outer.folds, params.seed, dataset.labels)
    trains = [pool.select(np.flatnonzero(outer != fold)) for fold in folds]
    # What the clips do not allow is said before hours of training.
    inner_folds = []
    for fold, train in enumerate(trains):
        try:
            inner_folds.append(folds_of(train, params, dataset.labels))
        except InputError as error:
            raise InputError(f"without the clips of outer fold {fold}, {error}") from error
    if not all(learns_valence(train.valence, inner) for train, inner in zip(trains, inner_folds, strict=True)):
        pool = pool.without_valence()
    parts = [(pool.select(np.flatnonzero(outer != fold)), pool.select(np.flatnonzero(outer == fold))) for fold in folds]
    for fold, (train, test) in zip(folds, parts, strict=True):
        inner = replace(dataset, train=train, test=test, others={})
        shutil.rmtree(models, ignore_errors=True)
        run_probe(inner, params, models / PROBE)
        for _ in run_systems({system: models / system for system in (*_DENSE, *PRUNED)}, inner, params, store, run):
            done(1)
        combine_final(inner, params.features.acoustic, models, models / FINAL, params.final)
        for system in NESTED:
            for training in (models / system, *further_seeds(models / system).values()):
                yield _tested(system, training, fold, inner)
    shutil.rmtree(models)


def _tested(system: str, training: Path, fold: int, inner: Dataset) -> OuterResult:
    rounds = bool(round_directories(training))
    best = best_round_directory(training) if rounds else training
    record, clips = Record.read(best), inner.test
    decisions = read_predictions(best / PREDICTIONS, inner.labels).decisions("test", clips.names)
    single = tuple(read_round(best).decide_apart(clips.tensors())) if rounds else ()
    return OuterResult(system, record.settings.seed, fold, clips, decisions, record.parameters, single)
