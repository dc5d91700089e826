"""All methods at equal epochs and matched parameters; nothing finished is trained twice."""

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path

import pytest
import torch

from mer_pnao.controls.comparison import Contender, Trial, compare_methods, segments
from mer_pnao.controls.names import DENSE, METHODS, PNAO
from mer_pnao.controls.selection import nonzero_parameters
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.params.profile import ControlsConfig
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.pnao import optimise_architecture
from mer_pnao.systems.cost import parameters
from mer_pnao.training.config import TrainingConfig

Contenders = dict[tuple[str, int], Contender]
SIZES = (1, 2)
KEEPS_WIDTHS = ("weight_rewinding", "fine_tuning", "random", "scratch")


def shapes(network: EmotionNetwork) -> dict[str, torch.Size]:
    return {name: value.shape for name, value in network.state_dict().items()}


def test_every_method_stands_at_every_size(contenders: Contenders) -> None:
    assert set(contenders) == {(method, size) for method in METHODS for size in SIZES}


def test_pnao_is_algorithm_1_with_learning_rate_rewinding_and_without_an_early_stop(
    contenders: Contenders, trial_in: Callable[..., Trial], known: Path
) -> None:
    trial = trial_in(known)
    of = replace(
        trial.optimisation,
        training=TrainingConfig(epochs=2, batch=10, learning_rate=2e-2, patience=2),
        pnao=PnaoConfig(naor=0.5, alpha=1e-3, rounds=2, min_nodes=2),
    )
    own = list(optimise_architecture(of, trial.store))
    assert [each.key for each in own[1:]] == [contenders[PNAO, size].result.key for size in SIZES]
    sizes = [sum(map(parameters, each.networks())) for each in own]
    assert sizes[0] > sizes[1] > sizes[2]  # else nothing is compared here


@pytest.mark.parametrize("method", [method for method in METHODS if method not in (PNAO, DENSE)])
@pytest.mark.parametrize("size", SIZES)
def test_parameters_match_in_every_fold(contenders: Contenders, method: str, size: int) -> None:
    pairs = zip(contenders[method, size].result.networks(), contenders[PNAO, size].result.networks(), strict=True)
    for network, pnao in pairs:
        assert nonzero_parameters(network) == pytest.approx(parameters(pnao), rel=0.03)
        if method == "unstructured":
            assert nonzero_parameters(network) == parameters(pnao)
            assert parameters(network) > parameters(pnao)
        if method in ("random", "scratch"):
            assert shapes(network) == shapes(pnao)
        if method in KEEPS_WIDTHS:
            counts = {name: len(nodes) for name, nodes in network.kept().items()}
            assert counts == {name: len(nodes) for name, nodes in pnao.kept().items()}


@pytest.mark.parametrize("size", SIZES)
def test_the_dense_network_keeps_everything(contenders: Contenders, size: int) -> None:
    for network in contenders[DENSE, size].result.networks():
        assert nonzero_parameters(network) == parameters(EmotionNetwork(network.blueprint))
        assert [len(nodes) for nodes in network.kept().values()] == [24, 12] * 4


@pytest.mark.parametrize("rule", ["nodes", "parameters"])
def test_the_dense_network_keeps_everything_under_every_rule(
    rule: str, trial_in: Callable[..., Trial], tmp_path: Path
) -> None:
    trial = trial_in(tmp_path)
    trial = replace(trial, sizes=(1,), optimisation=replace(trial.optimisation, pnao=PnaoConfig(rule=rule, ratio=0.4)))
    first = {each.method: each for each in islice(compare_methods(trial), 2)}
    assert all(nonzero_parameters(network) == parameters(network) for network in first[DENSE].result.networks())
    assert first[DENSE].result.pruned == 0
    assert first[PNAO].result.pruned > 0


def test_every_method_is_trained_in_equally_many_epochs(contenders: Contenders, known: Path) -> None:
    assert {key: each.epochs for key, each in contenders.items()} == {
        (method, size): 2 * (size + 1) for method in METHODS for size in SIZES
    }
    rounds = [json.loads(path.read_text()) for path in known.glob("*/folds.json")]
    assert len(rounds) == segments(SIZES)  # none was trained twice, and each is counted
    assert all(len(fold["curves"]) == 2 for folds in rounds for fold in folds)


