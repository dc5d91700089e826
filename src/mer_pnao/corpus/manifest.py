"""The one table of clips that every stage reads, and the checks that every source of labels shares."""

import csv
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed, replacing

COLUMNS = ("name", "path", "discrete", "valence", "speaker", "split")
INTENSITY = "intensity"  # a further column at the end, of corpora that say how strongly an emotion is acted
SPLITS = ("train", "test")  # every corpus has them, with a label for each clip; further test splits may follow
VALENCE_RANGE = (-5.0, 5.0)  # MER 2023's scale
_KNOWN = {"name", "discrete", "emotion", "valence", "speaker", "split"}  # columns of label files
_NO_VALENCE = -10.0  # what some exports of MER 2023 write for a clip without a valence
_NAME = re.compile(r"[^/\\\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]+")
_SPLIT = re.compile(r"[a-z][a-z0-9_]*")
_SEPARATORS = (",", ";", "\t")
_ABOVE = 5  # rows below the first among which a header is looked for that a title stands above
_OUT_OF_FOLD = "trainval"  # what the predictions and the table call the out-of-fold part of train


class CorpusError(InputError):
    """Everything that is wrong with a corpus: a sentence each in `faults`; the message is the first of them."""

    def __init__(self, faults: Sequence[str]) -> None:
        more = f" ({len(faults) - 1} more: `mer check` lists them)" if len(faults) > 1 else ""
        super().__init__(faults[0] + more)
        self.faults = tuple(faults)


def faults_of(error: InputError) -> tuple[str, ...]:
    """The sentences of an error, one for most."""
    return error.faults if isinstance(error, CorpusError) else (str(error),)


def alike(names: Iterable[str]) -> Callable[[str], str]:
    """What hints at which of the names a missing one may be, but for spaces or leading zeros; "" at none of them."""
    known = defaultdict[str, list[str]](list)
    for each in names:
        known[each.strip().lstrip("0")].append(each)

    def hint(name: str) -> str:
        others = known.get(name.strip().lstrip("0"), [])
        if len(others) != 1 or others == [name]:
            return ""
        spaces = others[0].strip() == name.strip()
        lost = "spaces around a name count" if spaces else "a spreadsheet takes leading zeros away"
        return f"; there is {others[0]!r}: {lost}"

    return hint


