"""The MLflow UI over the project's runs and models."""

import os
import socket
import subprocess
import sys
from pathlib import Path

from mer_pnao.errors import InputError
from mer_pnao.tracking.store import ARTIFACTS, DATABASE, LOCAL_URI, tracking_root

HOST = "127.0.0.1"  # the server has no log-in


def serve_ui(project: Path, port: int = 5000) -> None:
    """Serve MLflow's UI on 127.0.0.1 in the foreground until Ctrl-C.

    Raises InputError when nothing has been tracked yet, when the port is taken and when the server fails.
    """
    root = tracking_root(project)
    if not (root / DATABASE).is_file():
        raise InputError(f"{root / DATABASE} is not there: run `make run` or `mer track` first")
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(
                f"port {port} of {HOST} cannot be used: {error.strerror}; choose another one"
            ) from error
    # One worker and no job execution: half the memory. Locations are relative to the root.
    command = [
        sys.executable,
        "-m",
        "mlflow",
        "server",
        "--host",
        HOST,
        "--port",
        str(port),
        "--workers",
        "1",
    ]
    command += ["--backend-store-uri", LOCAL_URI, "--artifacts-destination", str(ARTIFACTS)]
    environment = {**os.environ, "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false"}
    with subprocess.Popen(command, cwd=root, env=environment) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.wait()  # Ctrl-C has reached it too
            return
    if code:
        raise InputError(f"the MLflow server on port {port} ended with exit code {code}")
