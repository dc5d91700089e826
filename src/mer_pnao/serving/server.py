"""The service on a socket."""

import socket
import sys

import uvicorn
from fastapi import FastAPI

from mer_pnao.errors import InputError

_GRACE = 30  # seconds that running requests have to end after Ctrl-C


def listen(host: str, port: int) -> socket.socket:
    """A socket at the address; port 0 is any free one. Raises InputError when the address cannot be used."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=128)
    except OSError as error:
        raise InputError(f"{host} port {port} cannot be used: {error.strerror}; choose another one") from error


def in_url(host: str) -> str:
    """A host as it stands in a URL and in a request's Host."""
    return f"[{host}]" if ":" in host else host


def run(app: FastAPI, listening: socket.socket) -> None:
    """Serve until Ctrl-C or a termination; running requests end first."""
    # Uvicorn's own access log would hold addresses, and one line a request is written already.
    config = uvicorn.Config(
        app, log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE
    )
    host, port = listening.getsockname()[:2]
    print(f"clips are taken at http://{in_url(host)}:{port}; Ctrl-C ends it", file=sys.stderr)
    uvicorn.Server(config).run(sockets=[listening])
