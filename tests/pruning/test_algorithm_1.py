"""Algorithm 1 against a slow loop written from the paper, and the traps on its way.

The loop goes fold by fold instead of round by round, keeps no store and learns its masks in numpy; training and surgery
are `fit` and `compact`, which have oracles of their own. What it computes must come out of the algorithm bit by bit.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_squared_error
from torch import Tensor

from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.pnao import optimise_architecture, optimise_fold
from mer_pnao.pruning.rounds import FoldResult, FoldTask, Optimisation, Round, best_round
from mer_pnao.pruning.surgery import compact, keep_only
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import fit, predict
from mer_pnao.training.folds import make_folds

FOLDS, EAGER = 2, 30
TRAINING = TrainingConfig(epochs=3, batch=24, learning_rate=5e-3, warmup=0.3, floor=0.05, patience=3)
PNAO = PnaoConfig(naor=0.5, alpha=1e-3, rounds=2, min_nodes=2)


class Forgetful:
    """A store that holds no round."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        pass


@pytest.fixture
def folds(examples: Examples) -> np.ndarray:
    return make_folds(examples.emotion, examples.speakers, FOLDS, 0)


def run(
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
    pnao: PnaoConfig = PNAO,
    training: TrainingConfig = TRAINING,
    seed: int = 0,
) -> tuple[list[Round], list[list[FoldTask]]]:
    """All rounds, and each round's tasks, a fold each."""
    tasks: list[list[FoldTask]] = []

    def watched(work: Callable[[FoldTask], FoldResult], todo: Iterable[FoldTask]) -> Iterable[FoldResult]:
        tasks.append(list(todo))
        return map(work, tasks[-1])

    optimisation = Optimisation(blueprint, examples, folds, training, pnao, seed)
    return list(optimise_architecture(optimisation, Forgetful(), watched)), tasks


def slow_fold(task: FoldTask, round_seeds: list[int]) -> list[FoldResult]:
    """Algorithm 1 for one fold, line by line."""
    rows = range(len(task.examples))
    train = task.examples.select(np.array([i for i in rows if not task.held_out[i]]))
    validation = task.examples.select(np.array([i for i in rows if task.held_out[i]]))

    def initial() -> EmotionNetwork:
        torch.manual_seed(task.initial_seed)
        network = EmotionNetwork(task.blueprint)
        network.fit_zscore(train.tensors())
        return network

    def trained(network: EmotionNetwork, seed: int, pruned: int, **schedule: Callable[..., float]) -> FoldResult:
        # A rewound schedule is run out, unless it is to stop early; the best epoch is chosen all the same.
        patience = task.training.patience if seed == round_seeds[0] or task.pnao.stop_early else 10**4
        training = replace(task.training, patience=patience)
        done = fit(network, train, validation, training, task.pnao.alpha, seed, **schedule)  # type: ignore[arg-type]
        held_out = predict(from_state(task.blueprint, done.state), validation.tensors())
        return FoldResult(done.state, done.curves, pruned, held_out)

    results = [trained(initial(), round_seeds[0], 0)]  # line 1: to the early-stop point, sparsely
    for seed in round_seeds[1:]:  # line 6
        before = from_state(task.blueprint, results[-1].state)
        masks = learnt_masks(before, task.pnao)  # lines 2 and 3
        pruned = sum(int((~mask).sum()) for mask in masks.values())
        network = compact(before, masks)  # line 4
        match task.pnao.rewind:  # line 5
            case "learning_rate":  # these weights, a new optimiser, the schedule from its start
                results.append(trained(network, seed, pruned))
            case "weights":  # the first weights of the nodes that are left
                results.append(trained(keep_only(initial(), network.kept(scorers=True)), seed, pruned))
            case "none":  # these weights, at the schedule's last rate
                last = task.training.learning_rate * task.training.floor
                results.append(trained(network, seed, pruned, schedule=lambda *_, last=last: last))
    return results


def learnt_masks(network: EmotionNetwork, pnao: PnaoConfig) -> dict[str, Tensor]:
    """Equations 10 and 11 in numpy, float64."""
    gamma = {
        name: np.array([sum(abs(w) for w in row) / len(row) for row in layer.weight.detach().double().numpy()])
        for name, layer in network.prunable(pnao.scorers).items()
    }
    masks = {}
    for name, values in gamma.items():
        highest = max(map(max, gamma.values())) if pnao.scope == "network" else max(values)
        mask = values >= pnao.naor * highest
        if mask.sum() < pnao.min_nodes:
            mask = values >= sorted(values)[-pnao.min_nodes]
        masks[name] = torch.from_numpy(mask)
    return masks


