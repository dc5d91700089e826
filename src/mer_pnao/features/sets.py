"""Feature sets on disk: one vector a clip, in Parquet shards.

Legend of shapes: N clips, D the width of a set.
"""

import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from numpy.typing import NDArray

from mer_pnao.features.remarks import Remark, write_remarks
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import replacing, write_text


@dataclass(frozen=True)
class FeatureSet:
    """Vectors of a set: row i of `vectors` (N, D) float32 is the clip `names[i]`."""

    names: tuple[str, ...]
    vectors: NDArray[np.float32]


def write_shard(path: Path, names: Sequence[str], vectors: NDArray[np.float32]) -> None:
    """Writes one shard, complete or not at all: columns `name` and `vector`, a list of D float32.

    Takes N names and (N, D) float32; raises ValueError where these do not match.
    """
    if vectors.ndim != 2 or len(names) != len(vectors) or vectors.dtype != np.float32:
        raise ValueError(f"{len(names)} names do not match vectors {vectors.shape} of {vectors.dtype}")
    rows = pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel(), pa.float32()), vectors.shape[1])
    table = pa.table({"name": pa.array(names, pa.string()), "vector": rows})
    with replacing(path) as beside:
        pq.write_table(table, beside)


def read_set(directory: Path) -> FeatureSet:
    """All shards of a set, `part-*.parquet` in the folder that bears its name, in the order of their names.

    Raises InputError for no shard, an unreadable one, a clip twice, or a vector with NaN, infinity or another width,
    naming the clip and the set.
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
    refuse_not_finite(directory.name, names, vectors, directory)
    return FeatureSet(tuple(names), vectors)


def load_sets(features_root: Path, sets: Sequence[str]) -> dict[str, FeatureSet]:
    """Feature sets by name, each from whichever encoder's folder `<encoder>/<set>/` below the root holds it.

    Raises InputError for a set that no encoder or more than one has, or one that `read_set` refuses.
    """
    return {name: read_set(find_set(features_root, name)) for name in sets}


def write_identity(directory: Path, identity: Mapping[str, object], remarks: Iterable[Remark] = ()) -> None:
    """Writes an encoder's `identity.json` (what its vectors are) and `skipped.csv` (clips and reasons)."""
    write_text(directory / "identity.json", json.dumps(identity, indent=2, sort_keys=True) + "\n")
    write_remarks(directory / "skipped.csv", remarks)


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


def refuse_not_finite(set_name: str, names: Sequence[str], vectors: NDArray[np.float32], where: Path) -> None:
    bad = ~np.isfinite(vectors).all(axis=1)
    if bad.any():
        row = int(bad.argmax())
        what = "NaN" if np.isnan(vectors[row]).any() else "infinity"
        raise InputError(f"{where}: {names[row]} in the feature set {set_name} holds {what}")
