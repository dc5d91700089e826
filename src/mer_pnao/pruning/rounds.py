"""A round of Algorithm 1: what it starts from, each fold's task, and what all folds give together.

Shapes: M branches, N training clips, C classes.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, Prediction, from_state
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.keys import derived_seed, hash_of
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import Epoch


@dataclass(frozen=True)
class Optimisation:
    """One run of Algorithm 1: a network, the clips with the fold that holds each out (N,), settings and a seed."""

    blueprint: Blueprint
    examples: Examples
    folds: NDArray[np.int64]
    training: TrainingConfig
    pnao: PnaoConfig
    seed: int


class FoldResult(NamedTuple):
    """What one fold brings out of a round."""

    state: dict[str, Tensor]  # the fold's network at its early-stop point
    curves: tuple[Epoch, ...]
    pruned: int  # nodes removed before this round's training
    held_out: Prediction  # for the clips that the fold holds out


@dataclass(frozen=True)
class Round:
    """A finished round: a network a fold, and the predictions for every clip by the fold that held it out."""

    number: int
    key: str
    blueprint: Blueprint
    folds: tuple[FoldResult, ...]
    out_of_fold: Prediction  # for all N clips, in their order
    scores: Scores  # Train&Val: of the out-of-fold predictions

    @property
    def pruned(self) -> int:
        """Nodes removed before this round's training, over all folds."""
        return sum(fold.pruned for fold in self.folds)

    def networks(self) -> list[EmotionNetwork]:
        """The folds' networks, in eval mode."""
        return [from_state(self.blueprint, fold.state) for fold in self.folds]


@dataclass(frozen=True)
class FoldTask:
    """Everything that one fold's work in one round depends on; it travels to another process."""

    blueprint: Blueprint
    examples: Examples
    held_out: NDArray[np.bool_]  # (N,) the fold's validation clips
    training: TrainingConfig
    initial_seed: int  # of the dense network's weights
    round_seed: int  # of shuffling and dropout
    state: dict[str, Tensor] | None  # the last round's network, to be pruned; None: the first round
    pnao: PnaoConfig

    def clips(self) -> tuple[Examples, Examples]:
        """The clips that the fold trains on, and those that it holds out."""
        rows = (np.flatnonzero(~self.held_out), np.flatnonzero(self.held_out))
        return self.examples.select(rows[0]), self.examples.select(rows[1])

    def initial_network(self, train: Examples) -> EmotionNetwork:
        """The dense network that the fold began with."""
        return initial_network(self.blueprint, self.initial_seed, train)


def initial_network(
    blueprint: Blueprint, seed: int, train: Examples, kept: Mapping[str, Tensor] | None = None
) -> EmotionNetwork:
    """An untrained network that scales by the training clips' statistics; `kept` names its nodes (default: all)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EmotionNetwork(blueprint, kept)
    network.fit_zscore(train.tensors())
    return network


Task = TypeVar("Task")


class MapFolds(Protocol):
    """A `map` of one function over the folds' tasks, in their order; `map` itself is one."""

    def __call__(self, function: Callable[[Task], FoldResult], tasks: Iterable[Task], /) -> Iterable[FoldResult]:
        """Call the function with each task."""
        ...


class RoundStore(Protocol):
    """Where finished rounds are remembered by key: a killed run goes on, a search shares."""

    def load(self, key: str) -> tuple[FoldResult, ...] | None:
        """The folds of a finished round, or None."""
        ...

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Remember a finished round, whole or not at all."""
        ...


@dataclass(frozen=True)
class PlannedRound:
    """A round that is due: its key, and the task of each fold."""

    optimisation: Optimisation
    number: int
    key: str
    tasks: tuple[Any, ...]

    def finish(self, folds: tuple[FoldResult, ...]) -> Round:
        """The folds' results as a round, with its out-of-fold predictions and their scores."""
        of = self.optimisation
        # Held-out predictions come fold by fold; this puts every clip back into its place.
        place = torch.from_numpy(np.argsort(np.argsort(of.folds, kind="stable"), kind="stable"))
        parts = zip(*(fold.held_out for fold in folds), strict=True)
        clip_axis = (1, 1, 1, 0, 0)
        joined = Prediction(
            *(torch.cat(part, dim=axis).index_select(axis, place) for part, axis in zip(parts, clip_axis, strict=True))
        )
        chosen = joined.posterior.argmax(dim=-1).numpy()
        scores = score(of.examples.emotion, chosen, of.examples.valence, joined.valence.numpy())
        return Round(self.number, self.key, of.blueprint, folds, joined, scores)


def next_round(of: Optimisation, version: str, last: Round | None = None) -> PlannedRound:
    """The round after `last`, or the first one; `version` is that of the code that does the folds' work."""
    if last is None:
        key = hash_of(
            version, of.examples.digest(), of.folds.tolist(), of.blueprint, of.training, of.pnao.alpha, of.seed
        )
    else:
        key = hash_of(last.key, of.pnao.of_a_round())
    number = 0 if last is None else last.number + 1
    return PlannedRound(of, number, key, fold_tasks(of, number, last))


def fold_tasks(of: Optimisation, number: int, last: Round | None = None) -> tuple[FoldTask, ...]:
    """Each fold's task in the round `number`, which goes on from the networks of `last` where there is one."""
    return tuple(
        FoldTask(
            of.blueprint,
            of.examples,
            of.folds == fold,
            of.training,
            initial_seed=derived_seed(of.seed, fold, 0),
            round_seed=derived_seed(of.seed, fold, 1 + number),
            state=None if last is None else last.folds[fold].state,
            pnao=of.pnao,
        )
        for fold in range(int(of.folds.max()) + 1)
    )


def trained_or_remembered(
    planned: Iterable[PlannedRound],
    work: Callable[[Any], FoldResult],
    store: RoundStore,
    run: MapFolds = map,
    done: Callable[[int], None] = lambda _: None,
) -> list[Round]:
    """The planned rounds, finished: those that the store does not hold are worked out in one map, and stored.

    `done(1)` is called as each of them is there.
    """
    planned = list(planned)
    known = [store.load(each.key) for each in planned]
    tasks = [task for each, folds in zip(planned, known, strict=True) if folds is None for task in each.tasks]
    results: Iterator[FoldResult] = iter(run(work, tasks) if tasks else ())
    finished = []
    for each, folds in zip(planned, known, strict=True):
        if folds is None:
            folds = tuple(islice(results, len(each.tasks)))
            store.save(each.key, folds)
        finished.append(each.finish(folds))
        done(1)
    return finished


def best_round(rounds: Iterable[tuple[float, int]]) -> int:
    """The position of the best (Train&Val Com, parameters) pair: the highest Com, the smaller network at a tie."""
    pairs = list(rounds)
    return max(range(len(pairs)), key=lambda i: (pairs[i][0], -pairs[i][1]))
