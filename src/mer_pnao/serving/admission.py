"""The door of the service: how large, how slow and how many uploads may be, before any of them is stored."""

import asyncio
import json
import sys
import time
from datetime import UTC, datetime

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mer_pnao.serving.limits import MIB, ServiceLimits

RECORD = "mer_pnao.record"  # in a request's scope: what the log says of it
_ENVELOPE = 2**16  # bytes of a multipart body beside the file
_LINGER = 5.0  # seconds that a refused client may go on sending, so that it reads why


class Admission:
    """Middleware around POST /predict; every other request goes through.

    Answers 413 to a body that is or becomes too large, 429 when enough clips are being worked on, 408 to a body that
    arrives too slowly and 403 to a page of another origin; and logs a line of JSON a request to stderr.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits) -> None:
        self._app, self._limits = app, limits
        self._free = limits.at_once

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        predict = scope.get("root_path", "") + "/predict"
        if scope["type"] != "http" or (scope["method"], scope["path"]) != ("POST", predict):
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        body, record = _Body(receive, self._limits), scope.setdefault(RECORD, {})

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                record["status"] = message["status"]
            await send(message)

        try:
            if refusal := self._refusal(Headers(scope=scope)):
                await body.discard()
                await refusal(scope, receive, watched)
                return
            self._free -= 1
            try:
                await self._app(scope, body.receive, watched)
            finally:
                self._free += 1
        finally:
            _log(record, body.received, time.perf_counter() - started)

    def _refusal(self, headers: Headers) -> JSONResponse | None:
        """The answer to a request that need not be read."""
        origin = headers.get("origin")
        if origin is not None and origin.partition("://")[2] != headers.get("host"):
            return _problem(403, "clips are taken from this service's own page and from programs, not from other sites")
        length = headers.get("content-length", "0")
        if length.isdecimal() and int(length) > self._limits.max_bytes + _ENVELOPE:
            return _problem(413, too_large(self._limits))
        if self._free == 0:
            return _problem(429, "enough clips are being worked on; try again in a moment", {"Retry-After": "1"})
        return None


def too_large(limits: ServiceLimits) -> str:
    """The reason to refuse a file for its size."""
    return f"the clip is larger than {limits.max_bytes / MIB:g} MiB"


class _Body:
    """A request's body, counted and timed as it arrives."""

    def __init__(self, receive: Receive, limits: ServiceLimits) -> None:
        self._receive, self._limits = receive, limits
        self._until = time.monotonic() + limits.upload_seconds
        self._whole = False
        self.received = 0

    async def receive(self) -> Message:
        """The next message of the request."""
        if self._whole:
            return await self._receive()  # whether the client has gone; that may be asked for at any time
        try:
            message = await asyncio.wait_for(self._receive(), self._until - time.monotonic())
        except TimeoutError as error:
            seconds = f"{self._limits.upload_seconds:g}"
            raise HTTPException(408, f"the clip took more than {seconds} s to arrive") from error
        self._count(message)
        if self.received > self._limits.max_bytes + _ENVELOPE:
            await self.discard()
            raise HTTPException(413, too_large(self._limits))
        return message

    async def discard(self) -> None:
        """Read the rest without keeping it, for a while."""
        try:
            async with asyncio.timeout(_LINGER):
                while not self._whole:
                    self._count(await self._receive())
        except TimeoutError:
            pass

    def _count(self, message: Message) -> None:
        self.received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _log(record: dict[str, object], size: int, seconds: float) -> None:
    """Time, bytes, seconds of the clip, status, model, milliseconds: nothing of the clip or of who sent it."""
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "bytes": size,
        **{key: record.get(key) for key in ("seconds", "status", "model_version")},
        "ms": round(1000 * seconds, 1),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
