"""optuna-dashboard over the project's studies."""

import re
import sys
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from wsgiref.simple_server import make_server
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from optuna_dashboard import wsgi

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.ports import OWN_HOSTS, refuse_taken_port
from mer_pnao.search.journal import journal_of
from mer_pnao.search.storage import open_storage

HOST = "127.0.0.1"  # the server has no log-in
_OWN = re.compile(rf"({'|'.join(map(re.escape, OWN_HOSTS))})(:\d+)?", re.IGNORECASE)


def serve_dashboard(project: Path, url: str | None, port: int) -> None:
    """Serve optuna-dashboard on 127.0.0.1 until Ctrl-C.

    Raises InputError when there is no study yet, the storage cannot be used or the port is taken.
    """
    if url is None and not journal_of(project).is_file():
        raise InputError(f"{journal_of(project)} is not there: run `mer search` or `make search` first")
    storage, _ = open_storage(project, url)
    refuse_taken_port(HOST, port)
    with suppress(KeyboardInterrupt), make_server(HOST, port, for_own_hosts(wsgi(storage))) as server:
        print(f"optuna-dashboard is at http://{HOST}:{port}; Ctrl-C ends it", file=sys.stderr, flush=True)
        server.serve_forever()


def for_own_hosts(app: WSGIApplication) -> WSGIApplication:
    """The same, but for requests that call this machine by a name of others: 400.

    optuna-dashboard deletes studies for every page of its own origin, and a foreign page becomes one when its name is
    made to lead to 127.0.0.1.
    """

    def checked(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if _OWN.fullmatch(environ.get("HTTP_HOST", "")):
            return app(environ, start_response)
        start_response("400 Bad Request", [("Content-Type", "text/plain")])
        return [b"Invalid host header"]

    return checked
