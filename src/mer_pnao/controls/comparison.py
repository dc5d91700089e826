"""PNAO and its controls at equal total epochs, folds, seed and size.

A size is a round r of PNAO. Every method gets r + 1 segments for it: trainings over the whole schedule without an
early stop. What two methods or two sizes share is trained once, and every segment is remembered by its key.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

from mer_pnao.controls.group_norm import VERSION
from mer_pnao.controls.methods import ControlTask, run_control
from mer_pnao.controls.names import AT_ONCE, DENSE, GRADUAL, PNAO
from mer_pnao.network.emotion_network import kept_in_state
from mer_pnao.pruning.keys import code_version, hash_of
from mer_pnao.pruning.pnao import optimise_architecture
from mer_pnao.pruning.rounds import (
    MapFolds,
    Optimisation,
    PlannedRound,
    Round,
    RoundStore,
    fold_tasks,
    trained_or_remembered,
)


class Contender(NamedTuple):
    """One method at one size."""

    method: str
    size: int  # PNAO's round that it was brought to
    epochs: int  # in which each of its networks was trained, from the initial weights on
    result: Round


@dataclass(frozen=True)
class Trial:
    """What all methods of a comparison have in common."""

    optimisation: Optimisation
    sizes: tuple[int, ...]  # PNAO's rounds whose sizes every method is brought to, rising
    group_norm: float  # strength of Torch-Pruning's group regulariser
    store: RoundStore
    run: MapFolds = map
    done: Callable[[int], None] = lambda _: None  # told of every finished segment


def segments(sizes: tuple[int, ...]) -> int:
    """The number of segments that `compare_methods` trains or remembers, over all folds each."""
    gradual = (2 + len(GRADUAL)) * max(sizes) + 2  # with PNAO and the dense network, whose first ones start the others
    return gradual + len(AT_ONCE) * sum(sizes) + len(sizes) + 1  # scratch starts once a size, the group norm once


def compare_methods(trial: Trial) -> Iterator[Contender]:
    """Yield every method at every size as it is finished; PNAO and the dense network come first.

    PNAO is the paper's, with learning-rate rewinding, whatever the settings name; the dense network is never sparse.
    """
    sizes = trial.sizes
    of = trial.optimisation
    of = replace(
        of,
        training=replace(of.training, patience=of.training.epochs),  # so many are never waited for
        pnao=replace(of.pnao, rounds=max(sizes), rewind="learning_rate", scorers=False),
    )
    trial = replace(trial, optimisation=of)
    pnao = _rounds(trial, of)
    yield from _at_sizes(PNAO, sizes, pnao)
    dense = _rounds(trial, replace(of, pnao=replace(of.pnao, alpha=0.0, naor=0.0, rule="naor")))
    yield from _at_sizes(DENSE, sizes, dense)
    penalised: list[Round] = []
    scratch: dict[int, list[Round]] = {size: [] for size in sizes}
    _extend(trial, [("group_norm", penalised, dense[0]), *(("scratch", scratch[size], pnao[size]) for size in sizes)])
    chains = {(method, max(sizes)): [dense[0] if method == "unstructured" else pnao[0]] for method in GRADUAL}
    chains |= {("scratch", size): chain for size, chain in scratch.items()}
    chains |= {("one_shot_l1", size): [dense[0]] for size in sizes}
    chains |= {("group_norm", size): [*penalised] for size in sizes}
    for number in range(1, max(sizes) + 1):
        going = [(method, size, chain) for (method, size), chain in chains.items() if number <= size]
        _extend(trial, [(method, chain, pnao[number if method in GRADUAL else size]) for method, size, chain in going])
    for (method, size), chain in chains.items():
        yield from _at_sizes(method, sizes if method in GRADUAL else (size,), chain)


def _rounds(trial: Trial, of: Optimisation) -> list[Round]:
    rounds = []
    for finished in optimise_architecture(of, trial.store, trial.run):
        rounds.append(finished)
        trial.done(1)
    return rounds


def _at_sizes(method: str, sizes: tuple[int, ...], chain: Sequence[Round]) -> Iterator[Contender]:
    for size in sizes:
        yield Contender(method, size, _epochs(chain[: size + 1]), chain[size])


def _epochs(chain: Sequence[Round]) -> int:
    """The epochs of each network; they are the same in every fold, for nothing stops early."""
    (epochs,) = {sum(len(each.folds[fold].curves) for each in chain) for fold in range(len(chain[0].folds))}
    return epochs


def _extend(trial: Trial, chains: Sequence[tuple[str, list[Round], Round]]) -> None:
    """Train or remember the next segment of each (method, its segments so far, target), and append it.

    The target is PNAO's round of the size that the method has or gets here; its key covers what all methods share.
    The work of all chains is mapped at once, so that no process waits for the last fold of each.
    """
    planned = [_planned(trial, *each) for each in chains]
    finished = trained_or_remembered(planned, run_control, trial.store, trial.run, trial.done)
    for (_, rounds, _), segment in zip(chains, finished, strict=True):
        rounds.append(segment)


def _planned(trial: Trial, method: str, rounds: Sequence[Round], target: Round) -> PlannedRound:
    last = rounds[-1] if rounds else None
    own = (trial.group_norm, VERSION) if method == "group_norm" else ()
    version = code_version(__name__)
    key = hash_of(version, target.key, last and last.key, method, len(rounds), *own)
    tasks = tuple(
        ControlTask(method, len(rounds), task, kept_in_state(of_pnao.state), trial.group_norm)
        for task, of_pnao in zip(fold_tasks(trial.optimisation, len(rounds), last), target.folds, strict=True)
    )
    return PlannedRound(trial.optimisation, len(rounds), key, tasks)
