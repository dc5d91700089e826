"""The decoding processes of a service: asked one clip at a time, killed when they take too long."""

import asyncio
import contextlib
import json
import math
import os
import signal
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

from mer_pnao.extraction.clip_reader import DecodedClip, DecodingPlan
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.serving.decoder import request_of

NO_ANSWER = (OSError, EOFError, ValueError, KeyError, TypeError, OverflowError)  # none, or nonsense


class DecoderPool:
    """So many processes at most, started when they are first needed and kept."""

    def __init__(self, processes: int, seconds: float, root: Path) -> None:
        """`seconds` is what one clip may take; `root` is what the plans' paths are relative to."""
        self._seconds, self._root = seconds, root
        self._idle: list[Process] = []
        self._places = asyncio.Semaphore(processes)

    async def decode(self, path: Path, plans: Mapping[str, DecodingPlan]) -> dict[str, DecodedClip]:
        """A clip, decoded once for each plan. Raises ClipError with the reason for a useless clip."""
        async with self._places:
            try:
                return await self._asked(path, plans)
            except NO_ANSWER:  # killed, perhaps, for the memory that others took
                try:
                    return await self._asked(path, plans)
                except NO_ANSWER as error:
                    raise ClipError("makes the decoder fail") from error

    async def _asked(self, path: Path, plans: Mapping[str, DecodingPlan]) -> dict[str, DecodedClip]:
        """What one process says, which is killed unless it may be asked again."""
        process = await self._take()
        sound = False  # whether it may
        try:
            answer = await asyncio.wait_for(_ask(process, request_of(path, self._root, plans), plans), self._seconds)
            sound = True
        except ClipError:  # an answer, too
            sound = True
            raise
        except TimeoutError as error:
            raise ClipError(f"takes more than {self._seconds:g} s to decode") from error
        finally:
            if sound:
                self._idle.append(process)
            else:  # also when the service stops meanwhile
                await kill(process)
        return answer

    async def close(self) -> None:
        """Ends every process."""
        while self._idle:
            await kill(self._idle.pop())

    async def warm_up(self) -> None:
        """Starts the first process before the first clip comes."""
        if not self._idle:
            self._idle.append(await self._start())

    async def _take(self) -> Process:
        while self._idle:
            process = self._idle.pop()
            if process.returncode is None:
                return process
        return await self._start()

    async def _start(self) -> Process:
        return await start_decoder()


async def start_decoder(*files: int) -> Process:
    """A decoding process, which may read these open files as `/dev/fd/N`."""
    # In a session of its own: Ctrl-C is for the service, which lets running requests end.
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-P", "-m", "mer_pnao.serving.decoder"),
        stdin=PIPE,
        stdout=PIPE,
        stderr=DEVNULL,
        start_new_session=True,
        pass_fds=files,
        env={**os.environ, "OPENBLAS_NUM_THREADS": "1"},
    )


async def _ask(process: Process, request: bytes, plans: Mapping[str, DecodingPlan]) -> dict[str, DecodedClip]:
    assert process.stdin is not None
    process.stdin.write(request)
    await process.stdin.drain()
    answer, contents = await read_head(process), {}
    for name, plan in plans.items():
        head = answer["contents"][name]
        array = await read_array(process, *_form(plan, head))
        remarks = tuple(str(remark) for remark in head["remarks"])
        contents[name] = DecodedClip(array, bool(head["whole_frame"]), remarks=remarks)
    return contents


async def read_head(process: Process) -> Any:
    """An answer's line of JSON. Raises what it says, a ClipError or InputError, and else one of NO_ANSWER."""
    assert process.stdout is not None
    head = json.loads(await process.stdout.readline())  # a ValueError where it ends, or is longer than 64 KiB
    if "refused" in head:
        raise (ClipError if head["refused"] else InputError)(str(head["reason"]))
    return head


async def read_array(process: Process, dtype: DTypeLike, shape: tuple[int, ...]) -> NDArray[Any]:
    """One of the arrays that follow."""
    assert process.stdout is not None
    data = await process.stdout.readexactly(math.prod(shape) * np.dtype(dtype).itemsize)
    return np.frombuffer(bytearray(data), dtype).reshape(shape)  # writable, as PyTorch wants it


def _form(plan: DecodingPlan, head: Mapping[str, Any]) -> tuple[np.dtype[Any], tuple[int, ...]]:
    """What an array may be by its plan. Raises ValueError for anything else."""
    shape = tuple(int(length) for length in head["shape"])
    dtype: np.dtype[Any]
    if plan.kind == "sound":
        dtype, fits = np.dtype(np.float32), len(shape) == 1 and 0 < shape[0] <= plan.limits.max_seconds * SAMPLE_RATE
    else:
        side = plan.crop_side
        dtype, fits = np.dtype(np.uint8), shape[1:] == (side, side, 3) and 0 < shape[0] <= plan.frames
    if not fits or head["dtype"] != str(dtype):
        raise ValueError(f"no clip gives the array {head}")
    return dtype, shape


async def kill(process: Process) -> None:
    """End a decoding process, whatever it does and however much of its answer has been read."""
    # Not by process.kill(), which would take the exit status of one that has just died away from the event loop.
    if process.returncode is None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
    if process.stdout is not None:
        await process.stdout.read()  # else the pipe's end is not seen behind what nobody reads, and wait() waits
    await process.wait()
