"""Where the database is, that it can be made by several at once, and what happens without MLflow."""

import ast
import os
import socket
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from filelock import FileLock, Timeout
from mlflow import MlflowClient

from mer_pnao import tracking
from mer_pnao.tracking.connection import DATABASE, NAME, initialise, opened, tracking_uri
from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.runs import track


def test_initialise_makes_what_is_promised_and_again_changes_nothing(empty: Path) -> None:
    initialise(empty)
    with closing(sqlite3.connect(empty / DATABASE)) as connection:
        assert connection.execute("PRAGMA journal_mode").fetchone() == ("wal",)
        rows = connection.execute("SELECT name, artifact_location FROM experiments WHERE name = ?", (NAME,))
        assert rows.fetchall() == [(NAME, "mlruns/artifacts")]
        assert connection.execute("SELECT name FROM registered_models").fetchall() == [(NAME,)]
    assert not (empty / "mlflow.db").exists()


@pytest.mark.slow
def test_three_processes_may_initialise_at_once(tmp_path: Path, outs: SimpleNamespace) -> None:
    root = outs.make_project(tmp_path / "fresh")
    code = "from pathlib import Path; from mer_pnao.tracking.connection import initialise; initialise(Path())"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for _ in range(3)
    ]
    ends = [(process.communicate(), process.returncode) for process in processes]
    assert ends == [((b"", b""), 0)] * 3
    experiments = MlflowClient(f"sqlite:///{root / DATABASE}").search_experiments()
    assert sorted(experiment.name for experiment in experiments) == ["Default", NAME]


def test_an_experiment_in_a_copy_tracks_where_dvc_says(
    project: Path, tmp_path: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    copy = outs.make_project(tmp_path / "copy")
    outs.write_round(copy / "models", "enf", 0, 0.3, best=True)
    monkeypatch.setenv("DVC_ROOT", str(project))
    track(copy)
    assert not (copy / "mlruns").exists()
    monkeypatch.chdir(project)
    client = MlflowClient(f"sqlite:///{project / DATABASE}")
    (run,) = client.search_runs(["1"], "tags.round = '0'")
    assert "curves.csv" in {item.path for item in client.list_artifacts(run.info.run_id)}


def test_the_environment_overrides_the_own_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    own = f"sqlite:///{tmp_path / DATABASE}"
    assert tracking_uri(tmp_path) == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{DATABASE}")  # the same place, from the root
    assert tracking_uri(tmp_path) == own
    (tmp_path / "link").symlink_to(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/link/{DATABASE}")
    assert tracking_uri(tmp_path) == own
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "sqlite:///another.db")
    assert tracking_uri(tmp_path) == "sqlite:///another.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:5000")
    assert tracking_uri(tmp_path) == "http://127.0.0.1:5000"


@pytest.fixture
def closed_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def test_one_process_at_a_time_on_every_platform(project: Path) -> None:
    with opened(project), pytest.raises(Timeout):
        FileLock(project / "mlruns/tracking.lock", timeout=0).acquire()
    for source in Path(tracking.__file__).parent.rglob("*.py"):
        imported = {
            alias.name
            for node in ast.walk(ast.parse(source.read_text(encoding="utf-8")))
            if isinstance(node, ast.Import)
            for alias in node.names
        }
        assert imported & {"fcntl", "msvcrt", "resource", "pwd"} == set(), source


def test_the_lineage_names_commit_and_lock(tmp_path: Path, outs: SimpleNamespace) -> None:
    root = outs.make_project(tmp_path / "project")
    assert {"mlflow.source.git.commit", "git_dirty"} & set(read_lineage(root).tags()) == set()
    environment = os.environ | {"GIT_CEILING_DIRECTORIES": str(tmp_path)}
    commit = ["-c", "user.name=n", "-c", "user.email=e@x", "commit", "-q", "-m", "first"]
    for arguments in (["init", "-q"], ["add", "params.yaml"], commit):
        subprocess.run(["git", "-C", str(root), *arguments], check=True, env=environment)
    head = subprocess.run(["git", "-C", str(root), "rev-parse", "HEAD"], check=True, capture_output=True, text=True)
    lineage = read_lineage(root)
    assert lineage.tags()["mlflow.source.git.commit"] == head.stdout.strip()
    (root / "dvc.lock").write_text("schema: '2.0'\nstages: {}\n")
    assert read_lineage(root).dvc_lock != lineage.dvc_lock
    assert lineage.tags()["git_dirty"] == "false"  # dvc.lock changes with every stage and has a tag of its own
    (root / "new.py").touch()
    assert read_lineage(root).tags()["git_dirty"] == "true"
