"""Where a study is kept, and which workers are alive: a journal below the project, or a PostgreSQL server.

A killed worker is known from a slow one without clocks: each holds a lock for as long as it lives, and the operating
system or the database server frees it when the process or its connection is gone, however it ended.
"""

from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Protocol

from optuna.storages import BaseStorage

from mer_pnao.search.journal import open_journal
from mer_pnao.search.postgresql import open_server


class WorkerRegistry(Protocol):
    """Lets workers take trials one after another, and knows which of them are alive."""

    def exclusive(self) -> AbstractContextManager[None]:
        """Only one process at a time gets in; one that is killed inside lets the next one in."""
        ...

    def register(self, worker: str) -> AbstractContextManager[Callable[[], None]]:
        """Count as alive under this name, which nobody had before, until the end of the block or of the process.

        Gives what makes sure of it, to be called before each trial: a server that restarts forgets who was there.
        """
        ...

    def is_alive(self, worker: str) -> bool:
        """Whether that worker still lives."""
        ...


def open_storage(project: Path, url: str | None) -> tuple[BaseStorage, WorkerRegistry]:
    """The project's journal, or the PostgreSQL server of a URL. Raises InputError when it cannot be used."""
    return open_journal(project) if url is None else open_server(url)
