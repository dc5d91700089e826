"""What each method starts a segment from, and how it is trained."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from mer_pnao.controls import methods
from mer_pnao.controls.comparison import Contender, Trial
from mer_pnao.controls.methods import ControlTask, Start, keep_zeros, run_control
from mer_pnao.controls.names import DENSE, PNAO
from mer_pnao.controls.selection import smallest_zeroed
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.pruning.importance import importances
from mer_pnao.pruning.rounds import fold_tasks, initial_network
from mer_pnao.pruning.surgery import keep_only
from mer_pnao.training.fit import constant_floor, fit, warm_cosine

Contenders = dict[tuple[str, int], Contender]


@pytest.fixture
def task(contenders: Contenders, trial_in: Callable[..., Trial], tmp_path: Path) -> Callable[..., ControlTask]:
    """The first fold's second segment of a method, going on from PNAO's or the dense network's first pruned round."""
    trial = trial_in(tmp_path)

    def make(method: str, last: str = PNAO, number: int = 2) -> ControlTask:
        fold = fold_tasks(trial.optimisation, number, contenders[last, 1].result)[0]
        return ControlTask(method, number, fold, contenders[PNAO, 2].result.networks()[0].kept(), 1e-3)

    return make


def start_of(task: ControlTask) -> Start:
    return methods._STARTS[task.method](task, task.fold.clips()[0])


def initial(task: ControlTask) -> EmotionNetwork:
    return initial_network(task.fold.blueprint, task.fold.initial_seed, task.fold.clips()[0])


def assert_equal(one: EmotionNetwork, other: EmotionNetwork) -> None:
    for name, value in other.state_dict().items():
        assert torch.equal(one.state_dict()[name], value), name


def best(network: EmotionNetwork, counts: dict[str, int]) -> dict[str, set[int]]:
    """By sorting alone: the dense indices of the most important nodes."""
    found = {}
    for name, gamma in importances(network.prunable()).items():
        order = sorted(range(len(gamma)), key=lambda node: -float(gamma[node]))
        found[name] = {int(network.kept()[name][node]) for node in order[: counts[name]]}
    return found


@pytest.mark.parametrize("method", ["weight_rewinding", "fine_tuning"])
def test_own_importances_choose_as_many_nodes_as_pnao_kept(task: Callable[..., ControlTask], method: str) -> None:
    given = task(method)
    assert given.fold.state is not None
    last = from_state(given.fold.blueprint, given.fold.state)
    kept = {name: set(nodes.tolist()) for name, nodes in start_of(given).network.kept().items()}
    assert kept == best(last, {name: len(nodes) for name, nodes in given.target.items()})
    assert kept != {name: set(nodes.tolist()) for name, nodes in last.kept().items()}


def test_weight_rewinding_starts_from_the_initial_values_of_the_kept_nodes(task: Callable[..., ControlTask]) -> None:
    given = task("weight_rewinding")
    start = start_of(given)
    assert_equal(start.network, keep_only(initial(given), start.network.kept()))
    assert (start.alpha, start.schedule) == (1e-3, warm_cosine)


def test_fine_tuning_keeps_weights_and_the_last_learning_rate(task: Callable[..., ControlTask]) -> None:
    given = task("fine_tuning")
    start = start_of(given)
    assert given.fold.state is not None
    assert_equal(start.network, keep_only(from_state(given.fold.blueprint, given.fold.state), start.network.kept()))
    assert (start.alpha, start.schedule) == (1e-3, constant_floor)
    rates = {epoch.learning_rate for epoch in run_control(given).curves}
    assert rates == {2e-2 * 0.01}


def test_random_goes_on_from_trained_weights_with_other_nodes(
    task: Callable[..., ControlTask], contenders: Contenders
) -> None:
    given = task("random")
    mine = contenders["random", 1].result.folds[0].state
    start = start_of(replace(given, fold=replace(given.fold, state=mine)))
    last = from_state(given.fold.blueprint, mine)
    assert_equal(start.network, keep_only(last, start.network.kept()))
    assert (start.alpha, start.schedule) == (1e-3, warm_cosine)


