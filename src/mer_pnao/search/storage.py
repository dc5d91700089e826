"""Where a study is kept, and who is at work on it: a journal below the project, or a PostgreSQL server.

A killed worker is told from a slow one without clocks: each holds a lock for as long as it lives, and the operating
system or the database server frees it when the process or its connection is gone, however it ended.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Protocol

from filelock import FileLock, Timeout
from optuna.exceptions import StorageInternalError
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend
from sqlalchemy import Connection, Engine, NullPool, create_engine, text
from sqlalchemy.engine import make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import work_folder

JOURNAL = Path("mlruns/optuna.journal")
_LOCKS = "optuna.locks"  # beside it
FAILURES = (SQLAlchemyError, StorageInternalError)  # what a PostgreSQL server's storage and desk fail with
_DRIVER = "postgresql+psycopg"
_KEEPALIVE = {"tcp_keepalives_idle": 30, "tcp_keepalives_interval": 10, "tcp_keepalives_count": 3}  # seconds, times


class Desk(Protocol):
    """Where workers take trials one after another, and where it is seen who is still there."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Only one process at a time gets in; one that is killed inside lets the next one in."""
        ...

    def attend(self, worker: str) -> AbstractContextManager[Callable[[], None]]:
        """Be seen as present under this name, which nobody had before, until the end of the block or of the process.

        Gives what makes sure of it, to be called before each trial: a server that restarts forgets who was there.
        """
        ...

    def present(self, worker: str) -> bool:
        """Whether that worker still lives."""
        ...


class FileDesk:
    """The desk of one machine: a locked file is a worker that lives."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See Desk."""
        with FileLock(self.folder / "desk.lock"):
            yield

    @contextmanager
    def attend(self, worker: str) -> Iterator[Callable[[], None]]:
        """See Desk."""
        path = self.folder / f"{worker}.lock"
        with FileLock(path):
            yield lambda: None
        path.unlink(missing_ok=True)

    def present(self, worker: str) -> bool:
        """See Desk."""
        path = self.folder / f"{worker}.lock"
        try:
            with FileLock(path, blocking=False):
                path.unlink(missing_ok=True)
        except Timeout:
            return True
        return False


class PostgresDesk:
    """The desk of many machines: a session that holds its advisory lock is a worker that lives."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """See Desk."""
        with self._locked("desk"):
            yield

    @contextmanager
    def attend(self, worker: str) -> Iterator[Callable[[], None]]:
        """See Desk."""
        with ExitStack() as sessions:
            session = sessions.enter_context(self._locked(worker))

            def stay() -> None:
                nonlocal session
                try:
                    session.execute(text("SELECT 1"))
                except DBAPIError:  # the session is gone, and the lock with it
                    session = sessions.enter_context(self._locked(worker))

            yield stay

    def present(self, worker: str) -> bool:
        """See Desk."""
        with self._session() as session:  # which gives the lock back when it ends
            return not session.execute(text("SELECT pg_try_advisory_lock(:key)"), {"key": _key(worker)}).scalar_one()

    @contextmanager
    def _locked(self, name: str) -> Iterator[Connection]:
        with self._session() as session:
            session.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _key(name)})
            yield session

    @contextmanager
    def _session(self) -> Iterator[Connection]:
        with self.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as session:
            for name, value in _KEEPALIVE.items():  # so that a machine that lost its power is not present for hours
                session.execute(text(f"SET {name} = {value}"))
            yield session


def open_storage(project: Path, url: str | None) -> tuple[BaseStorage, Desk]:
    """The project's journal, or the PostgreSQL server of a URL. Raises InputError when it cannot be used."""
    return _open_journal(project) if url is None else _open_server(url)


def shown(url: str | None) -> str:
    """A storage's name for people, without the password."""
    return str(JOURNAL) if url is None else make_url(url).render_as_string(hide_password=True)


def journal_of(project: Path) -> Path:
    """The project's journal, also from the copy in which `dvc exp run --temp` runs, which is thrown away."""
    return work_folder(project).parent / JOURNAL


@contextmanager
def failures_told(url: str | None) -> Iterator[None]:
    """Raise InputError naming the storage when its server fails."""
    try:
        yield
    except FAILURES as error:
        cause: BaseException = error
        while not isinstance(cause, DBAPIError) and (before := cause.__cause__ or cause.__context__):
            cause = before  # Optuna raises its own for the server's, and tries other ways after it
        said, *_ = str(getattr(cause, "orig", cause)).strip().splitlines() or [type(cause).__name__]
        raise InputError(f"the storage {shown(url)} cannot be reached: {said}") from error


def _open_journal(project: Path) -> tuple[BaseStorage, Desk]:
    path = journal_of(project)
    locks = path.with_name(_LOCKS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        desk = FileDesk(locks)
        lock = _JournalLock(path, locks / "journal.lock")
        with desk.exclusive():
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock)), desk  # type: ignore[arg-type]
    except OSError as error:
        raise InputError(f"{path} cannot be used: {error.strerror}") from error
    except (ValueError, KeyError, TypeError, AttributeError, AssertionError) as error:
        said = f"{type(error).__name__}: {error}"
        raise InputError(f"{path} is no readable journal of Optuna ({said}): move it away to start anew") from error


class _JournalLock:
    """The lock around each line that Optuna appends; Optuna's own outlives a killed process by 30 seconds.

    What a full disk or a power cut left of a line is cut off before the next one: glued to it, it would spoil the file.
    """

    def __init__(self, journal: Path, lock: Path) -> None:
        self._journal = journal
        self._lock = FileLock(lock)

    def acquire(self) -> bool:
        self._lock.acquire()
        try:
            _cut_torn_line(self._journal)
        except BaseException:
            self._lock.release()
            raise
        return True

    def release(self) -> None:
        self._lock.release()


def _cut_torn_line(journal: Path) -> None:
    with journal.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return
        file.seek(size - 1)
        if file.read(1) == b"\n":
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)


def _open_server(url: str) -> tuple[BaseStorage, Desk]:
    try:
        chosen = make_url(url)
    except ArgumentError as error:
        raise InputError("the storage is no URL like postgresql://user@host/database") from error
    if chosen.drivername not in ("postgresql", _DRIVER):
        raise InputError(f"the storage must be a {_DRIVER}:// URL, got one that starts with {chosen.drivername}://")
    chosen = chosen.set(drivername=_DRIVER)
    whole = chosen.render_as_string(hide_password=False)
    try:
        # A connection for each step and none between them costs little beside a round, and outlives a server's restart.
        options = {"poolclass": NullPool, "connect_args": {"connect_timeout": 10}}
        desk = PostgresDesk(create_engine(whole, **options))
        with failures_told(url), desk.exclusive():  # of two processes that make the tables at once, one would fail
            storage = RDBStorage(whole, engine_kwargs=options)
        return storage, desk
    except ModuleNotFoundError as error:
        raise InputError(f"{shown(url)} needs the package psycopg: pip install 'mer-pnao[postgresql]'") from error


def _key(name: str) -> int:
    """A key of 64 bits, signed, as PostgreSQL takes them."""
    digest = hashlib.sha256(json.dumps(["mer-pnao search", name]).encode()).digest()
    return int.from_bytes(digest[:8], signed=True)
