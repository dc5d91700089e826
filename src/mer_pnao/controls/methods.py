"""One fold's work in one segment of a control.

A segment is one training over the whole schedule. Every method starts from PNAO's initial weights, sees PNAO's order
of clips and dropout in each segment, and differs in what the docstrings here say.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from mer_pnao.controls.group_norm import GroupNorm
from mer_pnao.controls.selection import (
    drawn_at_random,
    masks_of_size,
    most_important,
    nonzero_parameters,
    smallest_zeroed,
)
from mer_pnao.network.emotion_network import EmotionNetwork, from_state, kept_in_state
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.keys import derived_seed
from mer_pnao.pruning.rounds import FoldResult, FoldTask, initial_network
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import BeforeStep, EpochCallback, Schedule, constant_floor, fit, predict, warm_cosine


@dataclass(frozen=True)
class ControlTask:
    """Everything that one fold's work in one segment depends on; it travels to another process."""

    method: str
    number: int  # of the segment, from 0
    fold: FoldTask
    target: Mapping[str, Tensor]  # the nodes that the fold's PNAO kept: prunable layer -> dense indices
    group_norm: float  # strength of its regulariser


class Start(NamedTuple):
    """The network that a segment starts from, and how it is trained."""

    network: EmotionNetwork
    alpha: float = 0.0
    schedule: Schedule = warm_cosine
    callbacks: Sequence[EpochCallback] = ()
    before_step: Sequence[BeforeStep] = ()


def run_control(task: ControlTask) -> FoldResult:
    """Start as the method says, then train for all epochs and keep the best one by validation Com."""
    fold = task.fold
    train, validation = fold.clips()
    start = _STARTS[task.method](task, train)
    before = fold.state or start.network.state_dict()
    pruned = _nodes(before) - _nodes(start.network.state_dict())
    fitted = fit(
        start.network,
        train,
        validation,
        fold.training,
        start.alpha,
        fold.round_seed,
        start.schedule,
        callbacks=start.callbacks,
        before_step=start.before_step,
    )
    trained = from_state(fold.blueprint, fitted.state)
    return FoldResult(fitted.state, fitted.curves, pruned, predict(trained, validation.tensors()))


def weight_rewinding(task: ControlTask, train: Examples) -> Start:
    """As PNAO with its own importances, but the kept weights go back to their initial values."""
    kept = _own_choice(task).kept()
    return Start(keep_only(task.fold.initial_network(train), kept), task.fold.pnao.alpha)


def fine_tuning(task: ControlTask, train: Examples) -> Start:
    """As PNAO with its own importances, but the learning rate stays the schedule's last one."""
    return Start(_own_choice(task), task.fold.pnao.alpha, constant_floor)


def random(task: ControlTask, train: Examples) -> Start:
    """As PNAO, but the nodes that go are drawn at random."""
    kept = drawn_at_random(task.fold.blueprint, task.target, derived_seed(task.fold.initial_seed, 2))
    return Start(keep_only(_last(task), kept), task.fold.pnao.alpha)


def unstructured(task: ControlTask, train: Examples) -> Start:
    """The smallest weights anywhere become zero and stay so; nothing else pushes weights to zero."""
    network = smallest_zeroed(_last(task), nonzero_parameters(_target(task)))
    return Start(network, before_step=[keep_zeros(network)])


def one_shot_l1(task: ControlTask, train: Examples) -> Start:
    """The dense network is cut to the size once, by PNAO's importance, and then trained on."""
    network = _last(task)
    return Start(_cut(task, network, importances(network.prunable())) if task.number == 1 else network)


def group_norm(task: ControlTask, train: Examples) -> Start:
    """The dense network is trained with the group penalty, cut to the size once by group norm, and trained on."""
    if task.fold.state is None:
        network = task.fold.initial_network(train)
        pruner = GroupNorm(network, task.group_norm)
        return Start(network, callbacks=[pruner.epoch_ended], before_step=[pruner.regularise])
    network = _last(task)
    if task.number > 1:
        return Start(network)
    return Start(_cut(task, network, GroupNorm(network, task.group_norm).importances()))


def scratch(task: ControlTask, train: Examples) -> Start:
    """PNAO's compact architecture with other random weights from the first segment on."""
    if task.fold.state is not None:
        return Start(_last(task))
    seed = derived_seed(task.fold.initial_seed, 1)
    return Start(initial_network(task.fold.blueprint, seed, train, task.target))


_STARTS: dict[str, Callable[[ControlTask, Examples], Start]] = {
    start.__name__: start
    for start in (weight_rewinding, fine_tuning, random, unstructured, scratch, one_shot_l1, group_norm)
}


def keep_zeros(network: EmotionNetwork) -> BeforeStep:
    """What keeps the weights that are zero now at exactly zero.

    Without a gradient AdamW has no momentum for them, and its decay multiplies them.
    """
    masks = [matrix != 0 for matrix in network.weight_matrices()]

    def mask_gradients(network: EmotionNetwork) -> None:
        for matrix, mask in zip(network.weight_matrices(), masks, strict=True):
            if matrix.grad is not None:
                matrix.grad.mul_(mask)

    return mask_gradients


def _last(task: ControlTask) -> EmotionNetwork:
    """The network that the last segment left."""
    assert task.fold.state is not None
    return from_state(task.fold.blueprint, task.fold.state)


def _target(task: ControlTask) -> EmotionNetwork:
    """A network of PNAO's size."""
    with torch.random.fork_rng(devices=[]):
        return EmotionNetwork(task.fold.blueprint, task.target)


def _own_choice(task: ControlTask) -> EmotionNetwork:
    """The last network without its least important nodes, as many as PNAO's a layer stay."""
    network, counts = _last(task), {name: len(nodes) for name, nodes in task.target.items()}
    return compact(network, most_important(importances(network.prunable()), counts))


def _cut(task: ControlTask, network: EmotionNetwork, importance: Mapping[str, Tensor]) -> EmotionNetwork:
    goal = nonzero_parameters(_target(task))
    return compact(network, masks_of_size(network, importance, goal, task.fold.pnao.min_nodes))


def _nodes(state: Mapping[str, Tensor]) -> int:
    return sum(len(nodes) for nodes in kept_in_state(state).values())