def speakers_of(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Who speaks in each clip of a manifest's rows; None where no speaker is known.

    A clip of an unknown speaker among known ones is a speaker of its own.
    """
    if not table["speaker"].any():
        return None
    pairs = zip(table["speaker"], table["name"], strict=True)
    return tuple(speaker or f"unknown speaker of {name}" for speaker, name in pairs)


def read_csv(path: Path) -> pd.DataFrame:
    """Read a CSV file in UTF-8 as text: each cell a str, "" where empty; row i of the table is row i + 2 of the file.

    Where semicolons or tabs, and no commas, make a cell `name` of the header, they separate the cells, and valences may
    have decimal commas, as spreadsheets write them in many countries. Columns without a name are left out, and so are
    empty rows at the end. Raises InputError naming the file for one that is absent, unreadable, without a header or
    with a column twice, and naming the row for one that is empty or of another length than the header, or a title above
    the header.
    """
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            top = [file.readline() for _ in range(_ABOVE + 1)]
            separator = next((sign for sign in _SEPARATORS if "name" in _cells(top[0], sign)), ",")
            file.seek(0)
            rows = list(csv.reader(file, strict=True, delimiter=separator))
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not a readable CSV file: save it as UTF-8 ({error})") from error
    except (OSError, ValueError, csv.Error) as error:
        raise InputError(f"{path} is not a readable CSV file: {str(error).splitlines()[0]}") from error
    while rows and not any(rows[-1]):
        rows.pop()
    if not rows or not any(rows[0]):
        raise InputError(f"{path} is not a readable CSV file: it has no header in its first row")
    header, *body = rows
    if below := _header_below(top):
        title = top[0].strip().strip("".join(_SEPARATORS))
        raise InputError(f"{path} has {title!r} above its header: delete what is above row {below}")
    for number, row in enumerate(body, start=2):
        if not any(row):
            raise InputError(f"{path}, row {number} is empty, but rows follow it")
        if len(row) != len(header):
            raise InputError(f"{path}, row {number}: {len(row)} cells, but the header has {len(header)}")
    for column in header:
        if column and header.count(column) > 1:
            raise InputError(f"{path} has the column {column!r} twice")
    columns = {name: [row[place] for row in body] for place, name in enumerate(header) if name}
    if separator != "," and "valence" in columns:
        columns["valence"] = [cell.replace(",", ".") for cell in columns["valence"]]
    return pd.DataFrame(columns, dtype=str)


def _cells(line: str, separator: str) -> list[str]:
    """The cells of a line that ends in it, in lower case."""
    return [cell.strip().lower() for cell in next(csv.reader([line], delimiter=separator), [])]


def _header_below(top: Sequence[str]) -> int | None:
    """The row that is the header, of the first lines of a file that has a title above it; None where it has none."""
    if any("name" in _cells(top[0], sign) for sign in _SEPARATORS):
        return None
    starts = (number for number, line in enumerate(top) for sign in _SEPARATORS if _cells(line, sign)[:1] == ["name"])
    below = next(starts, None)
    return None if below is None else below + 1


def read_label_table(path: Path) -> pd.DataFrame:
    """Read a CSV file with the columns name and discrete, which may also be called emotion.

    Raises what `read_csv` raises, and InputError for a missing column or both of one meaning.
    """
    table = read_csv(path)
    for column in map(str, table):
        meant = column.strip().lower()
        if column != meant and meant in _KNOWN:  # left out without a word, speakers would be in train and test
            raise InputError(f"{path} has the column {column!r}; write it {meant!r}")
    if "discrete" not in table:
        table = table.rename(columns={"emotion": "discrete"})
    elif "emotion" in table:
        raise InputError(f"{path} has both a column 'discrete' and a column 'emotion', which mean the same")
    for column, called in (("name", "'name'"), ("discrete", "'emotion' or 'discrete'")):
        if column not in table:
            raise InputError(f"{path} has no column {called}, only {', '.join(map(repr, table.columns))}")
    return table


def read_labels(path: Path, labels: Sequence[str], split: str | None = None) -> pd.DataFrame:
    """Read a label CSV: name, discrete (or emotion) and, where known, valence, speaker and split, one row a clip.

    With a split given, all rows belong to it. Returns what `checked` returns. Raises what `read_label_table` and
    `checked` raise, and InputError for an empty table.
    """
    table = read_label_table(path)
    if table.empty:
        raise InputError(f"{path} lists no clip")
    table = table.reindex(columns=["name", "discrete", "valence", "speaker", "split"], fill_value="")
    if split is not None:
        table = table.assign(split=split)
    return checked(table, path, labels)


def checked(table: pd.DataFrame, source: Path, labels: Sequence[str]) -> pd.DataFrame:
    """The table of a source with its valence as numbers and its names in Unicode's composed form (NFC).

    It has the text columns name, discrete ("": unlabelled), valence ("" or -10: none), speaker ("": unknown) and split
    ("": not said), possibly more. An empty label set takes whatever the labels are.

    Raises CorpusError naming row and file for an empty or duplicate name, a name with a path in it, a label outside the
    set, none where the clip may be trained or scored on, a valence that is not a number in [-5, 5], or a split that is
    no lower-case word.
    """
    # A list written on one system and a disk written on another may spell the same umlaut in two ways.
    table = table.assign(name=table["name"].map(composed))
    seen: set[str] = set()
    faults: list[str] = []
    columns = (table[column] for column in ("name", "discrete", "valence", "speaker", "split"))
    for row, (name, label, valence, speaker, split) in enumerate(zip(*columns, strict=True), start=2):
        where = f"{source}, row {row}"
        if not _NAME.fullmatch(name) or name in (".", ".."):
            faults.append(f"{where}: {name!r} is not the bare name of a clip")
        elif name in seen:
            faults.append(f"{where}: clip {name!r} is listed twice")
        seen.add(name)
        if split and (not _SPLIT.fullmatch(split) or split == _OUT_OF_FOLD):
            faults.append(f"{where}: split {split!r} of clip {name!r} is not train, test or another lower-case word")
        elif not label and split in ("", *SPLITS):
            faults.append(f"{where}: clip {name!r} has no label, as only clips of further test splits may")
        if label and labels and label not in labels:
            faults.append(f"{where}: label {label!r} of clip {name!r} is none of {', '.join(labels)}")
        for what, word in (("label", label), ("speaker", speaker)):
            if not word.isprintable() or word != word.strip():
                faults.append(f"{where}: {what} {word!r} of clip {name!r} is not a word without spaces around it")
        if _valence(valence) is None:
            faults.append(_wrong_valence(source, row, valence))
    if faults:
        raise CorpusError(faults)
    return table.assign(valence=valences(table, source))


def valences(table: pd.DataFrame, source: Path) -> "pd.Series[float]":
    """The column `valence` as numbers, NaN where a clip has none: empty, or -10.

    Raises InputError naming row and file for the first that is not a number in [-5, 5].
    """
    numbers = [_valence(text) for text in table["valence"]]
    if None in numbers:
        row = numbers.index(None)
        raise InputError(_wrong_valence(source, row + 2, table["valence"].iloc[row]))
    return pd.Series(numbers, table.index, dtype=float)


def _wrong_valence(source: Path, row: int, text: str) -> str:
    low, high = VALENCE_RANGE
    return f"{source}, row {row}: valence {text!r} is not a number in [{low:g}, {high:g}]"


def _valence(text: str) -> float | None:
    """What a cell says: NaN where it says none, None where it says something wrong."""
    try:
        value = float(text or "nan")
    except ValueError:
        return None
    if not text or value == _NO_VALENCE:
        return np.nan
    low, high = VALENCE_RANGE
    return value if low <= value <= high else None


def write_manifest(table: pd.DataFrame, path: Path, shared_speakers: bool = False) -> None:
    """Write the manifest, whole or not at all: the columns of COLUMNS, and INTENSITY where the corpus knows it.

    Raises InputError for what `refuse_wrong_splits` refuses.
    """
    refuse_wrong_splits(table, shared_speakers)
    further = [INTENSITY] if INTENSITY in table else []
    with replacing(path) as beside:
        table.loc[:, [*COLUMNS, *further]].to_csv(beside, index=False)


def refuse_wrong_splits(table: pd.DataFrame, shared_speakers: bool = False) -> None:
    """Raise CorpusError for a clip twice, an empty train or test split, and a speaker of train in another split.

    The last is let pass with `shared_speakers`, for a corpus whose official split is so.
    """
    faults = [f"the corpus has no clip in the split {split!r}" for split in SPLITS if split not in set(table["split"])]
    faults += [
        f"the corpus has two clips called {name!r}" for name in table["name"][table["name"].duplicated()].unique()
    ]
    speakers = {str(split): set(clips["speaker"]) - {""} for split, clips in table.groupby("split")}
    trained = set() if shared_speakers else speakers.pop("train", set())
    for split, others in speakers.items():
        faults += [f"speaker {shared!r} is in both splits, train and {split}" for shared in sorted(trained & others)]
    if faults:
        raise CorpusError(faults)


def read_manifest(path: Path) -> pd.DataFrame:
    """Read what `write_manifest` wrote: text columns as str ("" where empty), valence as float (NaN where empty).

    Raises InputError for an unreadable file, a missing column, or what `checked` refuses.
    """
    table = read_csv(path)
    missing = [column for column in COLUMNS if column not in table]
    if missing:
        raise InputError(f"{path} is not a manifest: it has no column {missing[0]!r}")
    return checked(table, path, ())


def labels_of(manifest: pd.DataFrame, path: Path) -> tuple[str, ...]:
    """The labels of the manifest's training clips in alphabetical order, for a profile that names none.

    Raises InputError naming the file when they are fewer than two.
    """
    labels = tuple(sorted(set(manifest.loc[manifest["split"] == "train", "discrete"])))
    if len(labels) < 2:
        raise InputError(f"{path} needs training clips of at least two emotions, got {', '.join(labels) or 'none'}")
    return labels
