"""The official baseline's `label-6way.npz` and its like: dicts of labels, pickled, read without running anything."""

import io
import math
import pickle
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mer_pnao.corpus.manifest import checked
from mer_pnao.corpus.readers.splits import CANDIDATES
from mer_pnao.foundations.errors import InputError

# An archive's parts and their splits here ("": to be divided). MER-MULTI, the one of the paper's Table 1, is `test`.
PARTS = {
    "train_corpus": "train",
    "val_corpus": "dev",
    "test_corpus": "test",
    "test1_corpus": "test",
    "test2_corpus": "noise",
    "test3_corpus": "semi",
    "whole_corpus": "",
}
_STAND_IN = "neutral"  # what the baseline writes for each test clip while the labels are not out
_MOST_BYTES = 256 * 1024**2  # of a part, unpacked; a hundred thousand clips take some 10 MB

# What an array of dicts of texts and numbers is made of, in the spellings of numpy 1 and 2. None can run code.
_multiarray = import_module("numpy._core.multiarray")
_HARMLESS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): getattr(_multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


class _Restricted(pickle.Unpickler):
    """Knows the constructors of numpy arrays and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"the foreign pickled object {module}.{name}")
        return _HARMLESS[module, name]


def read_archive(
    path: Path, labels: Sequence[str], archive_labels: Sequence[str] = (), validation: str = "dev"
) -> pd.DataFrame:
    """The labels of an archive as `checked` returns them; a clip without a label belongs to a further test split.

    An emotion that is a number is that of `archive_labels`. The clips of `val_corpus` are in the split `validation`,
    those of `whole_corpus` in none. A test part that is neutral throughout has no labels yet, for so the baseline
    writes it: its clips have none here, and if they were to be `test`, they are `candidates` and train has no split.

    Raises InputError for a file that is absent or no archive, foreign pickled objects in it, contents of another form,
    a part that is not among PARTS, numbers that `archive_labels` does not name, one number for all clips, and what
    `checked` refuses, where rows are counted over all parts from 2 on.
    """
    rows = []
    for part, clips in _read_parts(path).items():
        for name, entry in clips.items():
            if not isinstance(name, str) or not isinstance(entry, Mapping):
                raise InputError(f"{path}: {part} must hold a dict for each clip's name, not {entry!r} for {name!r}")
            cells = [_text(path, name, value) for value in (name, entry.get("emo", ""), entry.get("val", ""))]
            rows.append((*cells, "", validation if part == "val_corpus" else PARTS[part], part))
    if not rows:
        raise InputError(f"{path} lists no clip")
    table = pd.DataFrame(rows, columns=["name", "discrete", "valence", "speaker", "split", "part"], dtype=str)
    table = _without_stand_ins(_named(table, path, labels, archive_labels))
    return checked(table.drop(columns="part"), path, labels)


def _named(table: pd.DataFrame, path: Path, labels: Sequence[str], archive_labels: Sequence[str]) -> pd.DataFrame:
    """The table with a word for each emotion that is a number, unless the numbers are the labels themselves."""
    numbers = {text for text in table["discrete"] if re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text)}
    if not archive_labels and numbers <= set(labels):
        return table
    if len(numbers) == 1 and len(table) > 1 and set(table["discrete"]) <= {*numbers, ""}:
        raise InputError(
            f"{path} has no classes: the emotion of each clip is {numbers.pop()}, as in the archives of CMU-MOSI and "
            "CMU-MOSEI, which have sentiments alone"
        )
    words = {str(place): word for place, word in enumerate(archive_labels)}
    if unknown := numbers - words.keys():
        name, number = table.loc[table["discrete"].isin(unknown), ["name", "discrete"]].iloc[0]
        named = f"names 0 to {len(words) - 1}" if words else "is not there to name it"
        raise InputError(f"{path}: the emotion of clip {name!r} is {number}, and corpus.archive_labels {named}")
    return table.assign(discrete=table["discrete"].replace(words))


def _without_stand_ins(table: pd.DataFrame) -> pd.DataFrame:
    """The table without the labels of test parts that have stand-ins for them."""
    for part, clips in table.groupby("part"):
        if str(part).startswith("test") and len(clips) > 1 and set(clips["discrete"]) == {_STAND_IN}:
            table.loc[clips.index, "discrete"] = ""
            if PARTS[str(part)] == "test":
                table.loc[clips.index, "split"] = CANDIDATES
                table.loc[table["split"] == "train", "split"] = ""
    return table


def _read_parts(path: Path) -> dict[str, Mapping[Any, Any]]:
    """The dict of each part that the archive has, in the order of PARTS."""
    try:
        with zipfile.ZipFile(path) as archive:
            held = {name.removesuffix(".npy") for name in archive.namelist() if name.endswith("_corpus.npy")}
            if unknown := sorted(held - PARTS.keys()):
                raise InputError(f"{path} has the part {unknown[0]!r}, which is none of {', '.join(PARTS)}")
            return {part: _read_part(path, archive, part) for part in PARTS if part in held}
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise whatever its constructors raise
        raise InputError(f"{path} is not a readable label archive: {error}") from error


def _read_part(path: Path, archive: zipfile.ZipFile, part: str) -> Mapping[Any, Any]:
    if archive.getinfo(f"{part}.npy").file_size > _MOST_BYTES:
        raise InputError(f"{path}: {part} unpacks to more than {_MOST_BYTES >> 20} MB")
    content = io.BytesIO(archive.read(f"{part}.npy"))
    version = np.lib.format.read_magic(content)
    if version not in ((1, 0), (2, 0)):
        raise InputError(f"{path}: {part} is in the array format {version}, not 1.0 or 2.0")
    read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
    shape, _, dtype = read(content)
    if dtype != np.dtype(object) or math.prod(shape) != 1:
        raise InputError(f"{path}: {part} must hold one dict, not {dtype} of the shape {shape}")
    try:
        array = _Restricted(content).load()
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {part} is refused: {error}") from error
    held = array.reshape(-1)[0] if isinstance(array, np.ndarray) and array.size == 1 else array
    if not isinstance(held, Mapping):
        raise InputError(f"{path}: {part} must hold a dict, not {type(held).__name__}")
    return held


def _text(path: Path, name: str, value: object) -> str:
    if value is None or value != value:  # NaN is not equal to itself
        return ""
    if isinstance(value, str | int | float | np.integer | np.floating):
        text = str(value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(f"{path}: clip {name!r} has {text!r}, a text with half a character in it")
        return text
    raise InputError(f"{path}: clip {name!r} has {value!r}, neither a text nor a number")
