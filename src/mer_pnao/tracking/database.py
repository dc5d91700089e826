"""What is asked of MLflow's database past MLflow: a lock, cheaper writes, and artifacts at a relative place."""

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version
from importlib.resources import files
from pathlib import Path
from urllib.parse import urlsplit

from mlflow.exceptions import MlflowException
from sqlalchemy import Connection, NullPool, create_engine, inspect, make_url, text

_KINDS = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow can keep its records in
_ADVISORY_LOCK = 0x6D65722D706E616F  # "mer-pnao"; any number that others do not lock by


def is_database(uri: str) -> bool:
    """Whether MLflow's records are read from and written to a database directly, without a server."""
    return urlsplit(uri).scheme.split("+")[0] in _KINDS


@contextmanager
def connected(uri: str, lock: bool = True) -> Iterator[Connection | None]:
    """The database, where asked for locked against other initialisations; None for a server, which sees to its own.

    Raises MlflowException for an address that is none, or whose driver is not installed, and for one that a newer
    MLflow has written.
    """
    if not is_database(uri):
        yield None
        return
    try:
        engine = create_engine(make_url(uri), poolclass=NullPool, isolation_level="AUTOCOMMIT")
    except ModuleNotFoundError as error:
        raise MlflowException(f"the database driver {error.name!r} is not installed, see docs/tracking.md") from error
    except Exception:  # its message may hold a piece of a password
        raise MlflowException(
            "MLFLOW_TRACKING_URI is no database address like postgresql+psycopg://user:password@host:5432/name, "
            "with special characters percent-encoded"
        ) from None
    with engine.connect() as connection:
        if engine.dialect.name == "sqlite":  # readers no longer wait for writers, and a write costs half
            connection.execute(text("PRAGMA journal_mode = WAL"))
        elif engine.dialect.name == "postgresql" and lock:  # until the connection ends
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        _refuse_newer(connection)
        yield connection


def _refuse_newer(database: Connection) -> None:
    """MLflow itself takes any other schema for an older one, and advises to upgrade the database."""
    if not inspect(database).has_table("alembic_version"):
        return
    known = {path.name.split("_")[0] for path in files("mlflow.store.db_migrations.versions").iterdir()}
    for (schema,) in database.execute(text("SELECT version_num FROM alembic_version")):
        if schema not in known:
            raise MlflowException(
                f"its schema {schema} is of a newer MLflow than the {version('mlflow')} that is installed here"
            )


def keep_artifacts_relative(database: Connection, experiment: str, location: str, relative: Path) -> None:
    """MLflow turns a relative location into an absolute one; runs and models made later inherit this one.

    A server's location, or one that somebody has chosen, stays.
    """
    path = location.removeprefix("file://")
    if path.startswith("/") and path.endswith(f"/{relative.as_posix()}"):
        statement = text("UPDATE experiments SET artifact_location = :location WHERE name = :name")
        database.execute(statement, {"location": relative.as_posix(), "name": experiment})
