"""A recording's answer over HTTP: a line of JSON a window, each as soon as it is found, and one at the end."""

import asyncio
import json
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, MutableMapping
from concurrent.futures import Executor
from typing import Any

from starlette.responses import StreamingResponse

from mer_pnao.extraction.stretch_reader import DecodedStretch
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.recordings.timeline import DecodedTimeline


class Lines(StreamingResponse):
    """One JSON object a line."""

    media_type = "application/x-ndjson"


async def begun(stretches: AsyncIterator[DecodedStretch]) -> AsyncIterator[DecodedStretch]:
    """The same stretches, as soon as the first one is there. Raises what they raise in its place."""
    first = await anext(stretches)

    async def every() -> AsyncIterator[DecodedStretch]:
        yield first
        async for stretch in stretches:
            yield stretch

    return every()


async def lines(
    answers: DecodedTimeline,
    stretches: AsyncIterator[DecodedStretch],
    networks: Executor,
    record: MutableMapping[str, Any],
    most_seconds: float,
    leave: Callable[[], Awaitable[None]],
) -> AsyncIterator[bytes]:
    """The windows, and whether they are all that the recording has; `record` tells how far they have come.

    Each stretch waits for its turn among whatever else `networks` does. After `most_seconds` it ends early, whether it
    is work or the reader that takes so long. `leave` gives the recording's place back, before the last line is sent:
    who has read that may come again at once.
    """
    loop, until = asyncio.get_running_loop(), time.monotonic() + most_seconds

    def refuse_late() -> None:
        if time.monotonic() > until:
            raise ClipError(f"takes more than {most_seconds / 60:g} minutes to be answered")

    record.update(seconds=0.0, windows=0, whole=False)
    detail = ""
    try:
        async for stretch in stretches:
            record["seconds"] = round(stretch.end / SAMPLE_RATE, 2)
            for window in await loop.run_in_executor(networks, answers.take, stretch):
                refuse_late()
                record["windows"] += 1
                yield _line(window.plain())
            refuse_late()
    except ClipError as reason:
        detail = f"the recording {reason}"
    for window in await loop.run_in_executor(networks, answers.rest):
        record["windows"] += 1
        yield _line(window.plain())
    await leave()
    record["whole"] = not detail
    end = {key: record[key] for key in ("whole", "windows", "seconds")}
    yield _line(end | {"detail": detail} if detail else end)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
