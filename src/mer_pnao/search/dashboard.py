"""optuna-dashboard over the project's studies."""

import socket
import sys
from contextlib import suppress
from pathlib import Path

from optuna_dashboard import run_server

from mer_pnao.errors import InputError
from mer_pnao.search.storage import JOURNAL, open_storage

HOST = "127.0.0.1"  # the server has no log-in and looks at no Host header


def serve_dashboard(project: Path, url: str | None, port: int) -> None:
    """Serve optuna-dashboard on 127.0.0.1 until Ctrl-C.

    Raises InputError when there is no study yet, the storage cannot be used or the port is taken.
    """
    if url is None and not (project / JOURNAL).is_file():
        raise InputError(f"{project / JOURNAL} is not there: run `mer search` or `make search` first")
    storage, _ = open_storage(project, url)
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((HOST, port))
        except OSError as error:
            raise InputError(f"port {port} of {HOST} cannot be used: {error.strerror}; choose another one") from error
    print(f"optuna-dashboard is at http://{HOST}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt):
        run_server(storage, host=HOST, port=port)
