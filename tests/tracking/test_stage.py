"""Tracking beside a training: nothing that MLflow does may fail or hold up a training."""

import errno
import os
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import Mock

import pytest
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.store.artifact.local_artifact_repo import LocalArtifactRepository
from sqlalchemy.exc import OperationalError

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking import stage
from mer_pnao.tracking import stage_worker as beside
from mer_pnao.tracking.connection import DATABASE, initialise
from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.runs import track
from mer_pnao.tracking.search_runs import search_tracker, track_search
from mer_pnao.tracking.stage import CATCH_UP, StageTracker
from mer_pnao.tracking.stage_worker import attempt


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_until_ready(tracker: StageTracker) -> None:
    assert tracker._process is not None
    assert tracker._line.poll(60)


def names_of(root: Path) -> set[str]:
    runs = MlflowClient(f"sqlite:///{root / DATABASE}").search_runs(["1"])
    return {run.info.run_name.replace(" naor 0.05", "") for run in runs}


def test_rounds_are_logged_beside_the_training(
    project: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    directory = outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    tracker = StageTracker(Path())
    tracker.round(directory.relative_to(project))
    assert tracker._due == 2  # not waited for: that the process beside is ready, and that it has logged the round
    tracker.finished(directory.parent.relative_to(project))
    assert names_of(project) == {"enf", "enf round 00"}
    assert capsys.readouterr() == ("", "")


def test_training_goes_on_without_mlflow_and_track_catches_up(
    project: Path,
    outs: SimpleNamespace,
    closed_port: int,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://somebody:secret@127.0.0.1:{closed_port}")
    tracker = StageTracker(project)
    directory = outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    tracker.round(directory)
    tracker.finished(directory.parent)
    said = capsys.readouterr()
    assert said.out == ""
    assert said.err.startswith("MLflow could not be told (")
    assert said.err.endswith(f"): {CATCH_UP}\n")
    assert said.err.count("\n") == 1  # once, not for each attempt
    with pytest.raises(InputError, match=f"MLflow at .*{closed_port} cannot be used: ") as caught:
        track(project)
    assert "secret" not in said.err + str(caught.value)
    monkeypatch.delenv("MLFLOW_TRACKING_URI")
    track(project)
    assert names_of(project) == {"enf", "enf round 00"}


@pytest.fixture
def locked(project: Path) -> Iterator[sqlite3.Connection]:
    """The database in the exclusive hands of somebody else."""
    with closing(sqlite3.connect(project / DATABASE, isolation_level=None)) as connection:
        connection.execute("BEGIN EXCLUSIVE")
        yield connection


def test_a_locked_database_holds_a_training_up_once(
    project: Path,
    outs: SimpleNamespace,
    locked: sqlite3.Connection,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    patience = 3.0
    monkeypatch.setattr(stage, "_PATIENCE", patience)
    tracker, models, spent = StageTracker(project), project / "models", []
    for number in range(3):
        directory = outs.write_round(models, "enf", number, 0.3 + number / 10, best=number == 2)
        started = time.monotonic()
        tracker.round(directory)
        spent.append(time.monotonic() - started)
    assert max(spent) < patience
    wait_until_ready(tracker)
    started = time.monotonic()
    for _ in range(2):
        tracker.finished(models / "enf")
    assert patience <= time.monotonic() - started < 2 * patience
    assert capsys.readouterr().err == f"MLflow does not answer within 3 s: {CATCH_UP}\n"
    locked.execute("ROLLBACK")
    track(project)
    assert names_of(project) == {"enf", *(f"enf round 0{number}" for number in range(3))}


def test_a_database_that_is_free_again_gets_all_rounds(
    project: Path, outs: SimpleNamespace, locked: sqlite3.Connection, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, models = StageTracker(project), project / "models"
    tracker.round(outs.write_round(models, "enf", 0, 0.3))
    tracker.round(outs.write_round(models, "enf", 1, 0.4, best=True))
    wait_until_ready(tracker)
    locked.execute("ROLLBACK")
    tracker.finished(models / "enf")
    assert names_of(project) == {"enf", "enf round 00", "enf round 01"}
    assert capsys.readouterr() == ("", "")


def test_a_process_that_logs_may_be_killed(
    project: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    tracker, directory = StageTracker(project), outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    wait_until_ready(tracker)
    assert tracker._process is not None
    tracker._process.kill()
    tracker._process.wait()
    for _ in range(2):
        tracker.round(directory)
        tracker.finished(directory.parent)
    said = capsys.readouterr().err
    assert said == f"the process that logs is gone: {CATCH_UP}\n"


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGKILL])
def test_no_process_outlives_a_stopped_training(stop: signal.Signals, project: Path, outs: SimpleNamespace) -> None:
    outs.write_round(project / "models", "enf", 0, 0.3)
    code = (
        "import sys, time; from pathlib import Path; from mer_pnao.tracking.stage import CATCH_UP, StageTracker\n"
        "tracker = StageTracker(Path())\n"
        "tracker._line.poll(60)\n"
        "tracker.round(Path('models/enf/round-00'))\n"
        "print(tracker._process.pid, flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], cwd=project, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    ) as training:  # fmt: skip
        assert training.stdout is not None
        beside = int(training.stdout.readline())
        os.killpg(training.pid, signal.SIGINT) if stop == signal.SIGINT else training.kill()
        training.wait(30)
    deadline = time.monotonic() + 30
    while Path(f"/proc/{beside}").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not Path(f"/proc/{beside}").exists()
    if stop == signal.SIGINT:
        assert names_of(project) == {"enf", "enf round 00"}  # what was sent is still logged
    track(project)
    assert names_of(project) == {"enf", "enf round 00"}


@pytest.mark.parametrize("error", [MlflowException("x"), OSError("x"), OperationalError("x", None, Exception("x"))])
def test_what_mlflow_raises_is_said(
    error: Exception, project: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    monkeypatch.setattr(MlflowClient, "search_runs", Mock(side_effect=error))
    for kind, folder in (("round", directory), ("system", directory.parent)):
        assert attempt(kind, folder, read_lineage(project)).startswith("MLflow could not be told (")
    with pytest.raises(InputError, match=r"MLflow at sqlite:///.* cannot be used: (\(builtins.Exception\) )?x$"):
        track(project)


def test_a_full_disk_is_said_and_caught_up(
    project: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    with monkeypatch.context() as patch:
        full = OSError(errno.ENOSPC, "No space left on device")
        patch.setattr(LocalArtifactRepository, "log_artifact", Mock(side_effect=full))
        sentence = attempt("round", directory, read_lineage(project))
        assert sentence == f"MLflow could not be told ([Errno 28] No space left on device): {CATCH_UP}"
    track(project)
    client = MlflowClient(f"sqlite:///{project / DATABASE}")
    assert {run.info.status for run in client.search_runs(["1"])} == {"FINISHED"}
    monkeypatch.chdir(project)
    (run,) = client.search_runs(["1"], "tags.round = '0'")
    assert client.download_artifacts(run.info.run_id, "curves.csv")


def test_artifacts_that_cannot_be_written_are_said_and_caught_up(project: Path, outs: SimpleNamespace) -> None:
    directory, artifacts = outs.write_round(project / "models", "enf", 0, 0.3, best=True), project / "mlruns/artifacts"
    artifacts.write_text("a file where a folder belongs")
    assert attempt("round", directory, read_lineage(project)).startswith("MLflow could not be told ([Errno")
    with pytest.raises(InputError, match=r"MLflow at .* cannot be used: .*mlruns/artifacts"):
        track(project)
    artifacts.unlink()
    track(project)
    assert names_of(project) == {"enf", "enf round 00"}


def test_a_damaged_database_is_named(project: Path, outs: SimpleNamespace) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    for path in (project / "mlruns").glob("mlflow.db*"):
        path.unlink()
    (project / DATABASE).write_bytes(b"no database at all, but long enough to look at" * 100)
    for command in (track, initialise):
        with pytest.raises(InputError) as caught:
            command(project)
        assert str(caught.value) == (
            f"MLflow at sqlite:///{project / DATABASE} cannot be used: (sqlite3.DatabaseError) file is not a database"
        )
    assert "file is not a database" in attempt("round", directory, read_lineage(project))


def test_a_fault_of_ours_is_not_laid_on_mlflow(
    project: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    fault = ZeroDivisionError("our fault at postgresql://me:secret@there/db")
    monkeypatch.setattr(beside, "log_round", Mock(side_effect=fault))
    log = project / "work/tracking-error.log"
    assert attempt("round", directory, read_lineage(project)) == (
        f"tracking failed (ZeroDivisionError: our fault at postgresql://me:***@there/db): {CATCH_UP}; "
        f"the traceback is in {log}"
    )
    assert "Traceback (most recent call last)" in log.read_text()
    assert "our fault" in log.read_text()
    assert "secret" not in log.read_text()


def test_a_traceback_that_cannot_be_kept_does_not_stop_a_training(
    project: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    (project / "work").write_text("a file where a folder belongs")
    monkeypatch.setattr(beside, "log_round", Mock(side_effect=ZeroDivisionError("our fault")))
    expected = f"tracking failed (ZeroDivisionError: our fault): {CATCH_UP}"
    assert attempt("round", directory, read_lineage(project)) == expected


def test_tracking_can_be_turned_off(
    project: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MER_TRACKING", "off")
    directory = outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    tracker = StageTracker(project)
    assert tracker._process is None
    tracker.round(directory)
    tracker.finished(directory.parent)
    assert names_of(project) == set()
    assert capsys.readouterr() == ("", "")
    track(project)  # catches up
    assert names_of(project) == {"enf", "enf round 00"}


@pytest.mark.parametrize("value", ["0", "OFF", ""])
def test_a_switch_that_is_neither_on_nor_off_is_refused(
    value: str, project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MER_TRACKING", value)
    for start in (lambda: StageTracker(project), search_tracker):
        with pytest.raises(InputError, match=f"^MER_TRACKING must be on or off, got '{value}'$"):
            start()


def test_a_search_is_tracked_unless_tracking_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    assert search_tracker() is track_search
    monkeypatch.setenv("MER_TRACKING", "off")
    assert search_tracker() is not track_search
