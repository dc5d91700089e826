"""A round of Algorithm 1: each fold's work, and what all folds give together.

Shapes: M branches, N training clips, C classes.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.network.emotion_network import Blueprint, EmotionNetwork, Prediction, from_state
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.keys import derived_seed
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import Epoch, TrainingConfig, constant_floor, fit, predict, warm_cosine


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


class RoundStore(Protocol):
    """Where finished rounds are remembered by key: a killed run goes on, a search shares."""

    def load(self, key: str) -> tuple[FoldResult, ...] | None:
        """The folds of a finished round, or None."""
        ...

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Remember a finished round, whole or not at all."""
        ...


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


Task = TypeVar("Task")


class RunTasks(Protocol):
    """A `map` of one function over the folds' tasks, in their order; `map` itself is one."""

    def __call__(self, function: Callable[[Task], FoldResult], tasks: Iterable[Task], /) -> Iterable[FoldResult]:
        """Call the function with each task."""
        ...


def fold_tasks(
    blueprint: Blueprint,
    examples: Examples,
    folds: NDArray[np.int64],
    training: TrainingConfig,
    pnao: PnaoConfig,
    seed: int,
    number: int,
    states: Sequence[dict[str, Tensor] | None],
) -> list[FoldTask]:
    """The folds' work of the round `number`, from the states that the last round left, if there was one."""
    return [
        FoldTask(
            blueprint,
            examples,
            folds == fold,
            training,
            initial_seed=derived_seed(seed, fold, 0),
            round_seed=derived_seed(seed, fold, 1 + number),
            state=state,
            pnao=pnao,
        )
        for fold, state in enumerate(states)
    ]


def run_fold(task: FoldTask) -> FoldResult:
    """One fold's work in one round: prune (lines 3 and 4) unless it is the first, rewind and train (line 5)."""
    train, validation = task.clips()
    network, pruned = _starting_network(task, train)
    fine_tuning = task.state is not None and task.pnao.rewind == "none"
    schedule = constant_floor if fine_tuning else warm_cosine
    fitted = fit(network, train, validation, task.training, task.pnao.alpha, task.round_seed, schedule)
    trained = from_state(task.blueprint, fitted.state)
    return FoldResult(fitted.state, fitted.curves, pruned, predict(trained, validation.tensors()))


def best_round(rounds: Iterable[tuple[float, int]]) -> int:
    """The position of the best (Train&Val Com, parameters) pair: the highest Com, the smaller network at a tie."""
    pairs = list(rounds)
    return max(range(len(pairs)), key=lambda i: (pairs[i][0], -pairs[i][1]))


def _starting_network(task: FoldTask, train: Examples) -> tuple[EmotionNetwork, int]:
    if task.state is None:
        return initial_network(task.blueprint, task.initial_seed, train), 0
    before = from_state(task.blueprint, task.state)
    layers = before.prunable()
    pnao = task.pnao
    masks = node_masks(importances(layers), pnao.naor, pnao.scope, pnao.min_nodes)
    pruned = sum(int((~mask).sum()) for mask in masks.values())
    after = compact(before, masks)
    if pnao.rewind == "weights":
        after = keep_only(initial_network(task.blueprint, task.initial_seed, train), after.kept())
    return after, pruned


def initial_network(
    blueprint: Blueprint, seed: int, train: Examples, kept: Mapping[str, Tensor] | None = None
) -> EmotionNetwork:
    """An untrained network that scales by the training clips' statistics; `kept` names its nodes (default: all)."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        network = EmotionNetwork(blueprint, kept)
    network.fit_zscore(train.tensors())
    return network


def join_folds(
    number: int,
    key: str,
    blueprint: Blueprint,
    examples: Examples,
    folds: NDArray[np.int64],
    finished: tuple[FoldResult, ...],
) -> Round:
    """The folds' results as a round, with its out-of-fold predictions and their scores."""
    # Held-out predictions come fold by fold; this puts every clip back into its place.
    place = torch.from_numpy(np.argsort(np.argsort(folds, kind="stable"), kind="stable"))
    parts = zip(*(fold.held_out for fold in finished), strict=True)
    clip_axis = (1, 1, 1, 0, 0)
    joined = Prediction(
        *(torch.cat(part, dim=axis).index_select(axis, place) for part, axis in zip(parts, clip_axis, strict=True))
    )
    scores = score(examples.emotion, joined.posterior.argmax(dim=-1).numpy(), examples.valence, joined.valence.numpy())
    return Round(number, key, blueprint, finished, joined, scores)