def test_random_and_pnao_keep_other_nodes_and_random_ones_are_nested(contenders: Contenders) -> None:
    first, second = (contenders["random", size].result.networks() for size in SIZES)
    for before, after, pnao in zip(first, second, contenders[PNAO, 1].result.networks(), strict=True):
        for name, nodes in after.kept().items():
            assert set(nodes.tolist()) <= set(before.kept()[name].tolist())
        assert any(not torch.equal(nodes, pnao.kept()[name]) for name, nodes in before.kept().items())


def test_group_norm_removes_a_fused_position_from_all_modalities(contenders: Contenders) -> None:
    for network in contenders["group_norm", 2].result.networks():
        kept = network.kept()
        for branch in ("a", "b"):
            outer = [kept[f"branches.{branch}.gathering.modalities.{name}.outer"].tolist() for name in (branch, "v")]
            assert outer[0] == outer[1]


def test_the_same_seed_gives_the_same_numbers_after_a_kill_and_nothing_finished_is_trained_again(
    contenders: Contenders, trial_in: Callable[..., Trial], tmp_path: Path
) -> None:
    def dying(function: Callable, tasks: Iterable) -> Iterator:  # type: ignore[type-arg]
        for task in tasks:
            if len(list(tmp_path.glob("[0-9a-f]*"))) == 13:
                raise KeyboardInterrupt
            yield function(task)

    with pytest.raises(KeyboardInterrupt):
        list(compare_methods(trial_in(tmp_path, run=dying)))
    finished: list[int] = []
    resumed = trial_in(tmp_path, done=finished.append)
    again = {(each.method, each.size): each for each in compare_methods(resumed)}
    assert (resumed.store.hits, resumed.store.misses) == (13, segments(SIZES) - 13)  # type: ignore[attr-defined]
    assert sum(finished) == segments(SIZES)
    for key, want in contenders.items():
        assert again[key].result.key == want.result.key
        for one, other in zip(again[key].result.folds, want.result.folds, strict=True):
            assert one.curves == other.curves
            assert all(torch.equal(one.state[name], other.state[name]) for name in one.state)


def test_another_seed_and_other_strength_train_only_what_depends_on_them(
    contenders: Contenders, trial_in: Callable[..., Trial], known: Path
) -> None:
    def refuse(function: Callable, tasks: Iterable) -> Iterator:  # type: ignore[type-arg]
        if list(tasks):
            raise LookupError("work")
        return iter(())

    fewer = trial_in(known, sizes=(1,), run=refuse)
    assert [each.result.key for each in compare_methods(fewer)] == [
        contenders[method, 1].result.key
        for method in (
            PNAO,
            DENSE,
            "weight_rewinding",
            "fine_tuning",
            "random",
            "unstructured",
            "scratch",
            "one_shot_l1",
            "group_norm",
        )
    ]
    stronger = trial_in(known, group_norm=2e-3, run=refuse)
    seen = []
    with pytest.raises(LookupError, match="work"):
        seen.extend(compare_methods(stronger))
    assert stronger.store.misses == 1  # type: ignore[attr-defined]  # group_norm's first segment
    with pytest.raises(LookupError, match="work"):
        list(compare_methods(trial_in(known, seed=1, run=refuse)))


@pytest.mark.parametrize(
    ("rounds", "strength", "message"),
    [
        ((), 0.1, "rounds must name at least one round"),
        ((0, 1), 0.1, r"rounds must lie in \[1, 99\], got 0"),
        ((3, 1), 0.1, r"rounds must rise, got \[3, 1\]"),
        ((1, 1), 0.1, r"rounds must rise, got \[1, 1\]"),
        ((1,), -1.0, "group_norm must be at least 0, got -1.0"),
    ],
)
def test_config_refuses_and_names(rounds: tuple[int, ...], strength: float, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        ControlsConfig(rounds, strength)
