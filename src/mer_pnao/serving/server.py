"""The service on a socket."""

import re
import socket
import sys

import uvicorn
from fastapi import FastAPI

from mer_pnao.foundations.errors import InputError

_GRACE = 30  # seconds that running requests have to end after Ctrl-C
_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]")


def host_name(name: str) -> str:
    """A name that requests may call the service by. Raises InputError for what no request's Host can be."""
    if not _HOST.fullmatch(name):
        example = "mer.example.org, *.example.org or [::1]"
        raise InputError(f"an allowed host is a name such as {example}, without scheme and port, got {name!r}")
    return name


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
