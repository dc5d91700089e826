"""Where MLflow keeps this project's runs and models: one database and one artifact folder below the root.

MLFLOW_TRACKING_URI names another database (its artifacts stay below the root) or a server (which keeps them itself).

Artifact locations are stored relative to the root, so that a checkout can be moved; therefore the
process works from the root while it talks to MLflow.
"""

import os
import re
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten
from urllib.parse import urlsplit

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from sqlalchemy import Connection, NullPool, create_engine, make_url, text
from sqlalchemy.exc import SQLAlchemyError

from mer_pnao.foundations.errors import InputError

NAME = "mer-pnao"  # of the experiment and of the registered model
DATABASE, ARTIFACTS = Path("mlruns/mlflow.db"), Path("mlruns/artifacts")
LOCAL_URI = f"sqlite:///{DATABASE}"  # from the root
UNREACHABLE = (MlflowException, OSError, SQLAlchemyError)  # what MLflow and its store fail with
_LOCK = Path("mlruns/tracking.lock")
_DATABASES = ("sqlite", "postgresql", "mysql", "mssql")  # that MLflow can keep its records in
_ADVISORY_LOCK = 0x6D65722D706E616F  # "mer-pnao"; any number that others do not lock by


@dataclass(frozen=True)
class Store:
    """An initialised MLflow, for as long as `opened` holds it."""

    client: MlflowClient
    experiment: str  # its id


def tracking_root(project: Path) -> Path:
    """The folder that holds mlruns/: DVC_ROOT where set (an experiment runs in a copy), else the project."""
    return Path(os.environ.get("DVC_ROOT") or project).resolve()


def own_uri(root: Path) -> str:
    """The database below the root, from anywhere."""
    return f"sqlite:///{root / DATABASE}"


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where it names another place than the root's own database, else `own_uri`."""
    own = own_uri(root)
    chosen = os.environ.get("MLFLOW_TRACKING_URI") or own
    scheme, _, path = chosen.partition(":///")
    same = scheme == "sqlite" and (root / path).resolve() == (root / DATABASE).resolve()
    return own if same else chosen


def is_database(uri: str) -> bool:
    """Whether MLflow's records are read from and written to a database directly, without a server."""
    return urlsplit(uri).scheme.split("+")[0] in _DATABASES


@contextmanager
def opened(project: Path) -> Iterator[Store]:
    """MLflow, initialised where it was not; the working directory is the root meanwhile.

    One process at a time, on PostgreSQL over all machines: two that create a database together crash, and two that
    look for a run and then create it would both create it. Raises one of `UNREACHABLE` when MLflow cannot be reached.
    """
    root = tracking_root(project)
    uri = tracking_uri(root)
    (root / _LOCK).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root / _LOCK), chdir(root), _uri_in_environment(uri), _connected(uri) as database:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment = client.get_experiment_by_name(NAME) or _create_experiment(client, database is not None)
        if database is not None:
            _keep_artifacts_relative(database, experiment)
        if not client.search_registered_models(f"name = '{NAME}'"):
            with _existing_is_fine():
                client.create_registered_model(NAME)
        yield Store(client, str(experiment.experiment_id))


@contextmanager
def _connected(uri: str) -> Iterator[Connection | None]:
    """The database, locked against other initialisations where it can be; None for a server, which sees to its own."""
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
        elif engine.dialect.name == "postgresql":  # until the connection ends
            connection.execute(text("SELECT pg_advisory_lock(:key)"), {"key": _ADVISORY_LOCK})
        yield connection


@contextmanager
def _uri_in_environment(uri: str) -> Iterator[None]:
    """The registry looks a logged model up by a client of its own, which knows only the environment."""
    before = os.environ.get("MLFLOW_TRACKING_URI")
    os.environ["MLFLOW_TRACKING_URI"] = uri
    try:
        yield
    finally:
        if before is None:
            del os.environ["MLFLOW_TRACKING_URI"]
        else:
            os.environ["MLFLOW_TRACKING_URI"] = before


def one_line(error: Exception) -> str:
    """What an exception says, without passwords and statements, short enough for a sentence."""
    said = without_passwords(str(error)).split("[SQL:")[0].split("(Background on this error")[0]
    return shorten(said, 160, placeholder=" ...") or type(error).__name__


def without_passwords(said: str) -> str:
    """The text with *** in the place of passwords in addresses."""
    said = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", said)
    return re.sub(r"(password=)[^\s&'\"]+", r"\1***", said)


def initialise(project: Path) -> None:
    """Create database, experiment and registered model where missing; safe at any time and in parallel.

    Raises InputError when MLflow cannot be reached.
    """
    with reached(project):
        pass


@contextmanager
def reached(project: Path) -> Iterator[Store]:
    """As `opened`, for people: raises InputError naming the place when MLflow fails."""
    with failures_named(project), opened(project) as store:
        yield store


@contextmanager
def failures_named(project: Path) -> Iterator[None]:
    """Raise InputError naming the place when MLflow fails."""
    try:
        yield
    except UNREACHABLE as error:
        place = without_passwords(tracking_uri(tracking_root(project)))
        raise InputError(f"MLflow cannot be reached at {place}: {one_line(error)}") from error


def _create_experiment(client: MlflowClient, below_the_root: bool) -> Experiment:
    with _existing_is_fine():
        location = ARTIFACTS.as_posix() if below_the_root else None  # a server has a place of its own
        client.create_experiment(NAME, location, {"mlflow.experimentKind": "custom_model_development"})
    experiment = client.get_experiment_by_name(NAME)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise MlflowException(f"the experiment {NAME!r} cannot be created")
    return experiment


@contextmanager
def _existing_is_fine() -> Iterator[None]:
    """On a server, somebody else may have been faster."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _keep_artifacts_relative(database: Connection, experiment: Experiment) -> None:
    """MLflow turns a relative location into an absolute one; runs and models made later inherit this one.

    A server's location, or one that somebody has chosen, stays.
    """
    path = experiment.artifact_location.removeprefix("file://")
    if path.startswith("/") and path.endswith(f"/{ARTIFACTS.as_posix()}"):
        statement = text("UPDATE experiments SET artifact_location = :location WHERE name = :name")
        database.execute(statement, {"location": ARTIFACTS.as_posix(), "name": NAME})
