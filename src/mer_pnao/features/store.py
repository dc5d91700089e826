"""Feature sets on disk: one vector a clip, in Parquet shards.

Legend of shapes: N clips, D the width of a set.
"""

import csv
import io
import json
import os
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from typing import Literal, get_args

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mer_pnao.corpus.manifest import read_csv
from mer_pnao.errors import InputError

SHARD_SIZE = 1024  # clips of a shard of imported features: a few MB at the usual widths


@dataclass(frozen=True)
class FeatureSet:
    """Vectors of a set: row i of `vectors` (N, D) float32 is the clip `names[i]`."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]

    @property
    def width(self) -> int:
        return int(self.vectors.shape[1])


Action = Literal["skipped", "whole_frame", "all_zero"]


@dataclass(frozen=True)
class Listed:
    """A clip that an encoder could not take as it is, and what became of it."""

    name: str
    encoder: str
    action: Action
    reason: str


@dataclass(frozen=True)
class Imported:
    """What became of a ready set: its width, how many clips were averaged over frames, and clips to know of."""

    width: int
    averaged: int
    listed: tuple[Listed, ...]


def write_shard(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Writes one shard: columns `name` and `vector`, a list of D float32. Complete or not at all.

    Args:
        path: the `.parquet` file; its folder is created.
        names: N names of clips.
        vectors: (N, D) float32.

    Raises:
        ValueError: the names and the vectors do not match.
    """
    if vectors.ndim != 2 or len(names) != len(vectors) or vectors.dtype != np.float32:
        raise ValueError(f"{len(names)} names do not match vectors {vectors.shape} of {vectors.dtype}")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    table = pa.table({"name": pa.array(names, pa.string()), "vector": rows})
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    pq.write_table(table, partial)
    partial.replace(path)


def read_set(directory: Path) -> FeatureSet:
    """All shards of a set, in the order of their names.

    Args:
        directory: the set's folder of `part-*.parquet`; its name is the set's.

    Raises:
        InputError: no shard, an unreadable one, a clip twice, or a vector with NaN, infinity or another
            width, naming the clip and the set.
    """
    parts = sorted(directory.glob("part-*.parquet"))
    if not parts:
        raise InputError(f"{directory}: the feature set {directory.name} has no part-*.parquet")
    names: list[str] = []
    blocks: list[NDArray[np.float32]] = []
    for part in parts:
        part_names, block = _read_shard(part)
        if blocks and block.shape[1] != blocks[0].shape[1]:
            raise InputError(
                f"{part}: {part_names[0] if part_names else 'the shard'} in the feature set {directory.name} "
                f"has the width {block.shape[1]} and not {blocks[0].shape[1]}"
            )
        names += part_names
        blocks.append(block)
    vectors = np.concatenate(blocks)
    twice = [name for name, times in Counter(names).items() if times > 1]
    if twice:
        raise InputError(f"{directory}: {twice[0]} is twice in the feature set {directory.name}")
    _refuse_not_finite(directory.name, names, vectors, directory)
    return FeatureSet(tuple(names), vectors)


def load_sets(features_root: Path, sets: Sequence[str]) -> dict[str, FeatureSet]:
    """Feature sets by name, each from whichever encoder's folder holds it.

    Args:
        features_root: holds `<encoder>/<set>/part-*.parquet`.
        sets: names of sets.

    Raises:
        InputError: a set that no encoder or more than one has, or one that `read_set` refuses.
    """
    return {name: read_set(find_set(features_root, name)) for name in sets}


def import_vectors(
    source: Path, names: Sequence[str], out: Path, progress: Callable[[int], None] = lambda _: None
) -> Imported:
    """Copies ready features in MERTools' layout into shards, one set at a time.

    A clip with several frames gets their mean, which is how the baseline makes its utterance sets. A vector of zeros
    only is what the baseline writes for a clip without a face: it is taken, and listed.

    Args:
        source: the set's folder. A clip is `<name>.npy`, a vector (D,) or frames (n, D) of floats, or a folder
            `<name>/` with a vector (D,) in one `.npy` a frame.
        names: the N clips wanted; further files are left alone.
        out: the set's folder for the shards, `<features>/<encoder>/<set>`.
        progress: called with the number of clips read since the last call.

    Raises:
        InputError: a clip is missing or there twice, or what it has holds NaN or infinity or has another width or
            shape, naming the clip and the set.
    """
    if not names:
        raise InputError(f"{source}: no clips to import for the feature set {out.name}")
    entries = _entries(source)
    width, averaged, listed = 0, 0, []
    for start in range(0, len(names), SHARD_SIZE):
        chunk = names[start : start + SHARD_SIZE]
        vectors = []
        for name in chunk:
            frames = _read_frames(source, entries, name, out.name)
            averaged += len(frames) > 1
            # In double precision, for a clip may have hundreds of frames; one frame stays as it is.
            vector = frames[0] if len(frames) == 1 else frames.mean(axis=0, dtype=np.float64).astype(np.float32)
            if not vector.any():
                listed.append(Listed(name, out.name, "all_zero", "all its features are zero, as for a missing face"))
            width = width or len(vector)
            if len(vector) != width:
                raise InputError(
                    f"{source}: {name} in the feature set {out.name} has the width {len(vector)} and not {width}"
                )
            vectors.append(vector)
        block = np.stack(vectors)
        _refuse_not_finite(out.name, chunk, block, source)
        write_shard(out / f"part-{start // SHARD_SIZE:05d}.parquet", chunk, block)
        progress(len(chunk))
    return Imported(width, averaged, tuple(listed))


