"""Where MLflow keeps this project's runs and models: one database and one artifact folder below the root.

Artifact locations are stored relative to the root, so that a checkout can be moved; therefore the
process works from the root while it talks to MLflow.
"""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import chdir, closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

NAME = "mer-pnao"  # of the experiment and of the registered model
DATABASE, ARTIFACTS = Path("mlruns/mlflow.db"), Path("mlruns/artifacts")
LOCAL_URI = f"sqlite:///{DATABASE}"  # from the root
UNREACHABLE = (MlflowException, OSError, SQLAlchemyError)  # what MLflow and its store fail with
_LOCK = Path("mlruns/tracking.lock")


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


@contextmanager
def opened(project: Path) -> Iterator[Store]:
    """MLflow, initialised where it was not; the working directory is the root meanwhile.

    One process at a time: two that create a database together crash, and two that look for a run and then
    create it would both create it. Raises one of `UNREACHABLE` when MLflow cannot be reached.
    """
    root = tracking_root(project)
    uri = tracking_uri(root)
    (root / _LOCK).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root / _LOCK), chdir(root), _uri_in_environment(uri):
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        local = uri == own_uri(root)
        if local:
            _write_ahead()
        experiment = client.get_experiment_by_name(NAME)
        identity = experiment.experiment_id if experiment else _create_experiment(client)
        if local:
            _keep_artifacts_relative()
        if not client.search_registered_models(f"name = '{NAME}'"):
            with _existing_is_fine():
                client.create_registered_model(NAME)
        yield Store(client, identity)


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
    """What an exception says, short enough for a sentence."""
    return shorten(str(error), 160, placeholder=" ...") or type(error).__name__


def initialise(project: Path) -> None:
    """Create database, experiment and registered model where missing; safe at any time and in parallel.

    Raises one of `UNREACHABLE` when MLflow cannot be reached.
    """
    with opened(project):
        pass


def _create_experiment(client: MlflowClient) -> str:
    with _existing_is_fine():
        client.create_experiment(NAME, tags={"mlflow.experimentKind": "custom_model_development"})
    experiment = client.get_experiment_by_name(NAME)
    if experiment is None or experiment.lifecycle_stage != "active":
        raise MlflowException(f"the experiment {NAME!r} cannot be created")
    return str(experiment.experiment_id)


@contextmanager
def _existing_is_fine() -> Iterator[None]:
    """On a server, somebody else may have been faster."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def _write_ahead() -> None:
    """Readers no longer wait for writers, and a write costs half; the database file remembers it."""
    with closing(sqlite3.connect(DATABASE)) as connection:
        connection.execute("PRAGMA journal_mode = WAL")


def _keep_artifacts_relative() -> None:
    """MLflow turns a relative location into an absolute one; runs and models made later inherit this one."""
    with closing(sqlite3.connect(DATABASE)) as connection, connection:
        connection.execute(
            "UPDATE experiments SET artifact_location = :location "
            "WHERE name = :name AND artifact_location != :location",
            {"location": str(ARTIFACTS), "name": NAME},
        )
