"""Ready features in the official baseline's layout (MERTools), copied into shards.

Legend of shapes: n frames of a clip, D the width of a set.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_pnao.features.remarks import Remark
from mer_pnao.features.sets import refuse_not_finite, write_shard
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed

SHARD_SIZE = 1024  # clips of a shard of imported features: a few MB at the usual widths


@dataclass(frozen=True)
class Imported:
    """What became of a ready set: its width, how many clips were averaged over frames, and clips to know of."""

    width: int
    averaged: int
    remarks: tuple[Remark, ...]


def import_vectors(
    source: Path, names: Sequence[str], out: Path, progress: Callable[[int], None] = lambda _: None
) -> Imported:
    """Copies ready features in MERTools' layout into shards, one set at a time.

    A clip with several frames gets their mean, which is how the baseline makes its utterance sets. A vector of zeros
    only is what the baseline writes for a clip without a face: it is taken, and listed.

    Args:
        source: the set's folder. A clip is `<name>.npy`, a vector (D,) or frames (n, D) of floats, or a folder
            `<name>/` with a vector (D,) in one `.npy` a frame.
        names: the clips wanted; further files are left alone.
        out: the set's folder for the shards, `<features>/<encoder>/<set>`.
        progress: called with the number of clips read since the last call.

    Raises InputError for a clip that is missing or there twice, or that holds NaN or infinity or has another width or
    shape, naming the clip and the set.
    """
    if not names:
        raise InputError(f"{source}: no clips to import for the feature set {out.name}")
    entries = _entries(source)
    width, averaged, remarks = 0, 0, []
    for start in range(0, len(names), SHARD_SIZE):
        chunk = names[start : start + SHARD_SIZE]
        vectors = []
        for name in chunk:
            frames = _read_frames(source, entries, name, out.name)
            averaged += len(frames) > 1
            # In double precision, for a clip may have hundreds of frames; one frame stays as it is.
            vector = frames[0] if len(frames) == 1 else frames.mean(axis=0, dtype=np.float64).astype(np.float32)
            if not vector.any():
                remarks.append(Remark(name, out.name, "all_zero", "all its features are zero, as for a missing face"))
            width = width or len(vector)
            if len(vector) != width:
                raise InputError(
                    f"{source}: {name} in the feature set {out.name} has the width {len(vector)} and not {width}"
                )
            vectors.append(vector)
        block = np.stack(vectors)
        refuse_not_finite(out.name, chunk, block, source)
        write_shard(out / f"part-{start // SHARD_SIZE:05d}.parquet", chunk, block)
        progress(len(chunk))
    return Imported(width, averaged, tuple(remarks))


def missing_vectors(source: Path, names: Sequence[str]) -> list[str]:
    """The clips for which a set in MERTools' layout has neither file nor folder. Raises InputError for no folder."""
    entries = _entries(source)
    return [name for name in names if name not in entries and f"{name}.npy" not in entries]


def _entries(source: Path) -> dict[str, Path]:
    """Files and folders of a set by name, in Unicode's composed form (NFC), as the manifest has the names."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder of features")
    return {composed(path.name): path for path in source.iterdir()}


def _read_frames(source: Path, entries: Mapping[str, Path], name: str, set_name: str) -> NDArray[np.float32]:
    """(n, D): the frames of a clip, or its one vector."""
    if Path(name).name != name:
        raise InputError(f"{source}: the name {name!r} must not hold a path")
    file, folder = entries.get(f"{name}.npy"), entries.get(name)
    if folder is not None and not folder.is_dir():
        folder = None
    if file is not None and folder is not None:
        raise InputError(f"{source}: {name} is in the feature set {set_name} both as {file.name} and as a folder")
    if file is not None:
        array = _read_npy(file, name, set_name)
        return array.reshape(-1, array.shape[-1])
    if folder is None:
        raise InputError(f"{source / name}.npy: {name} is missing from the feature set {set_name}")
    frames = [_read_npy(path, name, set_name) for path in sorted(folder.glob("[!.]*.npy"))]
    if not frames:
        raise InputError(f"{folder}: {name} in the feature set {set_name} has no frame")
    if {frame.shape for frame in frames} != {frames[0].shape} or frames[0].ndim != 1:
        shapes = sorted({frame.shape for frame in frames})
        raise InputError(f"{folder}: the frames of {name} in the feature set {set_name} are no vectors alike: {shapes}")
    return np.stack(frames)


def _read_npy(path: Path, name: str, set_name: str) -> NDArray[np.float32]:
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise InputError(f"{path}: {name} in the feature set {set_name} is not a plain array") from error
    # A zip archive of arrays has no shape of its own.
    if not isinstance(array, np.ndarray) or array.ndim not in (1, 2) or array.dtype.kind != "f" or not array.size:
        found = f"{array.dtype} of the shape {array.shape}" if isinstance(array, np.ndarray) else "an archive"
        raise InputError(
            f"{path}: {name} in the feature set {set_name} must be a vector or frames of floats, not {found}"
        )
    with np.errstate(over="ignore"):  # what float32 cannot hold becomes infinity, and is refused as that
        return np.asarray(array, dtype=np.float32)
