"""Feature sets of many clips: batched, resumable by shard, and with a reason for each clip left out."""

import hashlib
import json
import shutil
import tempfile
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from mer_pnao.encoders.checkpoints import digest
from mer_pnao.errors import InputError
from mer_pnao.features.clip_encoders import AHEAD, ClipEncoder, DecodedClip
from mer_pnao.features.face_shares import Row, read_face_shares, row, write_face_shares
from mer_pnao.features.store import Listed, read_listed, write_identity, write_listed, write_shard
from mer_pnao.media.corruption import ClipCorruption
from mer_pnao.media.decode import ClipError, decoding_threads

Item = TypeVar("Item")
Result = TypeVar("Result")


@dataclass(frozen=True)
class Clip:
    """A clip of the manifest."""

    name: str
    path: Path
    corruption: ClipCorruption | None = None  # of a noisy twin


@dataclass(frozen=True)
class ExtractionReport:
    """What became of the clips: `sets` by width, and the clips that were skipped or lack a face."""

    clips: int
    sets: Mapping[str, int]
    listed: tuple[Listed, ...]

    @property
    def skipped(self) -> int:
        return sum(entry.action == "skipped" for entry in self.listed)


def extract(
    clips: Sequence[Clip],
    encoder: ClipEncoder,
    out: Path,
    work: Path,
    shard_size: int = 64,
    max_skipped: float = 0.05,
    progress: Callable[[int], None] = lambda _: None,
) -> ExtractionReport:
    """Writes an encoder's feature sets: `out/<set>/part-*.parquet`, `identity.json`, `skipped.csv`, `faces.csv`.

    Finished shards stay in `work/features/<key>/`, where the key is a hash of all that determines them, so
    that a killed extraction goes on at the shard where it was, with the same bytes as an undisturbed one.

    Args:
        clips: in the order of the vectors.
        encoder: see `build_encoder`.
        out: the encoder's folder, replaced as a whole at the end.
        work: the root of what survives a kill.
        shard_size: clips of a shard, which is what a kill can cost at most.
        max_skipped: share of the clips that may be unusable.
        progress: called with the number of clips finished since the last call.

    Raises:
        InputError: no clips, a clip twice or missing, an `out` that holds anything else or cannot be made, vectors
            that are not finite, or too many clips skipped, naming the table that lists them.
    """
    _refuse_bad_list(clips, encoder.name)
    _refuse_foreign_folder(out)
    cache = work / "features" / _key(clips, encoder, shard_size)
    cache.mkdir(parents=True, exist_ok=True)
    shards = {
        cache / f"part-{number:05d}": clips[start : start + shard_size]
        for number, start in enumerate(range(0, len(clips), shard_size))
    }
    progress(sum(len(members) for folder, members in shards.items() if folder.is_dir()))
    _fill_missing(shards, encoder, progress)
    listed = tuple(entry for folder in shards for entry in read_listed(folder / "skipped.csv"))
    report = ExtractionReport(len(clips), dict(encoder.sets), listed)
    if report.skipped > max_skipped * len(clips) or report.skipped == len(clips):
        table = cache / "skipped.csv"
        write_listed(table, listed)
        raise InputError(
            f"{table}: {encoder.name} skipped {report.skipped} of {len(clips)} clips, "
            f"more than max_skipped = {max_skipped:g}"
        )
    corrupted = {c.name: {"snr": c.corruption.snr, "blur": c.corruption.factor} for c in clips if c.corruption}
    identity = {**encoder.identity, "corrupted": corrupted} if corrupted else encoder.identity
    _publish(list(shards), encoder.sets, identity, listed, out)
    return report


def _refuse_bad_list(clips: Sequence[Clip], encoder: str) -> None:
    if not clips:
        raise InputError(f"{encoder}: there are no clips to extract")
    twice = [name for name, times in Counter(clip.name for clip in clips).items() if times > 1]
    if twice:
        raise InputError(f"{encoder}: the clip {twice[0]} is listed twice")
    for clip in clips:
        if not clip.path.is_file():
            raise InputError(f"{clip.path}: the file of the clip {clip.name} is missing")


