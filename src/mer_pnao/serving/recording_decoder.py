"""The decoding process of one recording: read stretch by stretch, and killed when it takes too long or nobody asks."""

import asyncio
from asyncio.subprocess import Process
from collections.abc import AsyncIterator, Mapping
from pathlib import Path

import numpy as np

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.extraction.stretch_reader import DecodedStretch, StretchFaces
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.serving.decoder import request_of
from mer_pnao.serving.decoder_pool import NO_ANSWER, kill, read_array, read_head, start_decoder

_ROUNDED = 0.5  # seconds by which a recording may outlast its header: the last block of sound is filled up


class RecordingDecoder:
    """Decodes a recording in a process of its own, which is one stretch ahead of whoever takes them."""

    def __init__(self, seconds: float, root: Path) -> None:
        """`seconds` is what one stretch may take; `root` is what the plans' paths are relative to."""
        self._seconds, self._root = seconds, root
        self._process: Process | None = None

    async def stretches(
        self, file: int, plans: Mapping[str, DecodingPlan], length: int, most_seconds: float
    ) -> AsyncIterator[DecodedStretch]:
        """The stretches, of so many samples, of an open file, which needs no name.

        Raises ClipError as `stretches` of `media.recording` does, and for a recording that lasts longer than
        `most_seconds`, takes too long or makes the decoder fail; InputError for plans that take no recording.
        """
        start = 0
        self._process = await start_decoder(file)
        assert self._process.stdin is not None
        asked = request_of(Path(f"/dev/fd/{file}"), self._root, plans, length=length, most_seconds=most_seconds)
        self._process.stdin.write(asked)
        while True:
            try:
                async with asyncio.timeout(self._seconds):
                    stretch = await _read(self._process, plans, start, length)
            except TimeoutError as error:
                seconds = f"{length / SAMPLE_RATE:g} s after {start / SAMPLE_RATE:.1f} s"
                raise ClipError(f"takes more than {self._seconds:g} s to decode {seconds}") from error
            except InputError:
                raise
            except NO_ANSWER as error:
                raise ClipError(f"makes the decoder fail after {start / SAMPLE_RATE:.1f} s") from error
            if stretch is None:
                return
            if stretch.end > (most_seconds + _ROUNDED) * SAMPLE_RATE:  # its header may say less, or nothing
                raise ClipError(f"lasts more than {most_seconds:g} s")
            start = stretch.end
            yield stretch

    async def close(self) -> None:
        """Ends the process."""
        if self._process is not None:
            await kill(self._process)


async def _read(process: Process, plans: Mapping[str, DecodingPlan], start: int, length: int) -> DecodedStretch | None:
    """The next answer; None at the end. Raises one of NO_ANSWER for what no recording gives."""
    head = await read_head(process)
    if "whole" in head:
        return None
    end, samples = int(head["end"]), int(head["samples"])
    if start % length or not start < end <= start + length or not 0 <= samples <= end - start:
        raise ValueError(f"no recording gives the stretch {head}")
    sound, reason = await read_array(process, np.float32, (samples,)), str(head["reason"])
    faces = {}
    for name, plan in plans.items():
        if plan.kind == "faces" and not reason:
            count, side = int(head["faces"][name]["count"]), plan.crop_side
            if not 0 <= count <= plan.frames:
                raise ValueError(f"no recording gives {count} faces")
            crops = await read_array(process, np.uint8, (count, side, side, 3))
            times = await read_array(process, np.float64, (count, 2))
            seen = await read_array(process, np.float64, (count,))
            faces[name] = StretchFaces(crops, times, seen, bool(head["faces"][name]["whole_frame"]))
    return DecodedStretch(start, end, sound, faces, tuple(str(remark) for remark in head["remarks"]), reason)
