"""Where MLflow keeps this project's runs and models: one database and one artifact folder below the root.

MLFLOW_TRACKING_URI names another database (its artifacts stay below the root) or a server (which keeps them itself).

Artifact locations are stored relative to the root, so that a checkout can be moved; therefore the
process works from the root while it talks to MLflow.
"""

import logging
import os
import re
import shlex
from collections.abc import Iterator
from contextlib import chdir, contextmanager
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock
from mlflow import MlflowClient
from mlflow.entities import Experiment
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from sqlalchemy.exc import SQLAlchemyError

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import work_folder
from mer_pnao.tracking.database import connected, keep_artifacts_relative

NAME = "mer-pnao"  # of the experiment and of the registered model
DATABASE, ARTIFACTS = Path("mlruns/mlflow.db"), Path("mlruns/artifacts")
FAILURES = (MlflowException, OSError, SQLAlchemyError)  # what MLflow and its store fail with
_LOCK = Path("mlruns/tracking.lock")
_URI = "MLFLOW_TRACKING_URI"
logging.getLogger("mlflow").setLevel(logging.WARNING)  # what it does is not what a person asked for


@dataclass(frozen=True)
class Store:
    """An initialised MLflow, for as long as `opened` holds it."""

    client: MlflowClient
    experiment: str  # its id


def tracking_root(project: Path) -> Path:
    """The folder that holds mlruns/ and work/: the project, also from the copy in which an experiment runs."""
    return work_folder(project).parent.resolve()


def own_uri(root: Path) -> str:
    """The database below the root, from anywhere."""
    return f"sqlite:///{root / DATABASE}"


def tracking_uri(root: Path) -> str:
    """MLFLOW_TRACKING_URI where it names another place than the root's own database, else `own_uri`."""
    own = own_uri(root)
    chosen = os.environ.get(_URI) or own
    scheme, _, path = chosen.partition(":///")
    same = scheme == "sqlite" and (root / path).resolve() == (root / DATABASE).resolve()
    return own if same else chosen


@contextmanager
def opened(project: Path) -> Iterator[Store]:
    """MLflow, initialised where it was not; the working directory is the root meanwhile.

    One process at a time, on PostgreSQL over all machines: two that create a database together crash, and two that
    look for a run and then create it would both create it. Raises one of `FAILURES` when MLflow cannot be used.
    """
    root = tracking_root(project)
    uri = tracking_uri(root)
    (root / _LOCK).parent.mkdir(parents=True, exist_ok=True)
    with FileLock(root / _LOCK), chdir(root), _uri_in_environment(uri), connected(uri) as database:
        client = MlflowClient(tracking_uri=uri, registry_uri=uri)
        experiment = _find_or_create_experiment(client, uri, ARTIFACTS if database else None)
        if database:
            keep_artifacts_relative(database, NAME, experiment.artifact_location, ARTIFACTS)
        if not client.search_registered_models(f"name = '{NAME}'"):
            with passed_over(RESOURCE_ALREADY_EXISTS):
                client.create_registered_model(NAME)
        yield Store(client, str(experiment.experiment_id))


@contextmanager
def _uri_in_environment(uri: str) -> Iterator[None]:
    """The registry looks a logged model up by a client of its own, which knows only the environment."""
    before = os.environ.get(_URI)
    os.environ[_URI] = uri
    try:
        yield
    finally:
        del os.environ[_URI]
        if before is not None:
            os.environ[_URI] = before


def _find_or_create_experiment(client: MlflowClient, uri: str, location: Path | None) -> Experiment:
    """The project's experiment. Without a location, which is for a server, it has one of the server's choice."""
    if found := client.get_experiment_by_name(NAME):
        if found.lifecycle_stage == "active":
            return found
        raise MlflowException(
            f"the experiment {NAME!r} has been deleted; to take it back: MLFLOW_TRACKING_URI={shlex.quote(uri)} "
            f"mlflow experiments restore --experiment-id {found.experiment_id}"
        )
    with passed_over(RESOURCE_ALREADY_EXISTS):  # on a server, somebody else may have been faster
        kind = {"mlflow.experimentKind": "custom_model_development"}
        client.create_experiment(NAME, location and location.as_posix(), kind)
    made = client.get_experiment_by_name(NAME)
    if made is None:
        raise MlflowException(f"the experiment {NAME!r} cannot be created")
    return made


@contextmanager
def passed_over(code: int) -> Iterator[None]:
    """What MLflow says with this error code is no failure; the block ends there."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(code):
            raise


def one_line(error: Exception) -> str:
    """What an exception says, without passwords and statements."""
    said = without_passwords(str(error)).split("[SQL:")[0].split("(Background on this error")[0]
    return " ".join(said.split()) or type(error).__name__


def without_passwords(said: str) -> str:
    """The text with *** in the place of passwords in addresses."""
    said = re.sub(r"(://[^\s:/@]*):\S*@", r"\1:***@", said)
    return re.sub(r"(password=)[^\s&'\"]+", r"\1***", said)


def initialise(project: Path) -> None:
    """Create database, experiment and registered model where missing; safe at any time and in parallel.

    Raises InputError when MLflow cannot be used.
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
    except FAILURES as error:
        place = without_passwords(tracking_uri(tracking_root(project)))
        raise InputError(f"MLflow at {place} cannot be used: {one_line(error)}") from error
