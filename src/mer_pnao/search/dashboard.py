"""optuna-dashboard over the project's studies."""

import sys
from contextlib import suppress
from pathlib import Path

from optuna_dashboard import run_server

from mer_pnao.errors import InputError
from mer_pnao.ports import refuse_taken_port
from mer_pnao.search.storage import JOURNAL, open_storage

HOST = "127.0.0.1"  # the server has no log-in and looks at no Host header


def serve_dashboard(project: Path, url: str | None, port: int) -> None:
    """Serve optuna-dashboard on 127.0.0.1 until Ctrl-C.

    Raises InputError when there is no study yet, the storage cannot be used or the port is taken.
    """
    if url is None and not (project / JOURNAL).is_file():
        raise InputError(f"{project / JOURNAL} is not there: run `mer search` or `make search` first")
    storage, _ = open_storage(project, url)
    refuse_taken_port(HOST, port)
    print(f"optuna-dashboard is at http://{HOST}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
    with suppress(KeyboardInterrupt):
        run_server(storage, host=HOST, port=port)
