"""How a storage is called, and how it fails, in words for people."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from optuna.exceptions import StorageInternalError
from sqlalchemy.engine import make_url
from sqlalchemy.exc import DBAPIError, SQLAlchemyError

from mer_pnao.foundations.errors import InputError

JOURNAL = Path("mlruns/optuna.journal")
FAILURES = (SQLAlchemyError, StorageInternalError)  # what a server's storage and registry of workers fail with


def shown(url: str | None) -> str:
    """A storage's name for people, without the password."""
    return str(JOURNAL) if url is None else make_url(url).render_as_string(hide_password=True)


@contextmanager
def failures_named(url: str | None) -> Iterator[None]:
    """Raise InputError naming the storage when its server fails."""
    try:
        yield
    except FAILURES as error:
        cause: BaseException = error
        while not isinstance(cause, DBAPIError) and (before := cause.__cause__ or cause.__context__):
            cause = before  # Optuna raises its own for the server's, and tries other ways after it
        said, *_ = str(getattr(cause, "orig", cause)).strip().splitlines() or [type(cause).__name__]
        raise InputError(f"the storage {shown(url)} cannot be reached: {said}") from error
