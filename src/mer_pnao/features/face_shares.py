"""`faces.csv` beside a feature set's identity: in which share of a clip's frames a face was found."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path

from mer_pnao.features.store import write_text

_COLUMNS = ("name", "frames", "share")
Row = tuple[str, str, str]  # name of the clip, number of its frames that were encoded, share


def row(name: str, frames: int, share: float) -> Row:
    """A row of the table."""
    return (name, str(frames), f"{share:.4f}")


def write_face_shares(path: Path, rows: Sequence[Row]) -> None:
    """Writes the table, complete or not at all; without rows, as of an encoder of sound, there is none."""
    if not rows:
        return
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([_COLUMNS, *rows])
    write_text(path, text.getvalue())


def read_face_shares(path: Path) -> list[Row]:
    """Reads what `write_face_shares` wrote, or did not write."""
    if not path.is_file():
        return []
    with path.open(encoding="utf-8", newline="") as file:
        return [(name, frames, share) for name, frames, share in csv.reader(file)][1:]