def assert_same(got: FoldResult, want: FoldResult) -> None:
    assert got.pruned == want.pruned
    assert got.curves == want.curves
    assert set(got.state) == set(want.state)
    assert all(torch.equal(value, want.state[name]) for name, value in got.state.items())
    assert all(torch.equal(a, b) for a, b in zip(got.held_out, want.held_out, strict=True))


@pytest.mark.parametrize(
    ("change", "fusion", "scorer"),
    [
        ({}, "entropy", "tanh"),
        ({"scope": "layer", "naor": 0.6}, "attention", "linear"),
        ({"rewind": "weights", "naor": 0.4}, "attention", "mlp"),
        ({"rewind": "none", "naor": 0.4}, "entropy", "linear"),
        ({"naor": 0.4}, "mean", "tanh"),
        ({"scorers": True, "naor": 0.7}, "entropy", "mlp"),
        ({"scorers": True, "rewind": "weights", "scope": "layer", "naor": 0.7}, "mean", "tanh"),
    ],
)
def test_the_rounds_are_the_slow_loops_bit_by_bit(
    change: dict[str, object],
    fusion: str,
    scorer: str,
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
) -> None:
    plan = replace(blueprint, fusion=fusion, config=replace(blueprint.config, scorer=scorer))
    rounds, tasks = run(plan, examples, folds, replace(PNAO, **change))  # type: ignore[arg-type]
    assert [each.number for each in rounds] == [0, 1, 2]
    for fold in range(FOLDS):
        slow = slow_fold(tasks[0][fold], [of_round[fold].round_seed for of_round in tasks])
        for fast, want in zip(rounds, slow, strict=True):
            assert_same(fast.folds[fold], want)
            rows = np.flatnonzero(folds == fold)
            assert torch.equal(fast.out_of_fold.posterior[rows], want.held_out.posterior)
        assert slow[1].pruned > 0
    if not change:
        assert rounds[2].pruned > 0  # so that there was something to get wrong


