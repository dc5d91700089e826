"""How shards are computed on this machine: threads decode while the encoder computes."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Protocol, TypeVar

import numpy as np
from numpy.typing import NDArray

from mer_pnao.errors import InputError
from mer_pnao.features.clip_encoders import AHEAD, ClipEncoder, DecodedClip
from mer_pnao.features.face_shares import Row, row
from mer_pnao.features.shards import Clip, Shard
from mer_pnao.features.store import Listed
from mer_pnao.media.decode import ClipError, decoding_threads

Item = TypeVar("Item")
Result = TypeVar("Result")
Progress = Callable[[int], None]  # called with the number of clips finished since the last call


class Engine(Protocol):
    """What computes shards, here or elsewhere."""

    def __call__(self, missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        """The shards of these folders, in any order; an InputError ends it."""
        ...


def on_this_machine(encoder: ClipEncoder) -> Engine:
    """One encoder in this process."""

    def compute(missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        decoders = ThreadPoolExecutor(decoding_threads())
        try:
            # One stream over all shards, so that decoding does not pause while a shard is written.
            pending = (clip for members in missing.values() for clip in members)
            decoded = _in_order(decoders, lambda clip: (clip, _decode(encoder, clip)), pending, AHEAD * encoder.batch)
            for folder, members in missing.items():
                yield folder, _shard(encoder, islice(decoded, len(members)), progress)
        finally:
            decoders.shutdown(cancel_futures=True)

    return compute


def _decode(encoder: ClipEncoder, clip: Clip) -> DecodedClip | ClipError:
    try:
        return encoder.decode(clip.path, clip.corruption)
    except ClipError as reason:
        return reason


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


def _shard(encoder: ClipEncoder, decoded: Iterator[tuple[Clip, DecodedClip | ClipError]], progress: Progress) -> Shard:
    names: list[str] = []
    vectors: dict[str, list[NDArray[np.float32]]] = {name: [] for name in encoder.sets}
    listed: list[Listed] = []
    shares: list[Row] = []
    while batch := list(islice(decoded, encoder.batch)):
        usable = {clip.name: content for clip, content in batch if isinstance(content, DecodedClip)}
        for clip, content in batch:
            if isinstance(content, ClipError):
                listed.append(Listed(clip.name, encoder.name, "skipped", str(content)))
            elif content.whole_frame:
                listed.append(Listed(clip.name, encoder.name, "whole_frame", "no face was found"))
        names += usable
        shares += [
            row(name, len(content.content), content.face_share)
            for name, content in usable.items()
            if content.face_share is not None
        ]
        for name, block in _encoded(encoder, usable).items():
            vectors[name].append(block)
        progress(len(batch))
    together = {name: np.concatenate(blocks) for name, blocks in vectors.items()}
    return Shard(tuple(names), together, tuple(listed), tuple(shares))


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
