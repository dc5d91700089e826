"""The service on a socket."""

import asyncio
import re
import socket
import sys
from contextlib import suppress

import uvicorn
from starlette.datastructures import Headers
from starlette.responses import RedirectResponse
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mer_pnao.foundations.errors import InputError

_GRACE = 30  # seconds that running requests have to end after Ctrl-C
_LINGER = 5.0  # seconds that who has an answer may go on sending
_ROOT_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*")
_HOST = re.compile(r"\*|(\*\.)?[A-Za-z0-9_-][A-Za-z0-9._-]*|\[[0-9A-Fa-f:.]+\]")


def host_name(name: str) -> str:
    """A name that requests may call the service by. Raises InputError for what no request's Host can be."""
    if not _HOST.fullmatch(name):
        example = "mer.example.org, *.example.org or [::1]"
        raise InputError(f"an allowed host is a name such as {example}, without scheme and port, got {name!r}")
    return name


def root_path(path: str) -> str:
    """A path that a proxy serves the service under, without a slash at its end. Raises InputError for any other."""
    if not _ROOT_PATH.fullmatch(path.removesuffix("/")):
        raise InputError(f"a root path is a path such as /mer, got {path!r}")
    return path.removesuffix("/")


def under(app: ASGIApp, path: str) -> ASGIApp:
    """The service under a root path, whether the proxy takes it off the front of a request's path or not.

    As ASGI has it, `path` begins with `root_path` then: the router and the door take off the same, and only once.
    """

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] == "http":
            asked = scope["path"]
            if asked == path != "":
                await RedirectResponse(f"{path}/")(scope, receive, send)  # the page's own addresses are relative
                return
            scope = {**scope, "root_path": path, "path": asked if asked.startswith(f"{path}/") else path + asked}
        await app(scope, receive, send)

    return service


def closing(app: ASGIApp) -> ASGIApp:
    """The service, which ends the connection of a request that it has answered before all of it has arrived.

    The server itself would read the rest for as long as somebody sends it. It is read for a while, so that who sends it
    sees the answer: what is unread when a connection ends takes the answer along.
    """

    async def service(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await app(scope, receive, send)
            return
        sent = Headers(scope=scope)
        coming = "transfer-encoding" in sent or sent.get("content-length", "0") != "0"
        early = answered = False

        async def received() -> Message:
            nonlocal coming
            message = await receive()
            coming = coming and message.get("more_body", False)
            return message

        async def answer(message: Message) -> None:
            nonlocal early, answered
            if message["type"] == "http.response.start":
                if early := coming:
                    message = {**message, "headers": [*message.get("headers", ()), (b"connection", b"close")]}
            elif early and not message.get("more_body", False):
                message, answered = {**message, "more_body": True}, True
            await send(message)

        await app(scope, received, answer)
        if answered:
            with suppress(TimeoutError):
                async with asyncio.timeout(_LINGER):
                    while coming:
                        await received()
            await send({"type": "http.response.body"})

    return service


def in_url(host: str) -> str:
    """A host as it stands in a URL and in a request's Host."""
    return f"[{host}]" if ":" in host else host


def run(app: ASGIApp, listening: socket.socket) -> None:
    """Serve until Ctrl-C or a termination; running requests end first."""
    # Uvicorn's own access log would hold addresses, and one line a request is written already.
    config = uvicorn.Config(
        closing(app), log_level="warning", access_log=False, server_header=False, timeout_graceful_shutdown=_GRACE
    )
    host, port = listening.getsockname()[:2]
    print(f"clips are taken at http://{in_url(host)}:{port}; Ctrl-C ends it", file=sys.stderr)
    uvicorn.Server(config).run(sockets=[listening])
