"""Algorithm 1: rounds shrink, rewind as told, repeat, resume, and never see what they hold out."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.pruning import pnao as algorithm
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.pnao import optimise_architecture, optimise_fold, optimise_in_step
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import FoldTask, Optimisation, Round, best_round
from mer_pnao.systems.cost import parameters
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import predict
from mer_pnao.training.folds import make_folds

TRAINING = TrainingConfig(epochs=4, batch=16, learning_rate=5e-3, patience=4)
PNAO = PnaoConfig(naor=0.75, alpha=1e-3, rounds=2, min_nodes=2)


@pytest.fixture
def folds(examples: Examples) -> np.ndarray:
    return make_folds(examples.emotion, examples.speakers, 3, 0)


def run(
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
    root: Path,
    pnao: PnaoConfig = PNAO,
    **kwargs: object,
) -> list[Round]:
    optimisation = Optimisation(blueprint, examples, folds, TRAINING, pnao, 0)
    return list(optimise_architecture(optimisation, DiskRoundStore(root), **kwargs))  # type: ignore[arg-type]


def assert_same(first: list[Round], second: list[Round]) -> None:
    for a, b in zip(first, second, strict=True):
        assert a.key == b.key
        assert a.scores == b.scores
        for fold_a, fold_b in zip(a.folds, b.folds, strict=True):
            assert fold_a.curves == fold_b.curves
            assert fold_a.pruned == fold_b.pruned
            assert all(torch.equal(fold_a.state[name], fold_b.state[name]) for name in fold_a.state)
        for x, y in zip(a.out_of_fold, b.out_of_fold, strict=True):
            assert torch.equal(x, y)


def test_rounds_shrink_and_say_by_how_much(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    rounds = run(blueprint, examples, folds, tmp_path)
    assert [r.number for r in rounds] == [0, 1, 2]
    assert rounds[0].pruned == 0
    for before, after in pairwise(rounds):
        for fold_before, fold_after, big, small in zip(
            before.folds, after.folds, before.networks(), after.networks(), strict=True
        ):
            nodes = [sum(len(kept) for kept in network.kept().values()) for network in (big, small)]
            assert nodes[0] - nodes[1] == fold_after.pruned
            assert parameters(small) < parameters(big) or fold_after.pruned == 0
            assert set(fold_before.state) == set(fold_after.state)
    assert rounds[1].pruned > 0


def test_the_nodes_kept_are_those_of_equation_11(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    rounds = run(blueprint, examples, folds, tmp_path)
    for big, small in zip(rounds[0].networks(), rounds[1].networks(), strict=True):
        masks = node_masks(importances(big.prunable()), PNAO.naor, min_nodes=PNAO.min_nodes)
        for name, kept in small.kept().items():
            assert torch.equal(kept, big.kept()[name][masks[name]])


def test_out_of_fold_predictions_come_from_the_fold_that_held_the_clip_out(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    last = run(blueprint, examples, folds, tmp_path)[-1]
    inputs = examples.tensors()
    for number, network in enumerate(last.networks()):
        rows = np.flatnonzero(folds == number)
        own = predict(network, {name: values[rows] for name, values in inputs.items()})
        assert torch.equal(last.out_of_fold.posterior[rows], own.posterior)
        assert torch.equal(last.out_of_fold.log_posteriors[:, rows], own.log_posteriors)
        assert torch.equal(last.out_of_fold.weights[:, rows], own.weights)
        assert torch.equal(last.out_of_fold.valence[rows], own.valence)


def test_a_fold_never_trains_on_what_it_holds_out_nor_on_its_speakers(
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[tuple[set[str], set[str]]] = []
    real = algorithm.fit

    def watched(network: EmotionNetwork, train: Examples, validation: Examples, *rest: object) -> object:
        assert not set(train.names) & set(validation.names)
        assert train.speakers is not None
        assert validation.speakers is not None
        seen.append((set(train.speakers), set(validation.speakers)))
        return real(network, train, validation, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(algorithm, "fit", watched)
    run(blueprint, examples, folds, tmp_path)
    assert len(seen) == 9
    assert all(not train & held_out for train, held_out in seen)


def test_held_out_labels_and_features_do_not_reach_the_weights(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """With the stopping epoch fixed, whatever the held-out clips hold, their fold's network is the same."""
    held_out = folds == 0
    spoilt = Examples(
        examples.names,
        {name: np.where(held_out[:, None], 9.0, v).astype(np.float32) for name, v in examples.features.items()},
        np.where(held_out, 0, examples.emotion),
        np.where(held_out, 4.0, examples.valence).astype(np.float32),
        examples.speakers,
        examples.classes,
    )
    one_epoch = replace(TRAINING, epochs=1)
    states = [
        optimise_fold(FoldTask(blueprint, of, held_out, one_epoch, 1, 2, None, PNAO)).state for of in (examples, spoilt)
    ]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])


