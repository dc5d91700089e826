"""Pruning-based network architecture optimisation (Algorithm 1).

Shapes: M branches, N training clips, C classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from mer_pnao.network.emotion_network import Blueprint
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.keys import algorithm_version, hash_of
from mer_pnao.pruning.rounds import FoldTask, Round, RoundStore, RunTasks, fold_tasks, join_folds, run_fold
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import TrainingConfig


@dataclass(frozen=True)
class Optimisation:
    """One run of Algorithm 1: a network, the clips with the fold that holds each out (N,), settings and a seed."""

    blueprint: Blueprint
    examples: Examples
    folds: NDArray[np.int64]
    training: TrainingConfig
    pnao: PnaoConfig
    seed: int


def optimise_architecture(
    blueprint: Blueprint,
    examples: Examples,
    folds: NDArray[np.int64],
    training: TrainingConfig,
    pnao: PnaoConfig,
    seed: int,
    store: RoundStore,
    run: RunTasks = map,
) -> Iterator[Round]:
    """Algorithm 1: sparse-train the dense network, then prune, rewind and retrain, round by round.

    Yields round 0 (line 1) and each round after it as it is finished. `folds` (N,) gives the fold that holds a clip
    out; every fold prunes its own network, for a mask learnt on all clips would have seen the held-out ones. `run` maps
    the folds' work, in this process or in others. Rounds that the store holds are not computed again. No rounds and no
    alpha make a dense system.

    Which round is best is not decided here: see `best_round`.
    """
    one = Optimisation(blueprint, examples, folds, training, pnao, seed)
    for _, finished in optimise_in_step([one], store, run):
        yield finished


def optimise_in_step(
    optimisations: Sequence[Optimisation], store: RoundStore, run: RunTasks = map
) -> Iterator[tuple[int, Round]]:
    """Several runs of Algorithm 1, round by round, so that the folds of one share the processors with the others'.

    Five folds leave one of two processors without work for a sixth of the time, ten do not. Yields (position of the
    optimisation, its round); nothing is being trained while the caller has them.
    """
    keys = [_first_key(each) for each in optimisations]
    states: list[Sequence[dict[str, Tensor] | None]] = [[None] * (int(of.folds.max()) + 1) for of in optimisations]
    for number in range(max(of.pnao.rounds for of in optimisations) + 1):
        due = [place for place, of in enumerate(optimisations) if number <= of.pnao.rounds]
        if number:
            keys = [_next_key(key, of.pnao) for key, of in zip(keys, optimisations, strict=True)]
        known = {place: store.load(keys[place]) for place in due}
        tasks = [
            task
            for place in due
            if known[place] is None
            for task in _tasks(optimisations[place], number, states[place])
        ]
        results = iter(run(run_fold, tasks) if tasks else ())
        finished = {}
        for place in due:
            folds = known[place]
            if folds is None:
                folds = tuple(islice(results, len(states[place])))
                store.save(keys[place], folds)
            finished[place] = folds
        for place, folds in finished.items():
            of = optimisations[place]
            states[place] = [fold.state for fold in folds]
            yield place, join_folds(number, keys[place], of.blueprint, of.examples, of.folds, folds)


def _first_key(of: Optimisation) -> str:
    """What round 0 depends on; of all seeds that the training names, a round depends on its own alone."""
    training = replace(of.training, seeds=(of.seed,))
    return hash_of(
        algorithm_version(), of.examples.digest(), of.folds.tolist(), of.blueprint, training, of.pnao.alpha, of.seed
    )


def _next_key(key: str, pnao: PnaoConfig) -> str:
    return hash_of(key, pnao.naor, pnao.scope, pnao.rewind, pnao.min_nodes)


def _tasks(of: Optimisation, number: int, states: Sequence[dict[str, Tensor] | None]) -> list[FoldTask]:
    training = replace(of.training, seeds=(of.seed,))
    return fold_tasks(of.blueprint, of.examples, of.folds, training, of.pnao, of.seed, number, states)