def missing_vectors(source: Path, names: Sequence[str]) -> list[str]:
    """The clips for which a set in MERTools' layout has neither file nor folder. Raises InputError for no folder."""
    entries = _entries(source)
    return [name for name in names if name not in entries and f"{name}.npy" not in entries]


def write_identity(directory: Path, identity: Mapping[str, object], listed: Iterable[Listed] = ()) -> None:
    """Writes an encoder's `identity.json` (what its vectors are) and `skipped.csv` (clips and reasons)."""
    write_text(directory / "identity.json", json.dumps(identity, indent=2, sort_keys=True) + "\n")
    write_listed(directory / "skipped.csv", listed)


def write_listed(path: Path, listed: Iterable[Listed]) -> None:
    """Writes a table with the columns name, encoder, action and reason. Complete or not at all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([field.name for field in fields(Listed)])
    writer.writerows(astuple(entry) for entry in listed)
    write_text(path, text.getvalue())


def read_listed(path: Path) -> tuple[Listed, ...]:
    """Reads what `write_listed` wrote.

    Raises:
        InputError: the table is absent or unreadable, or has other columns or actions.
    """
    try:
        table = read_csv(path)
    except InputError as error:
        raise InputError(f"{path} is not a table of skipped clips") from error
    if list(table.columns) != [field.name for field in fields(Listed)] or not set(table["action"]) <= set(
        get_args(Action)
    ):
        raise InputError(f"{path} is not a table of skipped clips")
    return tuple(Listed(*row) for row in table.itertuples(index=False))


def write_text(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def _read_shard(path: Path) -> tuple[list[str], NDArray[np.float32]]:
    try:
        table = pq.read_table(path, columns=["name", "vector"])
    except (pa.ArrowException, OSError, KeyError) as error:
        raise InputError(f"{path} is not a readable feature shard") from error
    kind = table.schema.field("vector").type
    if not pa.types.is_fixed_size_list(kind) or kind.value_type != pa.float32():
        raise InputError(f"{path}: the column vector must be a fixed-size list of float32, not {kind}")
    column = table.column("vector").combine_chunks()
    if column.null_count or table.column("name").null_count:
        raise InputError(f"{path} has empty cells")
    vectors = column.flatten().to_numpy(zero_copy_only=False).reshape(len(table), kind.list_size)
    return table.column("name").to_pylist(), vectors


def find_set(root: Path, name: str) -> Path:
    """The folder `<encoder>/<set>` of a set. Raises InputError when no encoder or more than one has it."""
    if Path(name).name != name:
        raise InputError(f"{root}: {name!r} is not the name of a feature set")
    # Hidden folders are extractions that were killed while they wrote.
    found = sorted(folder for folder in root.glob(f"[!.]*/{name}") if folder.is_dir())
    if not found:
        raise InputError(f"{root}: no encoder has the feature set {name}")
    if len(found) > 1:
        raise InputError(f"{root}: the feature set {name} is in both {found[0].parent} and {found[1].parent}")
    return found[0]


def _entries(source: Path) -> dict[str, Path]:
    """Files and folders of a set by name, in Unicode's composed form (NFC), as the manifest has the names."""
    if not source.is_dir():
        raise InputError(f"{source} is not a folder of features")
    return {unicodedata.normalize("NFC", path.name): path for path in source.iterdir()}


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


def _refuse_not_finite(set_name: str, names: Sequence[str], vectors: NDArray[np.float32], where: Path) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        what = "NaN" if np.isnan(vectors[row]).any() else "infinity"
        raise InputError(f"{where}: {names[row]} in the feature set {set_name} holds {what}")
