"""Each stretch of a recording through all encoders, once.

Legend of shapes: n vectors of a stretch over time, D the width of a set.
"""

from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.stretch_reader import DecodedStretch, StretchReader
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.media.recording import Stretch
from mer_pnao.predict import Predictor


@dataclass(frozen=True)
class EncodedStretch:
    """A stretch and its vectors over time; times are numbers of samples."""

    decoded: DecodedStretch  # without the crops
    vectors: Mapping[str, NDArray[np.float32]]  # set -> (n, D)
    times: Mapping[str, NDArray[np.float64]]  # set -> (n, 2): when each begins to count, and when it last does
    reason: str = ""  # why there are none


def encode_in_threads(
    predictor: Predictor, reader: StretchReader, stretches: Iterable[Stretch]
) -> Iterator[EncodedStretch]:
    """The stretches in order, a thread a core, each of which searches and encodes one after another.

    Only as many are decoded ahead as there are threads and memory for them. On threads and GPUs see
    `extraction.engine.outcomes`.
    """
    threads = usable_cores()
    turn: AbstractContextManager[Any] = Lock() if torch.cuda.is_available() else nullcontext()
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    running: deque[tuple[Future[EncodedStretch], int]] = deque()
    fault: ClipError | None = None

    def work(stretch: Stretch) -> EncodedStretch:
        decoded = reader.find_faces(stretch)
        with turn:
            return encode_stretch(predictor, decoded)

    try:
        most = reader.limits.memory_mb * 2**20
        try:
            for stretch in stretches:
                while running and (len(running) > threads or sum(size for _, size in running) + stretch.bytes > most):
                    yield running.popleft()[0].result()
                running.append((pool.submit(work, stretch), stretch.bytes))
        except ClipError as error:
            fault = error
        while running:
            yield running.popleft()[0].result()
        if fault:
            raise fault
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def encode_stretch(predictor: Predictor, stretch: DecodedStretch) -> EncodedStretch:
    """The vectors of all encoders; one that has nothing to encode has none."""
    if stretch.reason:
        return EncodedStretch(stretch, {}, {}, stretch.reason)
    vectors: dict[str, NDArray[np.float32]] = {}
    times: dict[str, NDArray[np.float64]] = {}
    reason = ""
    for name, encoder in predictor.encoders.items():
        faces = stretch.faces.get(name)
        content = stretch.sound if faces is None else faces.crops
        least = round(predictor.plans()[name].limits.min_seconds * SAMPLE_RATE) if faces is None else 1
        if len(content) < least or encoder.over_time is None:
            continue
        try:
            made = encoder.over_time(DecodedClip(content))
        except InputError as error:
            reason = f"cannot be encoded: {error}"
            break
        for key, block in made.items():
            begins = stretch.start + encoder.hop * np.arange(len(block), dtype=np.float64)
            vectors[key], times[key] = block, np.stack([begins, begins], axis=1) if faces is None else faces.times
    # The crops are done with; when there were faces is still to be told.
    bare = {name: replace(faces, crops=faces.crops[:0]) for name, faces in stretch.faces.items()}
    return EncodedStretch(replace(stretch, faces=bare), vectors, times, reason)
