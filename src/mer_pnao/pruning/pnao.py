"""Algorithm 1: pruning-based network architecture optimisation (PNAO).

Every fold trains and prunes a network of its own, for a mask learnt on all clips would have seen the held-out ones.
Which round is best is not decided here: see `rounds.best_round`.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace

from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.keys import code_version
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.ratio import naor_of_round
from mer_pnao.pruning.rounds import (
    FoldResult,
    FoldTask,
    MapFolds,
    Optimisation,
    Round,
    RoundStore,
    next_round,
    trained_or_remembered,
)
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import constant_floor, fit, predict, warm_cosine


def optimise_architecture(optimisation: Optimisation, store: RoundStore, run: MapFolds = map) -> Iterator[Round]:
    """Algorithm 1: sparse-train the dense network, then prune, rewind and retrain, round by round.

    Yields round 0 (line 1) and each round after it (lines 2 to 5) as it is finished. `run` maps the folds' work, in
    this process or in others. Rounds that the store holds are not computed again. No rounds and no alpha make a dense
    system.
    """
    for _, finished in optimise_in_step([optimisation], store, run):
        yield finished


def optimise_in_step(
    optimisations: Sequence[Optimisation], store: RoundStore, run: MapFolds = map
) -> Iterator[tuple[int, Round]]:
    """Several runs of Algorithm 1, round by round, so that the folds of one share the processors with the others'.

    Five folds leave one of two processors without work for a sixth of the time, ten do not. Yields (position of the
    optimisation, its round); nothing is being trained while the caller has them.
    """
    going = {place: next_round(of, algorithm_version()) for place, of in enumerate(optimisations)}
    while going:
        finished = dict(zip(going, trained_or_remembered(going.values(), optimise_fold, store, run), strict=True))
        yield from finished.items()
        going = {  # line 6: repeat for N rounds
            place: next_round(optimisations[place], algorithm_version(), last)
            for place, last in finished.items()
            if last.number < optimisations[place].pnao.rounds
        }


def optimise_fold(task: FoldTask) -> FoldResult:
    """One fold's work in one round: line 1 in the first round, lines 2 to 5 in every later one."""
    train, held_out = task.clips()
    pnao, training, pruned, schedule = task.pnao, task.training, 0, warm_cosine
    if task.state is None:
        network = task.initial_network(train)
    else:
        last = from_state(task.blueprint, task.state)
        gamma = importances(last.prunable(pnao.scorers))
        masks = node_masks(gamma, naor_of_round(last, gamma, pnao), pnao.scope, pnao.min_nodes)  # lines 2 and 3
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        network = compact(last, masks)  # line 4
        if pnao.rewind == "weights":
            network = with_initial_weights(network, task, train)
        elif pnao.rewind == "none":
            schedule = constant_floor
        if not pnao.stop_early:  # as Renda et al. rewind: patience would end many in their warm-up
            training = replace(training, patience=training.epochs)
    fitted = fit(network, train, held_out, training, pnao.alpha, task.round_seed, schedule)  # lines 1 and 5
    return FoldResult(
        fitted.state, fitted.curves, pruned, predict(from_state(task.blueprint, fitted.state), held_out.tensors())
    )


def with_initial_weights(network: EmotionNetwork, task: FoldTask, train: Examples) -> EmotionNetwork:
    """The nodes of a network with the weights that the dense one began with: the control of learning-rate rewinding."""
    return keep_only(task.initial_network(train), network.kept(scorers=True))


def algorithm_version() -> str:
    """What a round's result depends on beside its task: a remembered round must not answer for other code."""
    return code_version(__name__)