@pytest.mark.parametrize("stop_early", [False, True])
def test_patience_ends_the_first_round_and_later_ones_on_request_alone(
    stop_early: bool, blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """A rewound schedule is run out, whatever becomes of the scores in its warm-up."""
    eager = replace(TRAINING, epochs=EAGER, patience=1)
    rounds, tasks = run(blueprint, examples, folds, replace(PNAO, naor=0.4, stop_early=stop_early), eager)
    for fold in range(FOLDS):
        slow = slow_fold(tasks[0][fold], [of_round[fold].round_seed for of_round in tasks])
        for fast, want in zip(rounds, slow, strict=True):
            assert_same(fast.folds[fold], want)
    epochs = [[len(fold.curves) for fold in each.folds] for each in rounds]
    assert min(epochs[0]) < EAGER
    assert (min(map(min, epochs[1:])) < EAGER) == stop_early


def test_every_fold_is_pruned_by_its_own_weights(blueprint: Blueprint, examples: Examples, folds: np.ndarray) -> None:
    """Of two folds' masks, each is that of its own network and not of the other's."""
    rounds, _ = run(blueprint, examples, folds, replace(PNAO, rounds=1))
    dense, pruned = (each.networks() for each in rounds)
    own = [learnt_masks(network, PNAO) for network in dense]
    for fold, network in enumerate(pruned):
        for name, kept in network.kept().items():
            assert kept.tolist() == torch.nonzero(own[fold][name])[:, 0].tolist()
    names = list(own[0])
    assert not all(torch.equal(own[0][name], own[1][name]) for name in names)


def test_no_seed_is_used_twice_and_the_first_weights_are_a_folds_own(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    config = replace(TRAINING, epochs=1)
    tasks = run(blueprint, examples, folds, PNAO, config)[1]
    others = run(blueprint, examples, folds, PNAO, config, seed=1)[1]
    for of_rounds in (tasks, others):
        for of_fold in zip(*of_rounds, strict=True):
            assert len({task.initial_seed for task in of_fold}) == 1  # `rewind: weights` finds them again
    initial = {task.initial_seed for of_rounds in (tasks, others) for task in of_rounds[0]}
    shuffling = {task.round_seed for of_rounds in (tasks, others) for tasks in of_rounds for task in tasks}
    assert len(initial) == 2 * FOLDS
    assert len(shuffling) == 2 * 3 * FOLDS
    assert not initial & shuffling


def schedule_by_formula(step: int, steps: int, config: TrainingConfig) -> float:
    """Linear from nothing to the peak over the warm-up's steps, then half a cosine to the floor at the last step."""
    rising = round(config.warmup * steps)
    if step < rising:
        return (step + 1) / (rising + 1) * config.learning_rate
    low = config.floor * config.learning_rate
    turned = math.pi * (step - rising) / (steps - 1 - rising)
    return low + (config.learning_rate - low) * (1 + math.cos(turned)) / 2


@pytest.mark.parametrize("batch", [1000, 16])
def test_every_round_runs_through_the_schedule_from_its_first_step(
    batch: int, blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Trap 5. With one batch an epoch the curves hold every step's rate, else each epoch's last."""
    config = replace(TRAINING, epochs=5, batch=batch, patience=5)
    rounds, _ = run(blueprint, examples, folds, PNAO, config)
    for each in rounds:
        for number, fold in enumerate(each.folds):
            updates = max(1, int((folds != number).sum()) // batch)
            want = [schedule_by_formula((epoch + 1) * updates - 1, 5 * updates, config) for epoch in range(5)]
            assert [epoch.learning_rate for epoch in fold.curves] == pytest.approx(want, rel=1e-12)
            assert max(want) > 5 * want[-1]  # no constant rate, of which a rewind would be a mere restart


def test_a_rewound_round_has_a_new_optimiser_and_new_deltas(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Trap 5, by Adam's first step: whatever came before, it moves a weight by at most the rate.

    With moments carried over it would move by another amount. The deltas start at 1 and take one step too.
    """
    config = replace(TRAINING, epochs=1, batch=1000, warmup=0.0, weight_decay=0.0)
    rounds, _ = run(blueprint, examples, folds, replace(PNAO, naor=0.0), config)
    rate = config.learning_rate
    for before, after in ((rounds[0], rounds[1]), (rounds[1], rounds[2])):
        for fold in range(FOLDS):
            old, new = before.folds[fold].state, after.folds[fold].state
            steps = torch.cat(
                [(new[name] - old[name]).abs().flatten() for name in old if name.endswith(("weight", "bias"))]
            )
            assert steps.max().item() == pytest.approx(rate, rel=1e-3)
            assert (steps > 0.99 * rate).float().mean() > 0.5
            (epoch,) = after.folds[fold].curves
            assert abs(math.log(epoch.delta1)) == pytest.approx(rate, rel=1e-4)
            assert abs(math.log(epoch.delta2)) == pytest.approx(rate, rel=1e-4)


@pytest.mark.parametrize("fusion", ["entropy", "attention"])
@pytest.mark.parametrize("scorer", ["tanh", "linear", "mlp"])
def test_heads_have_no_part_in_the_maximum(
    fusion: str, scorer: str, blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Trap 1: thirty times larger scorers, decoders and decision fusion change no mask."""
    plan = replace(blueprint, fusion=fusion, config=replace(blueprint.config, scorer=scorer))
    config = replace(TRAINING, epochs=1)
    task = FoldTask(plan, examples, folds == 0, config, 1, 2, None, PNAO)
    state, heads = optimise_fold(task).state, (".scorer.", ".decoder.", "fusion.")
    loud = {
        name: 30 * value if value.is_floating_point() and any(head in name for head in heads) else value
        for name, value in state.items()
    }
    assert any(not torch.equal(loud[name], state[name]) for name in state)
    quiet_result, loud_result = (optimise_fold(replace(task, state=of)) for of in (state, loud))
    assert quiet_result.pruned == loud_result.pruned > 0
    for name in (name for name in state if name.endswith("_kept")):
        assert torch.equal(quiet_result.state[name], loud_result.state[name])


@pytest.mark.parametrize("fusion", ["entropy", "attention"])
@pytest.mark.parametrize("scorer", ["tanh", "linear", "mlp"])
def test_inputs_and_heads_stay_and_no_layer_is_emptied(
    fusion: str, scorer: str, blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Trap 4, at a NAOR that leaves nothing but the largest node: `min_nodes` of every layer survive all rounds."""
    plan = replace(blueprint, fusion=fusion, config=replace(blueprint.config, scorer=scorer))
    rounds, _ = run(plan, examples, folds, replace(PNAO, naor=1.0), replace(TRAINING, epochs=1))
    dense = EmotionNetwork(plan).state_dict()
    for network in rounds[-1].networks():
        assert {len(kept) for kept in network.kept().values()} == {PNAO.min_nodes}
        for name, value in network.state_dict().items():
            if name.endswith("inner.weight") and ".modalities." in name:
                assert value.shape[1] == dense[name].shape[1], name  # the inputs
            elif name.endswith("weight") and ".modalities." not in name:
                assert value.shape[0] == dense[name].shape[0], name  # the heads' own rows


def test_importances_are_means_and_not_sums(examples: Examples, folds: np.ndarray) -> None:
    """Trap 2: of equal weights a 200-wide set's layer is not spared, nor a narrow one's emptied, for the width."""
    draw = np.random.default_rng(0)
    wide = draw.standard_normal((len(examples), 200)).astype(np.float32)
    features = {"a": examples.features["a"][:, :2], "v": wide}
    plan = Blueprint({"a": 2, "v": 200}, ("a",), ("v",), 3, "entropy", NetworkConfig(10, 8, 0.0))
    task = FoldTask(
        plan, replace(examples, features=features), folds == 0, replace(TRAINING, epochs=1), 1, 2, None, PNAO
    )
    state = dict(optimise_fold(task).state)
    inner = {name: f"branches.a.gathering.modalities.{name}.inner.weight" for name in "av"}
    outer = {name: f"branches.a.gathering.modalities.{name}.outer.weight" for name in "av"}
    for name in (*inner.values(), *outer.values()):
        state[name] = torch.full_like(state[name], 0.1)
    state[inner["a"]][3:5] = 0.01  # two nodes of the narrow layer fall, by equation 11 at k = .75
    pruned = optimise_fold(replace(task, state=state))
    assert pruned.pruned == 2
    assert pruned.state["branches.a.gathering.modalities.a.inner_kept"].tolist() == [0, 1, 2, 5, 6, 7, 8, 9]
    assert len(pruned.state["branches.a.gathering.modalities.v.inner_kept"]) == 10


def test_without_pruning_the_rounds_are_the_dense_network_trained_on(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Trap 7's control: at NAOR 0 every round has as many epochs as PNAO's, through the same rewinds."""
    rounds, tasks = run(blueprint, examples, folds, replace(PNAO, naor=0.0))
    for fold in range(FOLDS):
        for want, result in zip(
            slow_fold(tasks[0][fold], [of_round[fold].round_seed for of_round in tasks]),
            (each.folds[fold] for each in rounds),
            strict=True,
        ):
            assert_same(result, want)
            assert result.pruned == 0
    assert {name: len(kept) for name, kept in rounds[2].networks()[0].kept().items()} == {
        name: layer.out_features for name, layer in EmotionNetwork(blueprint).prunable().items()
    }
    assert not torch.equal(rounds[2].out_of_fold.posterior, rounds[1].out_of_fold.posterior)


def test_the_best_round_by_exhaustion() -> None:
    draw = np.random.default_rng(0)
    for _ in range(200):
        count = int(draw.integers(1, 8))
        pairs = [(float(draw.integers(3)) / 7, int(draw.integers(3))) for _ in range(count)]
        best = best_round(pairs)
        assert not any(com > pairs[best][0] for com, _ in pairs)
        assert not any(com == pairs[best][0] and size < pairs[best][1] for com, size in pairs)
        assert pairs[best] not in pairs[:best]  # of equals the earlier


def test_a_rounds_scores_are_those_of_its_out_of_fold_decisions(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    for each in run(blueprint, examples, folds, replace(PNAO, rounds=1))[0]:
        chosen = each.out_of_fold.posterior.numpy().argmax(axis=1)
        dis = f1_score(examples.emotion, chosen, average="weighted", zero_division=0)
        dim = mean_squared_error(examples.valence, each.out_of_fold.valence.numpy())
        assert (each.scores.dis, each.scores.dim, each.scores.com) == pytest.approx((dis, dim, dis - 0.25 * dim))
