"""Finished shards of an extraction on disk: what a kill leaves, and what several machines share.

A shard is some clips that their names' hashes put together, so that one clip more or less changes one shard. Its
folder's name tells all that determines it, so that whoever finds it has the vectors that it would have computed itself.
"""

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING
from uuid import uuid4

import numpy as np
from numpy.typing import NDArray

from mer_pnao.features.remarks import Remark, Row, write_face_shares, write_remarks
from mer_pnao.features.sets import write_shard
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest
from mer_pnao.media.corruption import ClipCorruption

if TYPE_CHECKING:
    from mer_pnao.extraction.clip_encoders import ClipEncoder  # with torch

SHARD_SIZE = 64  # clips: what a kill can cost at most
_LIBRARIES = ("av", "numpy", "opencv-python-headless", "torch", "transformers")  # another version, another last bit


@dataclass(frozen=True)
class Clip:
    """A clip of the manifest."""

    name: str
    path: Path
    corruption: ClipCorruption | None = None  # of a noisy twin
    text: str = ""  # what is said, where an encoder of text asks for it


@dataclass(frozen=True)
class Shard:
    """What an encoder made of some clips: for each set the vectors (n, D) of the clips in `names`, and remarks."""

    names: tuple[str, ...]
    vectors: Mapping[str, NDArray[np.float32]]
    remarks: tuple[Remark, ...]
    shares: tuple[Row, ...]  # of frames with a face


@dataclass(frozen=True)
class Part:
    """The shards that one of several machines computes: every `count`-th one, from the `number`-th on, from 1."""

    number: int = 1
    count: int = 1

    def takes(self, shard: int) -> bool:
        """Whether the shard of this number, from 0 on, is of the part."""
        return shard % self.count == self.number - 1

    def clips(self, clips: Sequence[Clip], shard_size: int = SHARD_SIZE) -> int:
        """How many of the clips are the part's."""
        return sum(len(shard) for number, shard in enumerate(grouped(clips, shard_size)) if self.takes(number))


def parse_part(text: str) -> Part:
    """The part that `i/n` names. Raises InputError for anything else."""
    number, slash, count = text.partition("/")
    if not (slash and number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
        raise InputError(f"a part must be i/n with i from 1 to n, got {text!r}")
    return Part(int(number), int(count))


def grouped(clips: Sequence[Clip], most: int = SHARD_SIZE, bit: int = 0) -> Iterator[Sequence[Clip]]:
    """The clips of each shard, in their order: halved by the bits of their names' hashes while they are more than most.

    So a shard has the same clips whatever others there are, and one clip more changes one shard, or divides it in two.
    """
    if len(clips) <= most:
        if clips:
            yield clips
        return
    halves: tuple[list[Clip], list[Clip]] = ([], [])
    for clip in clips:
        halves[int.from_bytes(hashlib.sha256(clip.name.encode()).digest()) >> bit & 1].append(clip)
    for half in halves:
        yield from grouped(half, most, bit + 1)


def shard_folders(
    clips: Sequence[Clip], encoder: "ClipEncoder", work: Path, shard_size: int = SHARD_SIZE
) -> dict[Path, Sequence[Clip]]:
    """Where each shard's folder is or will be, in `work/features/<encoder's key>/`; every clip is read once."""
    cache = work / "features" / _key_of_encoder(encoder)
    noises = {path for clip in clips if clip.corruption for path in clip.corruption.noise}
    noise = {path: digest(path) for path in noises}
    return {cache / f"part-{_key_of_shard(shard, encoder, noise)}": shard for shard in grouped(clips, shard_size)}


def write_shard_folder(folder: Path, shard: Shard) -> None:
    """Write a shard beside its place and move it there: whole or not at all."""
    partial = folder.with_name(f".{uuid4().hex}")  # not `mkdtemp`, whose folders are closed to other users
    partial.mkdir(parents=True)
    for name, vectors in shard.vectors.items():
        write_shard(partial / f"{name}.parquet", shard.names, vectors)
    write_remarks(partial / "skipped.csv", shard.remarks)
    write_face_shares(partial / "faces.csv", shard.shares)
    try:
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)  # another process finished the same shard first, with the same bytes


def _key_of_encoder(encoder: "ClipEncoder") -> str:
    by_onnx = "onnx" in (encoder.identity.get("kind"), encoder.identity.get("runtime"))
    libraries = (*_LIBRARIES, "onnxruntime") if by_onnx else _LIBRARIES
    # The batch is part of it because, in bfloat16, sums in another order round differently.
    return _hash(
        {
            "encoder": encoder.name,
            "identity": dict(encoder.identity),
            "batch": encoder.batch,
            "device": encoder.device.type,
            "libraries": {name: version(name) for name in libraries},
        }
    )


def _key_of_shard(clips: Sequence[Clip], encoder: "ClipEncoder", noise: Mapping[Path, str]) -> str:
    drawn = {clip.name: clip.corruption for clip in clips if clip.corruption}
    return _hash(
        {
            "clips": [[clip.name, clip.text if encoder.reader is None else _content(clip.path)] for clip in clips],
            "corrupted": {
                name: [corruption.snr, corruption.factor, corruption.start, [noise[path] for path in corruption.noise]]
                for name, corruption in drawn.items()
            },
        }
    )


def _hash(determining: Mapping[str, object]) -> str:
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()[:32]


def _content(path: Path) -> str:
    """A clip's digest; one that may not be read is no reason to stop here: decoding lists it."""
    try:
        return digest(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"
