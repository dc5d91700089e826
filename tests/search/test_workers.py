"""Workers that lose what they work with: the process that started them, or the server that keeps the study."""

import os
import signal
import subprocess
import sys
import time
import traceback
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna import Study
from optuna.exceptions import StorageInternalError
from optuna.trial import TrialState

from mer_pnao.foundations.errors import InputError
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import FoldResult
from mer_pnao.search import runner
from mer_pnao.search.run import Budget, search_profile
from mer_pnao.search.runner import Search, run_workers
from mer_pnao.search.storage import open_storage
from mer_pnao.search.storage_errors import shown
from mer_pnao.search.study import claim, find_or_create, open_study, requeue_lost
from mer_pnao.search.trial import COM, Task
from mer_pnao.search.worker import STORAGE, main, work


def start_worker(study: Study, said: Path) -> tuple[int, int]:
    """A worker of many trials, started with Ctrl-C ignored as in the background of a script: its id, and its input."""
    reader, writer = os.pipe()
    child = os.fork()
    if child:
        os.close(reader)
        return child, writer
    code: object = 1
    with said.open("w", buffering=1) as sys.stderr:
        try:
            signal.signal(signal.SIGINT, signal.SIG_IGN)
            os.close(writer)
            sys.stdin = os.fdopen(reader)
            sys.argv = ["worker", study.study_name, COM, "1000"]
            main()
            os.kill(os.getpid(), signal.SIGINT)  # as when its input is closed while it ends
            code = 0
        except SystemExit as stopped:
            code = stopped.code
        except BaseException:
            traceback.print_exc()
        finally:
            os._exit(code if isinstance(code, int) else 1)


def wait_for_a_running_trial(study: Study) -> None:
    deadline = time.monotonic() + 60
    while not study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        assert time.monotonic() < deadline
        time.sleep(0.01)


def end_of(child: int) -> int:
    """The exit code of a process that ends soon."""
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            return os.waitstatus_to_exitcode(status)
        time.sleep(0.01)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    return -signal.SIGKILL


def test_a_worker_of_a_background_job_ends_with_its_parent(task: Task, project: Path, tmp_path: Path) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    child, its_input = start_worker(study, tmp_path / "said")
    try:
        wait_for_a_running_trial(study)
    finally:
        os.close(its_input)
        code = end_of(child)
    assert (code, (tmp_path / "said").read_text()) == (0, "")
    requeue_lost(study, registry)
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_a_worker_that_does_not_end_is_killed_and_ctrl_c_stays_ctrl_c(
    task: Task, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with registry.register("slow"):
        claim(study, registry, "slow", 6, task)
    started: list[subprocess.Popen[bytes]] = []

    def start(search: Search) -> subprocess.Popen[bytes]:
        if started:  # while the second worker is started
            os.kill(os.getpid(), signal.SIGTERM)
        command = [sys.executable, "-S", "-c", "import time; time.sleep(600)"]
        started.append(subprocess.Popen(command, stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(runner, "_start", start)
    monkeypatch.setattr(runner, "_PATIENCE", 0.1)
    with pytest.raises(KeyboardInterrupt):
        run_workers(Search(study, registry, task, None, 6), 2, lambda _: None)
    assert [process.returncode for process in started] == [-signal.SIGKILL]
    assert [trial.state for trial in study.trials] == [TrialState.FAIL, TrialState.WAITING]


def test_a_worker_whose_session_was_cut_keeps_the_trials_that_it_takes_then(
    task: Task, project: Path, database: SimpleNamespace
) -> None:
    storage, registry = open_storage(project, database.url)
    study, _ = find_or_create(storage, registry, task)
    lost: list[int] = []

    class Cutting(DiskRoundStore):
        def load(self, key: str) -> tuple[FoldResult, ...] | None:
            (running,) = study.get_trials(deepcopy=False, states=(TrialState.RUNNING,))
            if running.number == 0:
                database.cut()
            else:
                lost.append(requeue_lost(study, registry))
                assert lost == [0] * len(lost)
            return super().load(key)

    own_storage, own_registry = open_storage(project, database.url)
    work(open_study(own_storage, task), own_registry, 2, task, Cutting(project / "work/rounds"))
    assert lost
    assert TrialState.FAIL not in {trial.state for trial in study.trials}


def test_a_worker_whose_server_is_gone_says_so_in_a_sentence(
    task: Task, project: Path, tmp_path: Path, database: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage, registry = open_storage(project, database.url)
    study, _ = find_or_create(storage, registry, task)
    monkeypatch.setenv(STORAGE, database.url)
    child, its_input = start_worker(study, tmp_path / "said")
    try:
        wait_for_a_running_trial(study)
        database.close()
        code = end_of(child)
    finally:
        os.close(its_input)
    said = (tmp_path / "said").read_text()
    assert said.count("\n") == 1, said
    assert said.startswith(f"error: the storage {shown(database.url)} cannot be reached: "), said
    assert code == 2
    database.open()
    requeue_lost(study, registry)
    assert not study.get_trials(states=(TrialState.RUNNING,))


def test_a_failure_of_the_storage_is_none_of_the_trials(task: Task, project: Path) -> None:
    class Failing(DiskRoundStore):
        def load(self, key: str) -> tuple[FoldResult, ...] | None:
            raise StorageInternalError("as Optuna, within a trial")

    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    with pytest.raises(StorageInternalError):
        work(study, registry, 1, task, Failing(project / "work/rounds"))
    assert requeue_lost(study, registry) == 1, "it is done again"


def test_a_search_whose_server_is_gone_ends_with_a_sentence(
    task: Task, project: Path, database: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(search: Search) -> subprocess.Popen[bytes]:
        database.close()
        started.append(subprocess.Popen(["cat"], stdin=subprocess.PIPE))
        return started[-1]

    monkeypatch.setattr(runner, "_start", start)
    with pytest.raises(InputError, match=r"the storage postgresql://.* cannot be reached: ") as raised:
        search_profile(task.params, (COM,), Budget(6, 1, False, database.url))
    assert "\n" not in str(raised.value)
    assert [process.returncode for process in started] == [0]
