"""A recording's answer over HTTP: a line of JSON a window, each as soon as it is found, and one at the end."""

import asyncio
import json
from collections.abc import AsyncIterator, Mapping, MutableMapping
from concurrent.futures import Executor
from typing import Any

from starlette.responses import StreamingResponse

from mer_pnao.extraction.stretch_reader import DecodedStretch
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.timeline import DecodedTimeline


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
) -> AsyncIterator[bytes]:
    """The windows, and whether they are all that the recording has; `record` tells how far they have come.

    Each stretch waits for its turn among whatever else `networks` does.
    """
    loop = asyncio.get_running_loop()
    record.update(seconds=0.0, windows=0, whole=False)
    detail = ""
    try:
        async for stretch in stretches:
            record["seconds"] = round(stretch.end / SAMPLE_RATE, 2)
            for window in await loop.run_in_executor(networks, answers.take, stretch):
                record["windows"] += 1
                yield _line(window.plain())
    except ClipError as reason:
        detail = f"the recording {reason}"
    for window in await loop.run_in_executor(networks, answers.rest):
        record["windows"] += 1
        yield _line(window.plain())
    record["whole"] = not detail
    end = {key: record[key] for key in ("whole", "windows", "seconds")}
    yield _line(end | {"detail": detail} if detail else end)


def _line(content: Mapping[str, Any]) -> bytes:
    return json.dumps(content).encode() + b"\n"