@pytest.mark.parametrize("rewind", ["learning_rate", "weights", "none"])
def test_rewinding(
    rewind: str,
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
    masked: Callable[[EmotionNetwork, dict[str, torch.Tensor]], EmotionNetwork],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    starts: list[dict[str, torch.Tensor]] = []
    schedules: list[str] = []
    real = algorithm.fit

    def watched(network: EmotionNetwork, *rest: object) -> object:
        starts.append({name: value.clone() for name, value in network.state_dict().items()})
        schedules.append(rest[-1].__name__)  # type: ignore[attr-defined]
        return real(network, *rest)  # type: ignore[arg-type]

    monkeypatch.setattr(algorithm, "fit", watched)
    pnao = replace(PNAO, rewind=rewind)
    first = optimise_fold(FoldTask(blueprint, examples, folds == 0, TRAINING, 1, 2, None, pnao))
    optimise_fold(FoldTask(blueprint, examples, folds == 0, TRAINING, 1, 3, first.state, pnao))
    dense = from_state(blueprint, first.state if rewind != "weights" else starts[0])
    kept = {name.removesuffix("_kept"): value for name, value in starts[1].items() if name.endswith("er_kept")}
    masks = {name: torch.isin(dense.kept()[name], nodes) for name, nodes in kept.items()}
    inputs = examples.tensors()
    for got, want in zip(
        predict(from_state(blueprint, starts[1]), inputs), predict(masked(dense, masks), inputs), strict=True
    ):
        assert torch.allclose(got, want, atol=1e-5)
    assert schedules == ["warm_cosine", "constant_floor" if rewind == "none" else "warm_cosine"]


def test_same_seed_same_rounds(blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path) -> None:
    assert_same(run(blueprint, examples, folds, tmp_path / "a"), run(blueprint, examples, folds, tmp_path / "b"))


def test_an_interrupted_run_goes_on_at_its_round_with_the_same_result(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    whole = run(blueprint, examples, folds, tmp_path / "calm")
    stopped = optimise_architecture(
        Optimisation(blueprint, examples, folds, TRAINING, PNAO, 0), DiskRoundStore(tmp_path / "rough")
    )
    next(stopped)
    next(stopped)
    del stopped
    computed: list[int] = []

    def counted(function, tasks):  # type: ignore[no-untyped-def]
        tasks = list(tasks)
        computed.append(len(tasks))
        return map(function, tasks)

    assert_same(run(blueprint, examples, folds, tmp_path / "rough", run=counted), whole)
    assert computed == [3]  # only the last round's folds


def test_optimisations_in_step_are_the_same_as_one_after_another(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    """Of different lengths, one of them half remembered: each round's folds are one map over all of them."""
    sparse = Optimisation(blueprint, examples, folds, TRAINING, PNAO, 0)
    dense = replace(sparse, pnao=replace(PNAO, alpha=0.0, rounds=0))
    other = replace(sparse, blueprint=replace(blueprint, fusion="attention"), seed=5)
    apart = [
        list(optimise_architecture(of, DiskRoundStore(place)))
        for of, place in ((sparse, tmp_path / "a"), (dense, tmp_path / "b"), (other, tmp_path / "c"))
    ]
    store, mapped = DiskRoundStore(tmp_path / "all"), []

    def counted(function, tasks):  # type: ignore[no-untyped-def]
        mapped.append(len(tasks))
        return map(function, tasks)

    known = optimise_architecture(Optimisation(blueprint, examples, folds, TRAINING, PNAO, 0), store)
    next(known), next(known)  # rounds 0 and 1 of the first
    together: list[list[Round]] = [[], [], []]
    order = []
    for place, finished in optimise_in_step([sparse, dense, other], store, counted):
        together[place].append(finished)
        order.append((finished.number, place))
    for of_one, alone in zip(together, apart, strict=True):
        assert_same(of_one, alone)
    assert order == [(0, 0), (0, 1), (0, 2), (1, 0), (1, 2), (2, 0), (2, 2)]
    assert mapped == [6, 3, 6]


def test_every_optimisation_is_saved_before_any_is_handed_over(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    """So a kill while the caller writes the first one's round costs none of the others'."""
    first = Optimisation(blueprint, examples, folds, TRAINING, PNAO, 0)
    store = DiskRoundStore(tmp_path)
    next(optimise_in_step([first, replace(first, seed=1)], store))
    again = DiskRoundStore(tmp_path)
    next(optimise_in_step([replace(first, seed=1)], again))
    assert (again.hits, again.misses) == (1, 0)


def test_a_changed_naor_reuses_the_sparse_training_and_more_rounds_reuse_all(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    store = DiskRoundStore(tmp_path)

    def go(**change: object) -> None:
        pnao = replace(PNAO, **change)  # type: ignore[arg-type]
        list(optimise_architecture(Optimisation(blueprint, examples, folds, TRAINING, pnao, 0), store))

    go(rounds=1)
    assert (store.hits, store.misses) == (0, 2)
    go(rounds=1, naor=0.6)
    assert (store.hits, store.misses) == (1, 3)
    go(rounds=2)
    assert (store.hits, store.misses) == (3, 4)
    go(rounds=0, alpha=2e-3)
    assert (store.hits, store.misses) == (3, 5)
    go(rounds=2, rewind="none")
    assert (store.hits, store.misses) == (4, 7)


def test_other_code_reuses_no_round(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, none = DiskRoundStore(tmp_path), replace(PNAO, rounds=0)
    list(optimise_architecture(Optimisation(blueprint, examples, folds, TRAINING, none, 0), store))
    monkeypatch.setattr(algorithm, "algorithm_version", lambda: "another")
    list(optimise_architecture(Optimisation(blueprint, examples, folds, TRAINING, none, 0), store))
    assert (store.hits, store.misses) == (0, 2)


def test_a_round_that_pruned_nothing_says_so(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, tmp_path: Path
) -> None:
    rounds = run(blueprint, examples, folds, tmp_path, replace(PNAO, naor=0.0, rounds=1))
    assert rounds[1].pruned == 0
    assert rounds[1].networks()[0].blueprint == blueprint


def test_the_best_round_is_the_smaller_one_at_a_tie() -> None:
    assert best_round([(0.5, 100), (0.6, 80), (0.6, 60), (0.55, 40)]) == 2


def test_a_round_is_made_with_what_its_rule_reads() -> None:
    """What the rule does not read changes neither the record nor the key of a remembered round."""
    naor, nodes = PnaoConfig(naor=0.3, ratio=0.4), PnaoConfig(naor=0.3, ratio=0.4, rule="nodes")
    assert naor.of_a_round() == PnaoConfig(naor=0.3, ratio=0.9, rounds=2).of_a_round()
    assert nodes.of_a_round() == replace(nodes, naor=0.7).of_a_round() != replace(nodes, ratio=0.5).of_a_round()
    assert ("naor" in naor.of_a_round(), "ratio" in naor.of_a_round()) == (True, False)
    assert ("naor" in nodes.of_a_round(), "ratio" in nodes.of_a_round()) == (False, True)


def test_config_refuses_and_names() -> None:
    with pytest.raises(ValueError, match="rewind must be one of learning_rate, none, weights, got 'all'"):
        PnaoConfig(rewind="all")
