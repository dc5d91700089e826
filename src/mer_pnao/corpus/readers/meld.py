"""MELD as it can be downloaded: `train_splits/dia0_utt0.mp4`, and `train_sent_emo.csv` with labels and speakers."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import CorpusError, checked, faults_of, read_csv
from mer_pnao.corpus.readers.labelled_folder import with_paths
from mer_pnao.foundations.errors import InputError

# The three parts: what their tables are called after, their folder, and what the names of their clips begin with here,
# since dialogues are numbered anew in each; the official baseline's features have the same names.
PARTS = {
    "train": ("train_splits", "train"),
    "dev": ("dev_splits_complete", "val"),
    "test": ("output_repeated_splits_test", "test"),
}
_COLUMNS = ("Dialogue_ID", "Utterance_ID", "Emotion", "Speaker")
_NEVER_RELEASED = ("dia110_utt7",)  # of dev: in its table, and in no download


def read_meld(root: Path, labels: Sequence[str], validation: str = "dev") -> pd.DataFrame:
    """The clips of the three parts; dev's are in the split `validation`.

    A part lies in `root`, or in `root/train` and so on, as the inner archives unpack. Raises CorpusError for what
    `read_csv` and `checked` refuse, a table without the columns, and a listed clip that is not there.
    """
    parts, faults = [], list[str]()
    for part in PARTS:
        try:
            parts.append(_read_part(root, part, labels, validation if part == "dev" else part))
        except InputError as error:
            faults += faults_of(error)
    if faults:
        raise CorpusError(faults)
    return pd.concat(parts, ignore_index=True)


def _read_part(root: Path, part: str, labels: Sequence[str], split: str) -> pd.DataFrame:
    folder, prefix = PARTS[part]
    source = _within(root, part, f"{part}_sent_emo.csv")
    table = read_csv(source)
    for column in _COLUMNS:
        if column not in table:
            raise InputError(f"{source} has no column {column!r}, only {', '.join(map(repr, table.columns))}")
    if table.empty:
        raise InputError(f"{source} lists no clip")
    clips = pd.DataFrame(
        {
            "name": [
                f"dia{dialogue}_utt{number}" for dialogue, number in zip(*(table[c] for c in _COLUMNS[:2]), strict=True)
            ],
            "discrete": table["Emotion"],
            "valence": "",
            "speaker": table["Speaker"].map(_printable),
            "split": split,
        }
    )
    may_lack = _NEVER_RELEASED if part == "dev" else ()
    found = with_paths(checked(clips, source, labels), root, _within(root, part, folder), source, may_lack)
    return found.assign(name=f"{prefix}_" + found["name"])


def _within(root: Path, part: str, name: str) -> Path:
    inner = root / part / name
    return inner if inner.exists() else root / name


def _printable(speaker: str) -> str:
    """A name without the control characters that some have for quotes."""
    return "".join(filter(str.isprintable, speaker)).strip()
