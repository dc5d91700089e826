"""Clips of train that another split has, too: the same file, or the same sound in another container."""

import hashlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import av
import numpy as np
import pandas as pd
from av.codec.context import Flags2

from mer_pnao.foundations.files import digest
from mer_pnao.media.container import OPENING, ClipError, chosen, reasons

_THREADS = 8  # reading waits for the disk
_FIRST = 16_000  # samples that tell almost all sounds apart


def find_leaks(clips: pd.DataFrame, place: Path) -> list[str]:
    """A sentence for each labelled clip outside train whose file or sound is that of a clip of train.

    All must be readable. Whole files are read where their sizes are equal, and whole sounds where their beginnings are.
    """
    scored = clips[(clips["split"] == "train") | (clips["discrete"] != "")]
    own = scored.drop_duplicates("path")  # a noisy twin is its clip's file
    split = dict(zip(own["path"], own["split"], strict=True))

    def shared(groups: Iterable[list[str]], key: Callable[[Path], Hashable | None]) -> list[list[str]]:
        """What of each group has one key, where a clip of train and another are among it."""
        parts = list[list[str]]()
        with ThreadPoolExecutor(_THREADS) as pool:
            for group in groups:
                of_key = defaultdict[Hashable, list[str]](list)
                for path, value in zip(group, pool.map(key, (place / path for path in group)), strict=True):
                    of_key[value].append(path)
                of_key.pop(None, None)
                parts += [part for part in of_key.values() if len({split[path] == "train" for path in part}) == 2]
        return parts

    files = shared(shared([[*split]], lambda path: path.stat().st_size), digest)
    named = {path for part in files for path in part if split[path] != "train"}
    sounds = shared(shared([[path for path in split if path not in named]], partial(_sound, samples=_FIRST)), _sound)
    return [
        f"{path} of {split[path]} is the same {what} as {first} of train: its score would say nothing"
        for what, parts in (("file", files), ("sound", sounds))
        for part in parts
        for first in [next(path for path in part if split[path] == "train")]
        for path in part
        if split[path] != "train"
    ]


def _sound(path: Path, samples: int | None = None) -> bytes | None:
    """Digest of a clip's first decoded samples, or of all; None for sound that is damaged or silent.

    As the packets have them: containers differ in what they say of the encoder's padding.
    """
    pieces, count = list[np.ndarray](), 0
    try:
        with reasons(), av.open(str(path.absolute()), options=OPENING, metadata_errors="ignore") as container:
            stream, _ = chosen(container.streams.audio, "audio")
            stream.codec_context.flags2 |= Flags2.skip_manual
            for frame in container.decode(stream):
                values = frame.to_ndarray()
                pieces.append(values.T if frame.format.is_planar else values.reshape(frame.samples, -1))
                count += frame.samples
                if samples and count >= samples:
                    break
            sound = np.concatenate(pieces)[:samples]
    except ClipError:
        return None
    return hashlib.sha256(sound.tobytes()).digest() if sound.any() else None
