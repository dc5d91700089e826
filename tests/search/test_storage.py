"""Where studies are kept: locks that a kill frees, torn and spoilt journals, servers that are not there."""

import os
import signal
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
from optuna.exceptions import StorageInternalError
from optuna.study import create_study, get_all_study_names, load_study
from sqlalchemy.exc import OperationalError, PendingRollbackError

from mer_pnao.foundations.errors import InputError
from mer_pnao.search import storage
from mer_pnao.search.storage import WorkerRegistry, open_storage
from mer_pnao.search.storage_errors import JOURNAL, failures_named, shown


@pytest.fixture(params=["journal", "postgres"])
def opened(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], WorkerRegistry]:
    url = request.getfixturevalue("postgres") if request.param == "postgres" else None
    return lambda: open_storage(tmp_path, url)[1]


def in_child(act: Callable[[WorkerRegistry], None], opened: Callable[[], WorkerRegistry]) -> int:
    """A process that has acted when this returns, and stays there until it is killed."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            act(opened())
            os.write(writer, b"x")
            signal.pause()
        finally:
            os._exit(1)
    os.close(writer)
    assert os.read(reader, 1) == b"x"
    os.close(reader)
    return child


def test_a_worker_is_alive_until_it_is_killed(opened: Callable[[], WorkerRegistry]) -> None:
    held = []

    def register(registry: WorkerRegistry) -> None:
        held.append(registry.register("worker-1"))
        held[0].__enter__()

    child = in_child(register, opened)
    registry = opened()
    assert registry.is_alive("worker-1")
    assert not registry.is_alive("worker-2")
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    while registry.is_alive("worker-1"):  # the server needs a moment to see that the connection is gone
        pass
    with registry.register("worker-3"):
        assert opened().is_alive("worker-3")
    assert not opened().is_alive("worker-3")


def test_a_worker_whose_session_was_cut_is_registered_again(tmp_path: Path, database: SimpleNamespace) -> None:
    registry, other = (open_storage(tmp_path, database.url)[1] for _ in range(2))
    with registry.register("worker-1") as renew:
        for _ in range(2):
            database.cut()
            assert not other.is_alive("worker-1")
            renew()
            renew()
            assert other.is_alive("worker-1")
    assert not other.is_alive("worker-1")


def test_an_experiment_in_a_copy_searches_where_dvc_says(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DVC_ROOT", str(tmp_path / "project"))
    create_study(study_name="s", storage=open_storage(tmp_path / "copy", None)[0])
    assert not (tmp_path / "copy").exists()
    monkeypatch.delenv("DVC_ROOT")
    assert get_all_study_names(open_storage(tmp_path / "project", None)[0]) == ["s"]


def test_a_process_killed_inside_lets_the_next_one_in(opened: Callable[[], WorkerRegistry]) -> None:
    held = []

    def enter(registry: WorkerRegistry) -> None:
        held.append(registry.exclusive())
        held[0].__enter__()

    child = in_child(enter, opened)
    os.kill(child, signal.SIGKILL)
    os.waitpid(child, 0)
    with opened().exclusive():
        pass


def test_a_torn_line_costs_nothing_but_itself(tmp_path: Path) -> None:
    storage, _ = open_storage(tmp_path, None)
    study = create_study(study_name="s", storage=storage)
    study.tell(study.ask(), 1.0)
    journal = tmp_path / JOURNAL
    whole = journal.read_bytes()
    journal.write_bytes(whole + b'{"op_code":4,"study_')
    again = load_study(study_name="s", storage=open_storage(tmp_path, None)[0])
    again.tell(again.ask(), 2.0)
    assert journal.read_bytes().startswith(whole)
    third = load_study(study_name="s", storage=open_storage(tmp_path, None)[0])
    assert [trial.value for trial in third.trials] == [1.0, 2.0]
    assert [trial.value for trial in study.trials] == [1.0, 2.0]


@pytest.mark.parametrize(
    "content", [b"rubbish\nrubbish\n", b'{"op_code": 0}\n{"x": 1}\n', b"[1]\n[2]\n", b"\xff\xfe\n\n\n"]
)
def test_a_spoilt_journal_is_refused_by_name(tmp_path: Path, content: bytes) -> None:
    journal = tmp_path / JOURNAL
    journal.parent.mkdir()
    journal.write_bytes(content)
    with pytest.raises(
        InputError, match=r"optuna\.journal is no readable journal of Optuna .*: move it away"
    ) as raised:
        open_storage(tmp_path, None)
    assert "\n" not in str(raised.value)
    assert journal.read_bytes() == content


def test_a_journal_that_cannot_be_written_is_refused(tmp_path: Path) -> None:
    (tmp_path / "mlruns").write_text("a file")
    with pytest.raises(InputError, match=r"optuna\.journal cannot be used: File exists"):
        open_storage(tmp_path, None)


@pytest.mark.parametrize(
    ("url", "message"),
    [
        (
            "postgresql://mer:geheim@127.0.0.1:1/search",
            r"postgresql://mer:\*\*\*@127\.0\.0\.1:1/search cannot be reached: ",
        ),
        ("sqlite:///x.db", r"the storage must be a postgresql\+psycopg:// URL, got one that starts with sqlite://"),
        ("nonsense", r"the storage is no URL like postgresql://user@host/database"),
    ],
)
def test_storages_that_cannot_be_used_are_refused_without_the_password(tmp_path: Path, url: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as raised:
        open_storage(tmp_path, url)
    assert "geheim" not in str(raised.value)
    assert "\n" not in str(raised.value)


def test_the_sentence_says_what_the_server_said() -> None:
    def fail() -> None:
        """As Optuna does, which has a second attempt in the same session."""
        try:
            try:
                raise OperationalError("SELECT 1", {}, Exception("terminated\nby somebody"))
            except OperationalError as error:
                raise StorageInternalError("invalid data in the commit") from error
        except StorageInternalError:
            try:
                raise PendingRollbackError("roll back")
            except PendingRollbackError as error:
                raise StorageInternalError("invalid data in the commit") from error

    with (
        pytest.raises(InputError, match=r"optuna\.journal cannot be reached: terminated$"),
        failures_named(None),
    ):
        fail()


def test_a_password_is_not_shown() -> None:
    assert shown("postgresql://mer:geheim@host/db") == "postgresql://mer:***@host/db"
    assert shown(None) == "mlruns/optuna.journal"


def test_postgresql_is_one_file_that_one_line_imports() -> None:
    folder = Path(storage.__file__).parent
    importers = [path.name for path in folder.rglob("*.py") if "search.postgresql" in path.read_text(encoding="utf-8")]
    assert importers == ["storage.py"]
    speakers = [path.name for path in folder.rglob("*.py") if "pg_" in path.read_text(encoding="utf-8")]
    assert speakers == ["postgresql.py"]