def _refuse_foreign_folder(out: Path) -> None:
    """Before hours of work: the folder will be replaced, so it must be one that an extraction made, or none."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        foreign = out.exists() and not (out / "identity.json").is_file() and any(out.iterdir())
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}") from error
    if foreign:
        raise InputError(f"{out} holds something else than features, and would be replaced; name another folder")


def _key(clips: Sequence[Clip], encoder: ClipEncoder, shard_size: int) -> str:
    drawn = {clip.name: clip.corruption for clip in clips if clip.corruption}
    noise = {path: digest(path) for path in {path for corruption in drawn.values() for path in corruption.noise}}
    # The batch is part of it because, in bfloat16, sums in another order round differently.
    determining = {
        "encoder": encoder.name,
        "identity": dict(encoder.identity),
        "batch": encoder.batch,
        "shard_size": shard_size,
        "clips": [[clip.name, _content(clip.path)] for clip in clips],
        "corrupted": {
            name: [corruption.snr, corruption.factor, corruption.start, [noise[path] for path in corruption.noise]]
            for name, corruption in drawn.items()
        },
    }
    return hashlib.sha256(json.dumps(determining, sort_keys=True).encode()).hexdigest()[:32]


def _content(path: Path) -> str:
    """A clip's digest; one that may not be read is no reason to stop here: decoding lists it."""
    try:
        return digest(path)
    except OSError as error:
        return f"unreadable: {error.strerror}"


def _fill_missing(shards: Mapping[Path, Sequence[Clip]], encoder: ClipEncoder, progress: Callable[[int], None]) -> None:
    missing = {folder: members for folder, members in shards.items() if not folder.is_dir()}
    decoders = ThreadPoolExecutor(decoding_threads())
    try:
        # One stream over all shards, so that decoding does not pause while a shard is written.
        pending = (clip for members in missing.values() for clip in members)
        decoded = _in_order(decoders, lambda clip: (clip, _decode(encoder, clip)), pending, AHEAD * encoder.batch)
        for folder, members in missing.items():
            _write_shard_folder(folder, encoder, islice(decoded, len(members)), progress)
    finally:
        decoders.shutdown(cancel_futures=True)


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


def _write_shard_folder(
    folder: Path,
    encoder: ClipEncoder,
    decoded: Iterator[tuple[Clip, DecodedClip | ClipError]],
    progress: Callable[[int], None],
) -> None:
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
        for name, block in encoder.encode(list(usable.values())).items():
            _refuse_not_finite(block, list(usable), name)
            vectors[name].append(block)
        progress(len(batch))
    partial = Path(tempfile.mkdtemp(prefix=".", dir=folder.parent))
    for name, blocks in vectors.items():
        write_shard(partial / f"{name}.parquet", names, np.concatenate(blocks))
    write_listed(partial / "skipped.csv", listed)
    write_face_shares(partial / "faces.csv", shares)
    _move_into_place(partial, folder)


def _refuse_not_finite(block: NDArray[np.float32], names: Sequence[str], set_name: str) -> None:
    bad = ~np.isfinite(block).all(axis=1)
    if bad.any():
        raise InputError(f"{names[int(bad.argmax())]}: its vector of {set_name} is not finite")


def _move_into_place(partial: Path, folder: Path) -> None:
    try:
        partial.replace(folder)
    except OSError:
        if not folder.is_dir():
            raise
        shutil.rmtree(partial)  # another process finished the same shard first, with the same bytes


def _publish(
    shards: Sequence[Path],
    sets: Iterable[str],
    identity: Mapping[str, object],
    listed: Sequence[Listed],
    out: Path,
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    for set_name in sets:
        (partial / set_name).mkdir(parents=True)
        for shard in shards:
            # Copied and not linked: DVC may make its outputs read-only, and links would share that.
            shutil.copyfile(shard / f"{set_name}.parquet", partial / set_name / f"{shard.name}.parquet")
    write_identity(partial, identity, listed)
    shares = [share for shard in shards for share in read_face_shares(shard / "faces.csv")]
    write_face_shares(partial / "faces.csv", shares)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
