"""One first run for all workers: it takes minutes of a core."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch
from filelock import FileLock
from tiny_project import checkout, commit, run

_FOLDER = "somebody's prøject 表"


@pytest.fixture(scope="session")
def first_run(tmp_path_factory: pytest.TempPathFactory, worker_id: str) -> Path:
    """A project after its first `dvc repro`, tracked and committed, which nobody touches; tests work on copies.

    Its folder has a name with a space, a quote and letters beyond ASCII.
    """
    base = tmp_path_factory.getbasetemp()
    shared = (base if worker_id == "master" else base.parent) / "first_run"
    with FileLock(f"{shared}.lock"):
        if not (shared / "done").exists():
            project = checkout(shared / _FOLDER)
            run(project, "mer", "init")
            if "MLflow does not answer within" in run(project, "dvc", "repro", MER_TRACKING="on"):
                run(project, "mer", "track")  # as a user of a busy machine is told to
            commit(project)
            (shared / "done").touch()
    return shared / _FOLDER


@pytest.fixture(scope="module")
def finished(first_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy for the tests of a file that change nothing."""
    return Path(shutil.copytree(first_run, tmp_path_factory.mktemp("finished") / "project", symlinks=True))


@pytest.fixture
def project(first_run: Path, tmp_path: Path) -> Iterator[Path]:
    """A copy of the test's own."""
    shutil.copytree(first_run, tmp_path / "project", symlinks=True)
    yield tmp_path / "project"
    shutil.rmtree(tmp_path / "project")


@pytest.fixture
def mer_in(mer: Callable[..., tuple[int, str, str]], monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Call `mer` in a project and in this process, which has its libraries imported; returns stdout."""
    monkeypatch.setenv("COLUMNS", "80")

    def call(project: Path, *arguments: str) -> str:
        monkeypatch.chdir(project)
        threads = torch.get_num_threads()
        code, out, err = mer(*arguments)
        torch.set_num_threads(threads)
        assert code == 0, err
        return out

    return call
