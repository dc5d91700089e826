"""A journal below the project as the storage of a study, for the workers of one machine."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import work_folder
from mer_pnao.search.storage_errors import JOURNAL

_LOCKS = "optuna.locks"  # beside it


class FileRegistry:
    """The workers of one machine: a locked file is a worker that lives. See WorkerRegistry."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        with FileLock(self.folder / "study.lock"):
            yield

    @contextmanager
    def register(self, worker: str) -> Iterator[Callable[[], None]]:
        path = self.folder / f"{worker}.lock"
        with FileLock(path):
            yield lambda: None
        path.unlink(missing_ok=True)

    def is_alive(self, worker: str) -> bool:
        path = self.folder / f"{worker}.lock"
        try:
            with FileLock(path, blocking=False):
                path.unlink(missing_ok=True)
        except Timeout:
            return True
        return False


def journal_of(project: Path) -> Path:
    """The project's journal, also from the copy in which `dvc exp run --temp` runs, which is thrown away."""
    return work_folder(project).parent / JOURNAL


def open_journal(project: Path) -> tuple[JournalStorage, FileRegistry]:
    """The project's journal, made where there is none. Raises InputError when it cannot be used."""
    path = journal_of(project)
    locks = path.with_name(_LOCKS)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        registry = FileRegistry(locks)
        lock = _JournalLock(path, locks / "journal.lock")
        with registry.exclusive():
            return JournalStorage(JournalFileBackend(str(path), lock_obj=lock)), registry  # type: ignore[arg-type]
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
        file.seek(max(file.seek(0, os.SEEK_END) - 1, 0))
        if file.read(1) in (b"\n", b""):
            return
        file.seek(0)
        file.truncate(file.read().rfind(b"\n") + 1)
