"""Studies and their trials: exact budgets, kills at any moment, what makes a study a new one."""

import os
import random
import signal
import time
from collections import Counter
from collections.abc import Callable
from itertools import product
from pathlib import Path

import pytest
from optuna import Study
from optuna.trial import FixedTrial, TrialState

from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.search import sentences
from mer_pnao.search.reading import read_record
from mer_pnao.search.run import Budget, search_profile
from mer_pnao.search.runner import open_search
from mer_pnao.search.sampler import DIVERGED
from mer_pnao.search.storage import open_storage
from mer_pnao.search.study import (
    ERROR,
    FINISHED,
    OWN,
    REPLACES,
    WORKER,
    claim,
    find_or_create,
    finished_trials,
    open_study,
    requeue_lost,
    study_name,
    tell,
)
from mer_pnao.search.trial import COM, PARAMETERS, Task, load_task, objective
from mer_pnao.search.worker import run_trial, work


@pytest.fixture(scope="module")
def rounds(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("rounds")


@pytest.fixture
def known_rounds(project: Path, rounds: Path) -> None:
    """The project's store of rounds is one that tests share: what one has trained the others only read."""
    (project / "work").mkdir()
    (project / "work/rounds").symlink_to(rounds)


def widen(project: Path) -> None:
    """A space of 15 points: more than TPE's random trials."""
    text = (project / "params.yaml").read_text()
    assert text.count("    points: 2\n") == 1
    (project / "params.yaml").write_text(text.replace("    points: 2\n", "    points: 5\n"))


def test_the_budget_counts_what_runs_and_what_is_finished(task: Task, project: Path) -> None:
    storage, registry = open_storage(project, None)
    study, new = find_or_create(storage, registry, task)
    assert new
    assert study.metric_names == ["Com"]  # optuna-dashboard's axis
    with registry.register("a"):
        first, second = (claim(study, registry, "a", 2, task) for _ in range(2))
        assert first is not None
        assert second is not None
        assert claim(study, registry, "a", 2, task) is None
        tell(study, first.number, TrialState.COMPLETE, (0.5,))
        assert claim(study, registry, "a", 2, task) is None
        assert claim(study, registry, "a", 3, task) is not None
    assert finished_trials(study) == 1


def test_a_lost_trial_is_closed_and_done_again_with_its_values_once(task: Task, project: Path) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with registry.register("living"):
        with registry.register("dying"):
            own = claim(study, registry, "dying", 3, task)
            lost = claim(study, registry, "dying", 3, task)
            assert own is not None
            assert lost is not None
        assert own.params.keys() == lost.params.keys() == {"naor", "alpha"}, "drawn before anybody else draws"
        kept = claim(study, registry, "living", 3, task)
        assert kept is not None
        assert kept.user_attrs[REPLACES] == own.number, "what was lost comes first"
        assert kept.user_attrs[OWN]
        assert requeue_lost(study, registry) == 0
        again = claim(study, registry, "living", 3, task)
        assert again is not None
        assert again.user_attrs[REPLACES] == lost.number
        assert (kept.params, again.params) == (own.params, lost.params)
        # the lost worker was only slow, and tells its result after all
        tell(study, lost.number, TrialState.COMPLETE, (9.0,))
        assert study.trials[lost.number].state == TrialState.FAIL
    assert requeue_lost(study, registry) == 2
    states = [trial.state for trial in study.trials]
    assert states == [TrialState.FAIL] * 4 + [TrialState.WAITING] * 2


def test_a_kill_between_closing_and_enqueuing_loses_nothing(task: Task, project: Path) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with registry.register("a"):
        trial = claim(study, registry, "a", 3, task)
    assert trial is not None
    tell(study, trial.number, TrialState.FAIL)  # the last thing that the killed process did
    assert requeue_lost(study, registry) == 1
    assert requeue_lost(study, registry) == 0
    unsigned = study.ask()  # killed before it could sign
    assert requeue_lost(study, registry) == 1
    assert study.trials[-1].user_attrs[REPLACES] == unsigned.number
    assert study.trials[-1].system_attrs["fixed_params"] == trial.params, "it was the first trial's turn again"
    with registry.register("a"):
        assert claim(study, registry, "a", 3, task) is not None
        half = study.ask()
        half.suggest_float("naor", 0.2, 0.8, log=True)  # the values behind it may be taken until it is drawn again
        assert requeue_lost(study, registry) == 1
        assert study.trials[-1].user_attrs[REPLACES] == half.number
        assert study.trials[-1].system_attrs["fixed_params"] == {}


def test_a_trial_that_fails_by_itself_is_not_tried_again(task: Task, project: Path) -> None:
    class Full(DiskRoundStore):
        def save(self, key: str, folds: object) -> None:
            raise OSError(28, "No space left on device")

    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with registry.register("a"):
        trial = claim(study, registry, "a", 3, task)
        assert trial is not None
        with pytest.raises(OSError, match="No space left"):
            run_trial(study, trial, task, Full(project / "work/rounds"))
    assert study.trials[0].state == TrialState.FAIL
    assert "No space left on device" in study.trials[0].user_attrs[ERROR]
    assert requeue_lost(study, registry) == 0


Points = Counter[tuple[object, object]]
SPACE: Points = Counter(product((0.2, 0.4, 0.8), (0.001, 0.004)))


def finished_points(study: Study) -> Points:
    """How often each point of NAOR and alpha is finished or given up."""
    return Counter((trial.params["naor"], trial.params["alpha"]) for trial in study.get_trials(states=FINISHED))


def start_worker(project: Path, task: Task, url: str | None, budget: int) -> int:
    """A process that works on the task's study until it is done; returns its id."""
    child = os.fork()
    if child:
        return child
    try:
        storage, registry = open_storage(project, url)
        work(open_study(storage, task), registry, budget, task, DiskRoundStore(project / "work/rounds"))
        os._exit(0)
    finally:
        os._exit(1)


def await_workers(children: list[int]) -> None:
    """Wait until all have done their work."""
    deadline = time.monotonic() + 60
    while children:
        for child in children[:]:
            ended, status = os.waitpid(child, os.WNOHANG)
            if ended:
                assert status == 0
                children.remove(child)
            elif time.monotonic() > deadline:
                os.kill(child, signal.SIGKILL)
                raise AssertionError("a worker waits for ever")
        time.sleep(0.01)


@pytest.mark.usefixtures("known_rounds")
@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("budget", [4, 6, 40])
def test_no_point_is_tried_twice_and_a_small_space_is_covered_and_ends(
    task: Task, project: Path, budget: int, workers: int
) -> None:
    assert task.params.search.points == len(SPACE)
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    await_workers([start_worker(project, task, None, budget) for _ in range(workers)])
    points = finished_points(study)
    assert points.total() == len(study.trials) == min(budget, 6)
    assert points <= SPACE
    said: list[str] = []
    assert open_search(project, task, None, budget, False, said.append).trials == min(budget, 6)
    capped = ["Its space holds 6 distinct trainings, and the search ends with them."]
    assert said[1:] == (capped if budget > 6 else [])


@pytest.mark.usefixtures("known_rounds")
def test_own_values_between_the_grids_points_are_one_training_more(project: Path, change: Callable[..., None]) -> None:
    change("pnao", "naor", 0.3)
    task = load_task(load_params(project / "params.yaml"), (COM,))
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    store = DiskRoundStore(project / "work/rounds")
    work(open_study(storage, task), registry, 3, task, store)
    assert len(study.trials) == 3
    assert study.trials[0].params == {"naor": 0.3, "alpha": 0.001}
    work(open_study(storage, task), registry, 40, task, store)
    assert finished_points(study) == SPACE + Counter([(0.3, 0.001)])
    change("pnao", "naor", 0.5)  # the study is the same, and its own values stay those that it began with
    work(study, registry, 40, load_task(load_params(project / "params.yaml"), (COM,)), store)
    assert len(study.trials) == 7


def test_where_a_trial_failed_by_itself_a_later_one_may_be_and_the_search_ends(
    project: Path, rounds: Path, change: Callable[..., None]
) -> None:
    class Full(DiskRoundStore):
        def save(self, key: str, folds: object) -> None:
            raise OSError(28, "No space left on device")

    change("pnao", "naor", 0.3)
    task = load_task(load_params(project / "params.yaml"), (COM,))
    storage, registry = open_storage(project, None)
    find_or_create(storage, registry, task)
    for _ in range(2):  # the profile's own values, which lie between the grid's points, and a point of the grid
        with pytest.raises(OSError, match="No space left"):
            work(open_study(storage, task), registry, 40, task, Full(project / "work/rounds"))
    study = open_study(storage, task)
    work(study, registry, 40, task, DiskRoundStore(rounds))
    assert finished_points(study) == SPACE


@pytest.mark.usefixtures("known_rounds")
@pytest.mark.parametrize("workers", [1, 2])
def test_a_point_that_diverges_is_tried_once_and_a_covered_search_ends(
    project: Path, change: Callable[..., None], workers: int
) -> None:
    change("search", "learning_rate", "[0.02, 1.0e+38]")
    params = load_params(project / "params.yaml")
    assert params.search.points == 12
    task = load_task(params, (COM,))
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    await_workers([start_worker(project, task, None, 40) for _ in range(workers)])
    record = search_profile(params, (COM,), Budget(40, workers))
    assert Counter((each.values["naor"], each.values["alpha"]) for each in record.trials) == SPACE
    assert {each.values["learning_rate"] for each in record.trials} == {0.02}
    assert record.chosen is not None
    assert f"trial: {record.chosen.number}\n" in (project / "best_params.yaml").read_text()
    assert "6 more diverged, and will not be tried again." in sentences(record)
    failed = study.get_trials(states=(TrialState.FAIL,))
    assert Counter((trial.params["naor"], trial.params["alpha"]) for trial in failed) == SPACE
    reasons = {trial.user_attrs[DIVERGED] for trial in failed}
    assert reasons == {"training diverged in epoch 0: learning_rate 1e+38 is too high"}
    assert len(study.trials) == finished_trials(study) == 12


def test_a_kill_after_a_divergence_does_not_bring_its_trial_back(task: Task, project: Path) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with registry.register("a"):
        trial = claim(study, registry, "a", 3, task)
        assert trial is not None
        trial.set_user_attr(DIVERGED, "training diverged")  # the last thing that the killed worker did
        assert finished_trials(study) == 0
    assert requeue_lost(study, registry) == 0
    assert (len(study.trials), finished_trials(study)) == (1, 1)


def test_trainings_that_diverge_are_spent_also_between_the_grids_points(
    project: Path, change: Callable[..., None]
) -> None:
    change("search", "learning_rate", "[1.0e+36, 1.0e+38]")
    change("training", "learning_rate", "1.0e+37")
    params = load_params(project / "params.yaml")
    task = load_task(params, (COM,))
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    for budget in (3, 12):
        work(open_study(storage, task), registry, budget, task, DiskRoundStore(project / "work/rounds"))
        assert len(study.trials) == finished_trials(study) == budget
    assert study.trials[0].params["learning_rate"] == 1e37
    with pytest.raises(InputError, match=r"has no trial that ran to its end \(13 diverged\), and so nothing"):
        search_profile(params, (COM,), Budget(40, 1))  # a worker of its own takes the last point
    assert len({tuple(trial.params.values()) for trial in study.trials}) == len(study.trials) == 13


@pytest.mark.parametrize("kind", ["journal", "postgres"])
def test_workers_killed_at_random_moments_leave_an_exact_study(
    kind: str, project: Path, request: pytest.FixtureRequest
) -> None:
    widen(project)
    task = load_task(load_params(project / "params.yaml"), (COM,))
    url = request.getfixturevalue("postgres") if kind == "postgres" else None
    budget, chance = 10, random.Random(3)
    storage, registry = open_storage(project, url)
    study, _ = find_or_create(storage, registry, task)

    children, kills = [start_worker(project, task, url, budget) for _ in range(2)], 0
    while children:
        moment = time.monotonic() + chance.uniform(0.05, 0.4)
        while time.monotonic() < moment and children:
            for child in children[:]:
                ended, status = os.waitpid(child, os.WNOHANG)
                if ended:
                    assert status == 0
                    children.remove(child)
            time.sleep(0.005)
        begun = any(trial.state == TrialState.RUNNING for trial in study.get_trials(deepcopy=False))
        if children and kills < 14 and (begun or kills < 5):  # some kills before any trial, the others not in vain
            victim = chance.choice(children)
            os.kill(victim, signal.SIGKILL)
            os.waitpid(victim, 0)
            kills += 1
            children[children.index(victim)] = start_worker(project, task, url, budget)

    trials = study.get_trials()
    finished = [trial for trial in trials if trial.state in (TrialState.COMPLETE, TrialState.PRUNED)]
    assert len(finished) == budget
    points = finished_points(study)
    assert set(points.values()) == {1}, "what was lost and done again counts once, and nothing else is done twice"
    failed = [trial for trial in trials if trial.state == TrialState.FAIL]
    assert failed, "no kill met a trial"
    assert len(failed) + len(finished) == len(trials), "nothing is left running or waiting"
    replaced = [trial.user_attrs[REPLACES] for trial in trials if REPLACES in trial.user_attrs]
    assert sorted(replaced) == sorted(trial.number for trial in failed), "each lost trial was done again, and once"
    for trial in trials:
        if REPLACES in trial.user_attrs and WORKER in trials[trial.user_attrs[REPLACES]].user_attrs:
            before, now = (
                {**each.system_attrs.get("fixed_params", {}), **each.params}  # drawn, or enqueued and not yet taken up
                for each in (trials[trial.user_attrs[REPLACES]], trial)
            )
            assert before == now
    record = read_record(study, task)
    assert [each.number for each in record.trials] == [trial.number for trial in finished]
    assert record.lost == len(failed)
    best = record.chosen
    assert best is not None
    again = objective(FixedTrial(dict(best.values)), task, DiskRoundStore(project / "work/fresh"))
    assert again == (study.best_value,) == (best.best.com,)


def test_a_search_that_one_worker_does_is_the_same_each_time(project: Path, tmp_path: Path, rounds: Path) -> None:
    widen(project)
    task = load_task(load_params(project / "params.yaml"), (COM,))

    def search(root: Path, pauses: bool) -> list[tuple[object, ...]]:
        storage, registry = open_storage(root, None)
        find_or_create(storage, registry, task)
        for budget in range(1, 15) if pauses else (14,):
            work(open_study(storage, task), registry, budget, task, DiskRoundStore(rounds))
        study = open_study(storage, task)
        return [(trial.number, trial.state, trial.params, trial.values) for trial in study.trials]

    assert search(tmp_path / "one", False) == search(tmp_path / "two", True)


def test_the_profiles_own_values_come_first_where_the_space_holds_them(
    task: Task, project: Path, change: Callable[..., None]
) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    assert [trial.system_attrs["fixed_params"] for trial in study.trials] == [{"naor": 0.4, "alpha": 0.001}]
    change("pnao", "rounds", 9)
    other = load_task(load_params(project / "params.yaml"), (COM,))
    assert study_name(other) == study_name(task), "an open value is no part of what a study is made of"
    change("pnao", "min_nodes", 3)
    study, new = find_or_create(storage, registry, load_task(load_params(project / "params.yaml"), (COM,)))
    assert new
    assert study.trials == []


@pytest.mark.parametrize(
    ("section", "name", "value", "named"),
    [
        ("search", "naor", "{low: 0.2, high: 0.9, points: 3}", "search.naor.high"),
        ("search", "dropout", "[0.1, 0.2]", "network.dropout, search.dropout"),
        ("training", "epochs", 4, "training.epochs"),
        ("network", "hidden", 13, "network.hidden"),
    ],
)
def test_another_space_or_setting_is_a_new_study_and_says_so(
    project: Path, change: Callable[..., None], section: str, name: str, value: object, named: str
) -> None:
    said: list[str] = []
    params = load_params(project / "params.yaml")
    open_search(project, load_task(params, (COM,)), None, 6, False, said.append)
    if name == "naor":
        text = (project / "params.yaml").read_text()
        (project / "params.yaml").write_text(text.replace("high: 0.8", "high: 0.9"))
    else:
        change(section, name, value)
    open_search(project, load_task(load_params(project / "params.yaml"), (COM,)), None, 6, False, said.append)
    assert len(said) == 2
    assert said[1].startswith("A new study, tiny-com-")
    assert said[1].endswith(f": {named}."), said[1]


def test_other_data_is_a_new_study_and_more_trials_or_seeds_are_not(
    project: Path, task: Task, change: Callable[..., None]
) -> None:
    said: list[str] = []
    open_search(project, task, None, 6, False, said.append)
    change("search", "trials", 99)
    params_file = project / "params.yaml"
    text = params_file.read_text()
    assert "\nseeds:\n- 0\n" in text
    params_file.write_text(text.replace("\nseeds:\n- 0\n", "\nseeds:\n- 0\n- 5\n"))
    same = load_task(load_params(project / "params.yaml"), (COM,))
    assert study_name(same) == study_name(task)
    text = (project / "data/tiny/manifest.csv").read_text()
    (project / "data/tiny/manifest.csv").write_text(text.replace(",r3,", ",r33,"))
    open_search(project, load_task(load_params(project / "params.yaml"), (COM,)), None, 6, False, said.append)
    assert said[1].endswith(": training data.")
    both = load_task(load_params(project / "params.yaml"), (COM, PARAMETERS))
    open_search(project, both, None, 6, False, said.append)
    assert said[2].endswith("in mlruns/optuna.journal."), "other objectives are another question, not a change"


def test_a_pareto_study_finds_the_smallest_network_that_reaches_the_com(project: Path, rounds: Path) -> None:
    task = load_task(load_params(project / "params.yaml"), (COM, PARAMETERS))
    storage, registry = open_storage(project, None)
    find_or_create(storage, registry, task)
    study = open_study(storage, task)
    work(study, registry, 6, task, DiskRoundStore(rounds))
    assert {trial.state for trial in study.trials} == {TrialState.COMPLETE}
    record = read_record(study, task)
    sizes = {trial.number: trial.values for trial in study.trials}
    feasible = [number for number, (com, _) in sizes.items() if com >= -0.5]
    assert record.chosen is not None
    if feasible:
        assert record.chosen.best.parameters == min(sizes[number][1] for number in feasible)
    expected = {
        tuple(trial.values)
        for trial in study.trials
        if not any(
            other.values[0] >= trial.values[0] and other.values[1] <= trial.values[1] and other.values != trial.values
            for other in study.trials
        )
    }
    assert {(each.best.com, float(each.best.parameters)) for each in record.front} == expected
