"""How clips are decoded and encoded on this machine."""

from collections import deque
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.shards import Clip, Shard
from mer_pnao.features.remarks import Remark
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.media.container import ClipError

Progress = Callable[[int], None]  # called with the number of clips finished since the last call
Vectors = Mapping[str, NDArray[np.float32]]  # of a clip: set -> (D,)
# What computes the shards of these folders, here or elsewhere, in any order; an InputError ends it.
Engine = Callable[[Mapping[Path, Sequence[Clip]], Progress], Iterator[tuple[Path, Shard]]]
NO_FACE = "no face was found"
NO_WORDS = "it has no words"


@dataclass(frozen=True)
class Outcome:
    """What became of a clip."""

    vectors: Vectors = field(default_factory=dict)
    skipped: str = ""  # the reason, where there are no vectors
    whole_frame: bool = False  # no face was found, so the whole frames were encoded
    frames: int = 0  # of images only: those that were encoded
    face_share: float | None = None  # of images only: of the searched frames, those with a face
    wordless: bool = False  # of text only: there are no words, and the vectors are zeros
    remarks: tuple[str, ...] = ()  # see `DecodedClip`


def on_this_machine(encoder: ClipEncoder, threads: int = 0) -> Engine:
    """One encoder in this process, as `outcomes` runs it."""

    def compute(missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        # One stream over all shards, so that nobody pauses while a shard is written.
        with closing(outcomes(encoder, missing.values(), threads)) as stream:
            for folder, clips in missing.items():
                done = []
                for _ in clips:
                    done.append(next(stream))
                    progress(1)
                yield folder, shard_of(encoder, clips, done)

    return compute


def outcomes(encoder: ClipEncoder, groups: Iterable[Sequence[Clip]], threads: int = 0) -> Generator[Outcome]:
    """What becomes of each clip of the groups, in their order.

    Threads share the encoder's weights, and each decodes and encodes batch after batch. On a CPU every thread computes
    alone: no core waits for a decoder or for the others, and the vectors do not depend on how many cores there are. A
    GPU computes one batch at a time, while the other threads decode. A batch ends with its group, so that no vector
    depends on which groups there are. Without a number of threads there is one a core.

    Raises InputError when a clip has changed while it was read.
    """
    threads = threads or usable_cores()
    turn = Lock() if torch.cuda.is_available() else nullcontext()
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    running: deque[Future[list[Outcome]]] = deque()  # at most a batch a thread ahead of what is asked for
    try:
        for clips in groups:
            for start in range(0, len(clips), encoder.batch):
                running.append(pool.submit(partial(_batch, encoder, turn), clips[start : start + encoder.batch]))
                if len(running) > threads:
                    yield from running.popleft().result()
        while running:
            yield from running.popleft().result()
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def shard_of(encoder: ClipEncoder, clips: Sequence[Clip], done: Sequence[Outcome]) -> Shard:
    """The outcomes of a shard's clips. Raises InputError for a vector that is not finite, naming clip and set."""
    usable = [(clip.name, one.vectors) for clip, one in zip(clips, done, strict=True) if not one.skipped]
    for name, vectors in usable:
        if bad := not_finite(vectors):
            raise InputError(f"{name}: {bad}")
    blocks = {
        key: np.array([vectors[key] for _, vectors in usable], np.float32).reshape(len(usable), width)
        for key, width in encoder.sets.items()
    }
    remarks, shares = [], []
    for clip, one in zip(clips, done, strict=True):
        if one.skipped:
            remarks.append(Remark(clip.name, encoder.name, "skipped", one.skipped))
        if one.whole_frame:
            remarks.append(Remark(clip.name, encoder.name, "whole_frame", NO_FACE))
        if one.wordless:
            remarks.append(Remark(clip.name, encoder.name, "all_zero", NO_WORDS))
        remarks += [Remark(clip.name, encoder.name, "part_used", remark) for remark in one.remarks]
        if one.face_share is not None:
            shares.append((clip.name, str(one.frames), f"{one.face_share:.4f}"))
    return Shard(tuple(name for name, _ in usable), blocks, tuple(remarks), tuple(shares))


def not_finite(vectors: Vectors) -> str:
    """What is wrong with a clip's vectors; empty when nothing is."""
    bad = (name for name, vector in vectors.items() if not np.isfinite(vector).all())
    return next((f"its vector of {name} is not finite" for name in bad), "")


def _batch(encoder: ClipEncoder, turn: AbstractContextManager[Any], clips: Sequence[Clip]) -> list[Outcome]:
    read = [_read(encoder, clip) for clip in clips]
    usable = [content for content in read if isinstance(content, DecodedClip)]
    try:
        with turn:
            blocks = encoder.encode(usable) if usable else {}
    except ClipError as error:  # it was whole when its faces were searched
        names = ", ".join(clip.name for clip, one in zip(clips, read, strict=True) if isinstance(one, DecodedClip))
        raise InputError(f"one of the clips {names} has changed while it was read: it {error}") from error
    rows = iter([{name: block[row] for name, block in blocks.items()} for row in range(len(usable))])
    return [
        Outcome(
            next(rows),
            whole_frame=content.whole_frame,
            frames=len(content.content),
            face_share=content.face_share,
            wordless=isinstance(content.content, str) and not content.content,
            remarks=content.remarks,
        )
        if isinstance(content, DecodedClip)
        else content
        for content in read
    ]


def _read(encoder: ClipEncoder, clip: Clip) -> DecodedClip | Outcome:
    if encoder.reader is None:
        return DecodedClip(clip.text)
    try:
        return encoder.reader(clip.path, clip.corruption)
    except ClipError as reason:
        return Outcome(skipped=str(reason))
