"""The one table of clips that every stage reads, and the checks that every source of labels shares."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.errors import InputError

COLUMNS = ("name", "path", "discrete", "valence", "speaker", "split")
SPLITS = ("train", "test")
VALENCE_RANGE = (-5.0, 5.0)  # MER 2023's scale
_NO_VALENCE = -10.0  # what some exports of MER 2023 write for a clip without a valence
_NAME = re.compile(r"[^/\\\x00-\x1f]+")


def read_labels(path: Path, labels: Sequence[str]) -> pd.DataFrame:
    """Read a label CSV: name, discrete and, where known, valence, speaker and split, one row a clip.

    Returns the columns name, discrete, valence (float, NaN: none), speaker ("": unknown), split (train where absent).
    Raises InputError naming row and file for an unreadable file, a missing column, an empty or duplicate name, a name
    with a path in it, a label outside the set, a valence that is not a number in [-5, 5], or an unknown split. The
    valence -10, with which some exports of MER 2023 mark a missing one, is read as missing.
    """
    table = _read_csv(path)
    for column in ("name", "discrete"):
        if column not in table:
            raise InputError(f"{path} has no column {column!r}, only {', '.join(map(repr, table.columns))}")
    table = table.reindex(columns=["name", "discrete", "valence", "speaker", "split"], fill_value="")
    table["split"] = table["split"].where(table["split"] != "", "train")
    seen: set[str] = set()
    for row, (name, discrete, split) in enumerate(
        zip(table["name"], table["discrete"], table["split"], strict=True), start=2
    ):
        where = f"{path}, row {row}"
        if not _NAME.fullmatch(name) or name in (".", ".."):
            raise InputError(f"{where}: {name!r} is not the bare name of a clip")
        if name in seen:
            raise InputError(f"{where}: clip {name!r} is listed twice")
        if discrete not in labels:
            raise InputError(f"{where}: label {discrete!r} of clip {name!r} is none of {', '.join(labels)}")
        if split not in SPLITS:
            raise InputError(f"{where}: split {split!r} of clip {name!r} is none of {', '.join(SPLITS)}")
        seen.add(name)
    if not seen:
        raise InputError(f"{path} lists no clip")
    return table.assign(valence=_valence(table, path))


def write_manifest(table: pd.DataFrame, path: Path) -> None:
    """Write the manifest. Raises InputError when a speaker is in both splits or a split is empty."""
    splits = {split: table[table["split"] == split] for split in SPLITS}
    for split, clips in splits.items():
        if clips.empty:
            raise InputError(f"the corpus has no clip in the split {split!r}")
    shared = set(splits["train"]["speaker"]) & set(splits["test"]["speaker"]) - {""}
    if shared:
        raise InputError(f"speaker {min(shared)!r} is in both splits, train and test")
    path.parent.mkdir(parents=True, exist_ok=True)
    table.loc[:, list(COLUMNS)].to_csv(path, index=False)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read what `write_manifest` wrote: text columns as str ("" where empty), valence as float.

    Raises InputError for an unreadable file, a missing column, or a valence that is not a number in [-5, 5].
    """
    table = _read_csv(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path} is not a manifest: it has no column {missing[0]!r}")
    return table.assign(valence=_valence(table, path))


def _valence(table: pd.DataFrame, path: Path) -> "pd.Series[float]":
    """The valences as numbers, NaN where a clip has none."""
    stated, (low, high) = table["valence"] != "", VALENCE_RANGE
    valence = pd.to_numeric(table["valence"].where(stated), errors="coerce").astype(float)
    right = valence.between(low, high) | (valence == _NO_VALENCE) | ~stated
    if not right.all():
        row = int(right.to_numpy().argmin())
        wrong = table["valence"].iloc[row]
        raise InputError(f"{path}, row {row + 2}: valence {wrong!r} is not a number in [{low:g}, {high:g}]")
    return valence.where(valence != _NO_VALENCE)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # pandas' parser errors and bad encodings are ValueErrors
        raise InputError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from error
    return table
