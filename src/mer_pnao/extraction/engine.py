"""How shards are computed on this machine."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from threading import Lock
from typing import Any, Protocol, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.shards import Clip, Shard
from mer_pnao.features.remarks import Remark, row
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.media.decode import ClipError

Item = TypeVar("Item")
Result = TypeVar("Result")
NO_FACE = "no face was found"
Progress = Callable[[int], None]  # called with the number of clips finished since the last call


class Engine(Protocol):
    """What computes shards, here or elsewhere."""

    def __call__(self, missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        """The shards of these folders, in any order; an InputError ends it."""
        ...


def on_this_machine(encoder: ClipEncoder, threads: int = 0) -> Engine:
    """One encoder in this process, its weights shared by threads that each decode and encode batch after batch.

    On a CPU every thread computes alone: no core waits for a decoder or for the others, and the vectors do not depend
    on how many cores there are. A GPU computes one batch at a time, while the other threads decode.

    Args:
        encoder: see `build_encoder`.
        threads: 0 for one a core.
    """
    threads = threads or usable_cores()

    def compute(missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        turn = Lock() if torch.cuda.is_available() else nullcontext()
        before = torch.get_num_threads()
        pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
        try:
            # One stream over all shards, so that nobody pauses while a shard is written.
            batches = [batch for members in missing.values() for batch in _cut(members, encoder.batch)]
            done = _in_order(pool, lambda batch: _batch(encoder, batch, turn), batches, threads)
            for folder, members in missing.items():
                parts = []
                for clips in _cut(members, encoder.batch):
                    parts.append(next(done))
                    progress(len(clips))
                yield folder, _joined(parts)
        finally:
            pool.shutdown(cancel_futures=True)
            torch.set_num_threads(before)

    return compute


def _cut(clips: Sequence[Clip], size: int) -> list[Sequence[Clip]]:
    """Batches of a shard: they end with it, so that no vector depends on which shards are missing."""
    return [clips[start : start + size] for start in range(0, len(clips), size)]


def _in_order(
    pool: ThreadPoolExecutor, function: Callable[[Item], Result], items: Iterable[Item], ahead: int
) -> Iterator[Result]:
    """Results in the order of the items, at most `ahead` of them computed before they are asked for."""
    running: deque[Future[Result]] = deque()
    for item in items:
        running.append(pool.submit(function, item))
        if len(running) > ahead:
            yield running.popleft().result()
    while running:
        yield running.popleft().result()


def _batch(encoder: ClipEncoder, clips: Sequence[Clip], turn: AbstractContextManager[Any]) -> Shard:
    usable: dict[str, DecodedClip] = {}
    remarks: list[Remark] = []
    for clip in clips:
        try:
            content = encoder.decode(clip.path, clip.corruption)
        except ClipError as reason:
            remarks.append(Remark(clip.name, encoder.name, "skipped", str(reason)))
            continue
        usable[clip.name] = content
        if content.whole_frame:
            remarks.append(Remark(clip.name, encoder.name, "whole_frame", NO_FACE))
    shares = [
        row(name, len(content.content), content.face_share)
        for name, content in usable.items()
        if content.face_share is not None
    ]
    with turn:
        return Shard(tuple(usable), _encoded(encoder, usable), tuple(remarks), tuple(shares))


def _joined(parts: Sequence[Shard]) -> Shard:
    return Shard(
        tuple(name for part in parts for name in part.names),
        {name: np.concatenate([part.vectors[name] for part in parts]) for name in parts[0].vectors},
        tuple(entry for part in parts for entry in part.remarks),
        tuple(share for part in parts for share in part.shares),
    )


def _encoded(encoder: ClipEncoder, clips: Mapping[str, DecodedClip]) -> dict[str, NDArray[np.float32]]:
    try:
        blocks = encoder.encode(list(clips.values()))
    except ClipError as error:  # it was whole when its faces were searched
        raise InputError(f"one of the clips {', '.join(clips)} has changed while it was read: it {error}") from error
    for set_name, block in blocks.items():
        bad = ~np.isfinite(block).all(axis=1)
        if bad.any():
            raise InputError(f"{list(clips)[int(bad.argmax())]}: its vector of {set_name} is not finite")
    return blocks