def test_scratch_has_the_same_shapes_and_other_weights_and_no_sparsity(task: Callable[..., ControlTask]) -> None:
    given = task("scratch", number=0)
    given = replace(given, fold=replace(given.fold, state=None))
    whole = start_of(replace(given, target=initial(given).kept())).network  # where the same seed would show itself
    assert not torch.equal(whole.weight_matrices()[0], initial(given).weight_matrices()[0])
    start = start_of(given)
    rewound = keep_only(initial(given), given.target)
    for name, value in rewound.state_dict().items():
        mine = start.network.state_dict()[name]
        assert mine.shape == value.shape
        same = name.endswith("kept") or name.startswith("zscore")
        assert torch.equal(mine, value) == same, name
    assert (start.alpha, start.schedule) == (0, warm_cosine)


def test_zeros_stay_exactly_zero_and_nothing_else_becomes_zero(
    task: Callable[..., ControlTask], contenders: Contenders
) -> None:
    given = task("unstructured", DENSE)
    start = start_of(given)
    before = [matrix == 0 for matrix in start.network.weight_matrices()]
    state = run_control(given).state
    after = [matrix == 0 for matrix in from_state(given.fold.blueprint, state).weight_matrices()]
    count = sum(int(zeros.sum()) for zeros in before)
    assert count > 500
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))
    # Without the mask the same training brings back all but those of dead nodes.
    train, validation = given.fold.clips()
    free = start_of(given).network
    fit(free, train, validation, given.fold.training, 0, given.fold.round_seed)
    assert sum(int((matrix == 0).sum()) for matrix in free.weight_matrices()) < count / 2


def test_the_zeroed_weights_are_the_smallest_of_all_matrices(contenders: Contenders) -> None:
    network = contenders[DENSE, 1].result.networks()[0]
    everything = sum(parameter.numel() for parameter in network.parameters())
    once = smallest_zeroed(network, everything - 700)
    magnitudes = torch.cat([matrix.detach().abs().flatten() for matrix in network.weight_matrices()])
    zero = torch.cat([matrix.detach().flatten() == 0 for matrix in once.weight_matrices()])
    assert int(zero.sum()) == 700
    assert magnitudes[zero].max() <= magnitudes[~zero].min()
    twice = smallest_zeroed(once, everything - 900)
    again = torch.cat([matrix.detach().flatten() == 0 for matrix in twice.weight_matrices()])
    assert int(again.sum()) == 900
    assert bool(again[zero].all())


def test_keep_zeros_masks_only_gradients_of_zero_weights() -> None:
    network = torch.nn.Linear(3, 2)
    matrix = network.weight
    network.weight_matrices = lambda: [matrix]  # type: ignore[assignment, operator]
    with torch.no_grad():
        matrix[0, 1] = 0
    change = keep_zeros(network)  # type: ignore[arg-type]
    matrix.grad = torch.ones(2, 3)
    change(network)  # type: ignore[arg-type]
    assert matrix.grad.tolist() == [[1, 0, 1], [1, 1, 1]]


@pytest.mark.parametrize("method", ["one_shot_l1", "group_norm"])
def test_what_was_cut_once_is_only_trained_on(task: Callable[..., ControlTask], method: str) -> None:
    given = task(method, number=2)
    start = start_of(given)
    assert given.fold.state is not None
    assert_equal(start.network, from_state(given.fold.blueprint, given.fold.state))
    assert (start.alpha, start.schedule, start.before_step) == (0, warm_cosine, ())


def test_the_group_penalty_acts_in_the_first_segment_only(task: Callable[..., ControlTask]) -> None:
    given = task("group_norm", number=0)
    fold = replace(given.fold, state=None)
    plain = run_control(replace(given, fold=fold, group_norm=0.0))
    strong = run_control(replace(given, fold=fold, group_norm=1.0))
    name = "branches.a.gathering.modalities.a.inner.weight"
    assert strong.state[name].norm() < plain.state[name].norm()
    cut = start_of(task("group_norm", DENSE, number=1))
    assert cut.before_step == ()
