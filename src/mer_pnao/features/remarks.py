"""What an encoder remarked about clips: `skipped.csv` (clips and reasons) and `faces.csv` (where faces were)."""

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Literal, NamedTuple, get_args

import pandas as pd

from mer_pnao.corpus.manifest import read_csv
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import write_text

# "part_used": of several tracks one, or of channels that cancel each other the loudest
Action = Literal["skipped", "whole_frame", "all_zero", "part_used"]


class Remark(NamedTuple):
    """A clip that an encoder could not take as it is, and what became of it."""

    name: str
    encoder: str
    action: Action
    reason: str


def write_remarks(path: Path, remarks: Iterable[Remark]) -> None:
    """Writes a table with the columns name, encoder, action and reason. Complete or not at all."""
    _write(path, Remark._fields, list(remarks))


def read_remarks(path: Path) -> tuple[Remark, ...]:
    """Reads what `write_remarks` wrote. Raises InputError for no readable table, or other columns or actions."""
    try:
        table = read_csv(path)
    except InputError as error:
        raise InputError(f"{path} is not a table of skipped clips") from error
    if tuple(table.columns) != Remark._fields or not set(table["action"]) <= set(get_args(Action)):
        raise InputError(f"{path} is not a table of skipped clips")
    return tuple(Remark(*row) for row in table.itertuples(index=False))


_COLUMNS = ("name", "frames", "share")
Row = tuple[str, str, str]  # name of the clip, number of its frames that were encoded, share with a face


def write_face_shares(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table, complete or not at all; without rows, as of an encoder of sound, there is none."""
    if rows:
        _write(path, _COLUMNS, rows)


def read_face_shares(path: Path) -> list[Row]:
    """Reads what `write_face_shares` wrote, or did not write."""
    return [*read_csv(path).itertuples(index=False, name=None)] if path.is_file() else []


def _write(path: Path, columns: Sequence[str], rows: Sequence[tuple[str, ...]]) -> None:
    write_text(path, pd.DataFrame(rows, columns=list(columns)).to_csv(index=False, lineterminator="\n"))
