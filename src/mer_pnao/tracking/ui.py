"""The MLflow UI over the project's runs and models."""

import os
import socket
import sys
import warnings
from contextlib import suppress
from pathlib import Path

import uvicorn
from mlflow.server import constants

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.ports import refuse_taken_port
from mer_pnao.tracking.connection import (
    ARTIFACTS,
    DATABASE,
    own_uri,
    reached,
    tracking_root,
    tracking_uri,
    without_passwords,
)
from mer_pnao.tracking.database import is_database
from mer_pnao.tracking.follow import follow_models
from mer_pnao.tracking.views import VIEWS, write_views

HOST = "127.0.0.1"  # the server has no log-in


def serve_ui(project: Path, port: int = 5000) -> None:
    """MLflow's server on 127.0.0.1, in the foreground until Ctrl-C.

    Raises InputError when MLFLOW_TRACKING_URI names a server, when nothing has been tracked yet, when the database
    cannot be read by this MLflow and when the port is taken.
    """
    root = tracking_root(project)
    uri = tracking_uri(root)
    if not is_database(uri):
        raise InputError(f"MLFLOW_TRACKING_URI is {without_passwords(uri)}, which has a UI of its own: open it there")
    if uri == own_uri(root) and not (root / DATABASE).is_file():
        raise InputError(f"{root / DATABASE} is not there: run `make run` or `mer track` first")
    refuse_taken_port(HOST, port)
    with reached(project) as store:  # what is wrong with the database is a sentence here, and a traceback there
        follow_models(store, project)
        write_views(store, project)
        page = f"http://{HOST}:{port}/{VIEWS[0].address(store.experiment)}"
    print("starting MLflow, which takes some seconds; Ctrl-C ends it", file=sys.stderr, flush=True)
    os.chdir(root)  # locations are relative to it
    _serve(uri, port, page)


class _Server(uvicorn.Server):
    """Says when it answers."""

    def __init__(self, config: uvicorn.Config, page: str) -> None:
        super().__init__(config)
        self.page = page

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets)
        print(f"MLflow answers now: {self.page}", file=sys.stderr, flush=True)


def _serve(uri: str, port: int, page: str) -> None:
    """MLflow's server in this process, which has imported MLflow: `mlflow server` would do so twice more, for seconds.

    The environment says what the options of that command would.
    """
    os.environ |= {
        constants.BACKEND_STORE_URI_ENV_VAR: uri,
        constants.REGISTRY_STORE_URI_ENV_VAR: uri,
        constants.ARTIFACT_ROOT_ENV_VAR: "mlflow-artifacts:/",
        constants.ARTIFACTS_DESTINATION_ENV_VAR: str(ARTIFACTS),
        constants.SERVE_ARTIFACTS_ENV_VAR: "true",
        "MLFLOW_TRACKING_URI": uri,
        "MLFLOW_REGISTRY_URI": uri,
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",  # it takes as much memory as the server
        "MLFLOW_SERVER_X_FRAME_OPTIONS": "SAMEORIGIN",
    }
    warnings.simplefilter("ignore")
    from mlflow.server.fastapi_app import app  # which reads the environment

    with suppress(KeyboardInterrupt):
        _Server(uvicorn.Config(app, HOST, port, log_level="warning"), page).run()
