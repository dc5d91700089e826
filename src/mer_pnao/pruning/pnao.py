"""Pruning-based network architecture optimisation (Algorithm 1).

Shapes: M branches, N training clips, C classes.
"""

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from mer_pnao.checks import at_least, between, one_of
from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.network.emotion_network import Blueprint, EmotionNetwork, Prediction, from_state
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.mask import SCOPES, node_masks
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import Epoch, TrainingConfig, constant_floor, fit, predict, warm_cosine

REWINDS = ("learning_rate", "weights", "none")


@dataclass(frozen=True)
class PnaoConfig:
    """Algorithm 1's settings. Raises ValueError naming key, value and range."""

    naor: float = 0.05  # k of eq. 11, the paper's
    alpha: float = 1e-4  # weight of the L1 term of eq. 8; the paper gives none
    rounds: int = 10  # N of line 6, the paper's
    scope: str = "network"  # where eq. 11 takes its maximum
    rewind: str = "learning_rate"  # the paper's; "weights" and "none" are controls
    min_nodes: int = 4  # an emptied layer would kill its branch

    def __post_init__(self) -> None:
        between("naor", self.naor, 0, 1)
        at_least("alpha", self.alpha, 0)
        between("rounds", self.rounds, 0, 99)
        one_of("scope", self.scope, SCOPES)
        one_of("rewind", self.rewind, REWINDS)
        at_least("min_nodes", self.min_nodes, 1)


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


def algorithm_version() -> str:
    """A digest of the code and of the torch version that a round's result depends on.

    DVC runs a stage again when the code of the science changes; a stored round must then not answer for the old code.
    """
    return code_version("evaluation", "network", "pruning", "training")


@cache
def code_version(*folders: str) -> str:
    """A digest of the code in these folders of the package, and of the torch version."""
    package = Path(__file__).parents[1]
    files = [package / "precision.py"]
    files += [path for folder in folders for path in sorted((package / folder).glob("*.py"))]
    digests = [
        f"{path.relative_to(package).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files
    ]
    parts = [torch.__version__, *digests]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


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


def derived_seed(*parts: int) -> int:
    """A seed of its own for each tuple of whole numbers of one length."""
    # Of one length: the sequence pads with zeros, so that of (seed, fold) is that of (seed, fold, 0).
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def hash_of(*parts: Any) -> str:
    """A hash of plain values and of dataclasses of them."""

    def plain(value: Any) -> Any:
        return asdict(value) if hasattr(value, "__dataclass_fields__") else value

    return hashlib.sha256(json.dumps([plain(part) for part in parts], sort_keys=True).encode()).hexdigest()
