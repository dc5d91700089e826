"""What goes wrong with MLflow's records, and the sentence that says what to do."""

import os
import shutil
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import DATABASE, initialise, reached
from mer_pnao.tracking.lookup import find_registered
from mer_pnao.tracking.runs import track


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.slow
def test_a_deleted_experiment_is_named_with_the_command_that_takes_it_back(project: Path) -> None:
    initialise(project)
    uri = f"sqlite:///{project / DATABASE}"
    client = MlflowClient(uri)
    client.delete_experiment("1")
    with pytest.raises(InputError) as refusal:
        initialise(project)
    command = f"MLFLOW_TRACKING_URI={uri} mlflow experiments restore --experiment-id 1"
    said = f"MLflow at {uri} cannot be used: the experiment 'mer-pnao' has been deleted; to take it back: {command}"
    assert str(refusal.value) == said
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    subprocess.run(command, shell=True, check=True, cwd=project, env=os.environ | {"PATH": path}, capture_output=True)  # noqa: S602
    initialise(project)


def test_a_database_of_a_newer_mlflow_is_not_to_be_upgraded(project: Path) -> None:
    initialise(project)
    with closing(sqlite3.connect(project / DATABASE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'feedbeef0123'")
    with pytest.raises(InputError, match=r"its schema feedbeef0123 is of a newer MLflow than the \d") as refusal:
        initialise(project)
    assert "upgrade" not in str(refusal.value)


def test_what_mlflow_says_is_not_cut(project: Path) -> None:
    long = "word " * 100
    with pytest.raises(InputError, match=f"cannot be used: {long.strip()}$"), reached(project):
        raise OSError(long)


def test_files_of_a_version_that_are_gone_are_named_and_made_anew(
    project: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs.write_round(project / "models", "enf_pnao", 0, 0.4, best=True)
    track(project)
    files = find_registered(project, "1").directory
    assert files.is_relative_to(project / "mlruns")
    before = content(files)
    shutil.rmtree(files.parent)
    with pytest.raises(InputError, match=r"^the files of version 1 are gone from .*: `mer track` makes them anew"):
        find_registered(project, "1")
    track(project)
    assert content(find_registered(project, "1").directory) == before
    assert [version.version for version in versions(project, monkeypatch)] == [1]


def versions(project: Path, monkeypatch: pytest.MonkeyPatch) -> list:
    monkeypatch.chdir(project)
    return list(MlflowClient(f"sqlite:///{project / DATABASE}").search_model_versions())
