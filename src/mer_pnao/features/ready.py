"""Ready features of clips, as `mer extract` or MERTools leave them, row by row for a model."""

import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mer_pnao.features.mertools import import_vectors
from mer_pnao.features.sets import FeatureSet, load_sets
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed


class ReadyFeatures(NamedTuple):
    """N clips with every set, and the clips that lack one."""

    names: tuple[str, ...]
    vectors: dict[str, NDArray[np.float32]]  # set -> (N, D)
    lacking: dict[str, str]  # clip -> the first set that it is not in


def read_ready(folder: Path, sets: Iterable[str], names: Iterable[str] | None = None) -> ReadyFeatures:
    """Features of the clips of these names, in their order, or of all clips in a folder.

    It holds `<encoder>/<set>/part-*.parquet` as `mer extract` writes it, or `<set>/<name>.npy` as MERTools. Raises
    InputError for a set that is absent or damaged, naming it.
    """
    if not os.path.isdir(folder):  # noqa: PTH112  # where it cannot be looked at, it is none
        raise InputError(f"{folder} is not a folder of features")
    sets = tuple(sets)
    mertools = all((folder / name).is_dir() and not any((folder / name).glob("part-*.parquet")) for name in sets)
    loaded = _of_mertools(folder, sets) if mertools else load_sets(folder, sets)
    rows = {key: {name: row for row, name in enumerate(part.names)} for key, part in loaded.items()}
    wanted = (
        tuple(names) if names is not None else tuple(dict.fromkeys(n for part in loaded.values() for n in part.names))
    )
    lacking = {
        name: absent for name in wanted if (absent := next((key for key in sets if name not in rows[key]), None))
    }
    whole = tuple(name for name in wanted if name not in lacking)
    vectors = {key: part.vectors[[rows[key][name] for name in whole]] for key, part in loaded.items()}
    return ReadyFeatures(whole, vectors, lacking)


def _of_mertools(folder: Path, sets: tuple[str, ...]) -> dict[str, FeatureSet]:
    with tempfile.TemporaryDirectory() as shards:
        for name in sets:
            here = sorted(path for path in (folder / name).glob("[!.]*") if path.is_dir() or path.suffix == ".npy")
            names = [composed(path.name if path.is_dir() else path.stem) for path in here]
            import_vectors(folder / name, names, Path(shards) / "ready" / name)
        return load_sets(Path(shards), sets)
