"""The one table of clips that every stage reads, and the checks that every source of labels shares."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.errors import InputError

COLUMNS = ("name", "path", "discrete", "valence", "speaker", "split")
SPLITS = ("train", "test")
_NAME = re.compile(r"[^/\\\x00-\x1f]+")


def read_labels(path: Path, labels: Sequence[str]) -> pd.DataFrame:
    """Read a label CSV: name, discrete and, where known, valence, speaker and split, one row a clip.

    Returns the columns name, discrete, valence (float, NaN: none), speaker ("": unknown), split (train where absent).
    Raises InputError naming row and file for an unreadable file, a missing column, an empty or duplicate name, a name
    with a path in it, a label outside the set, a valence that is not a number, or an unknown split.
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
    valence = pd.to_numeric(table["valence"].where(table["valence"] != ""), errors="coerce")
    wrong = table.index[valence.isna() & (table["valence"] != "")]
    if len(wrong):
        row = int(wrong[0])
        raise InputError(f"{path}, row {row + 2}: valence {table['valence'][row]!r} is not a number")
    return table.assign(valence=valence.astype(float))


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
    """Read what `write_manifest` wrote: text columns as str ("" where empty), valence as float."""
    table = _read_csv(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path} is not a manifest: it has no column {missing[0]!r}")
    return table.assign(valence=pd.to_numeric(table["valence"]).astype(float))


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        table = pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig")
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except (OSError, ValueError) as error:  # pandas' parser errors and bad encodings are ValueErrors
        raise InputError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from error
    return table
