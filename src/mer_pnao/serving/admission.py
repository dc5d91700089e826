"""The doors of the service: how large, how slow and how many uploads may be, before any of them is stored."""

import asyncio
import json
import sys
import time
from dataclasses import dataclass
from datetime import UTC, datetime

from fastapi.responses import JSONResponse
from starlette.datastructures import Headers
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from mer_pnao.serving.limits import MIB, ServiceLimits

RECORD = "mer_pnao.record"  # in a request's scope: what the log says of it
_ENVELOPE = 2**16  # bytes of a multipart body beside the file
_ARRIVING = 4  # recordings that are held here at a time, that which is worked on included
RECORDING_BUSY = "another recording is being worked on"
AGAIN = 2  # seconds after which who has a recording may ask again


@dataclass
class _Door:
    """What one path takes."""

    what: str
    most_bytes: int
    seconds: float  # for all of them to arrive
    free: int  # places
    busy: JSONResponse  # when none is
    alone: asyncio.Lock | None = None  # while it is held, nothing is taken

    @property
    def too_large(self) -> str:
        return f"the {self.what} is larger than {self.most_bytes / MIB:g} MiB"


class Admission:
    """Middleware around POST /predict and POST /timeline; every other request goes through.

    Answers 413 to a body that is or becomes too large, 429 when enough is being worked on, 408 to a body that arrives
    too slowly and 403 to a page of another origin; gives up a caller who takes nothing of an answer for as long as a
    clip may take to arrive; and logs a line of JSON a request to stderr.

    A recording takes no clip's place. None is taken while one is worked on, as the lock `recording` says, which is the
    business of whoever works on it: several may arrive at a time, and a slow one keeps no other one waiting.
    """

    def __init__(self, app: ASGIApp, limits: ServiceLimits, recording: asyncio.Lock) -> None:
        self._app, self._patience = app, limits.upload_seconds
        busy = [f"enough {what} are being worked on; try again in a moment" for what in ("clips", "recordings")]
        clip = _Door("clip", limits.max_bytes, limits.upload_seconds, limits.at_once, _busy(busy[0], 1))
        most, seconds = limits.max_recording_bytes, limits.recording_upload_seconds
        long = _Door("recording", most, seconds, _ARRIVING, _busy(busy[1], AGAIN), recording)
        self._doors = {"/predict": clip, "/timeline": long}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI's entry."""
        post = scope["type"] == "http" and scope["method"] == "POST"
        door = self._doors.get(scope["path"].removeprefix(scope.get("root_path", ""))) if post else None
        if door is None:
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        body, record = _Body(receive, door), scope.setdefault(RECORD, {})

        async def watched(message: Message) -> None:
            if message["type"] == "http.response.start":
                record["status"] = message["status"]
            try:
                async with asyncio.timeout(self._patience):
                    await send(message)
            except TimeoutError as error:
                raise _GaveUpError from error

        try:
            if refusal := _refusal(door, Headers(scope=scope)):
                await refusal(scope, receive, watched)
                return
            door.free -= 1
            try:
                await self._app(scope, body.receive, watched)
            finally:
                door.free += 1
        except _GaveUpError:
            pass  # the server ends the connection
        finally:
            _log(record, body.received, time.perf_counter() - started)


class _GaveUpError(Exception):
    """A caller takes nothing of an answer."""


def _refusal(door: _Door, headers: Headers) -> JSONResponse | None:
    """The answer to a request that need not be read."""
    origin = headers.get("origin")
    if origin is not None and origin.partition("://")[2] != headers.get("host"):
        own = "this service's own page and from programs, not from other sites"
        return _problem(403, f"{door.what}s are taken from {own}")
    length = headers.get("content-length", "0")
    if length.isdecimal() and int(length) > door.most_bytes + _ENVELOPE:
        return _problem(413, door.too_large)
    if door.alone and door.alone.locked():
        return _busy(RECORDING_BUSY, AGAIN)
    return door.busy if door.free == 0 else None


class _Body:
    """A request's body, counted and timed as it arrives."""

    def __init__(self, receive: Receive, door: _Door) -> None:
        self._receive, self._door = receive, door
        self._until = time.monotonic() + door.seconds
        self._whole = False
        self.received = 0

    async def receive(self) -> Message:
        """The next message of the request."""
        if self._whole:
            return await self._receive()  # whether the client has gone; that may be asked for at any time
        try:
            message = await asyncio.wait_for(self._receive(), self._until - time.monotonic())
        except TimeoutError as error:
            took = f"the {self._door.what} took more than {self._door.seconds:g} s to arrive"
            raise HTTPException(408, took) from error
        self.received += len(message.get("body", b""))
        self._whole = not message.get("more_body", False)
        if self.received > self._door.most_bytes + _ENVELOPE:
            raise HTTPException(413, self._door.too_large)
        return message


def _problem(status: int, detail: str, headers: dict[str, str] | None = None) -> JSONResponse:
    return JSONResponse({"detail": detail}, status, headers)


def _busy(detail: str, seconds: int) -> JSONResponse:
    return _problem(429, detail, {"Retry-After": str(seconds)})


def _log(record: dict[str, object], size: int, seconds: float) -> None:
    """Time, bytes, seconds of the clip, status, model, milliseconds: nothing of the clip or of who sent it.

    Of a recording also how many windows were answered, and whether it came to its end.
    """
    line = {
        "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
        "bytes": size,
        **{key: record.get(key) for key in ("seconds", "status", "model_version")},
        **{key: told for key, told in record.items() if key in ("windows", "whole")},
        "ms": round(1000 * seconds, 1),
    }
    print(json.dumps(line), file=sys.stderr, flush=True)
