"""MER 2023 as it is released: `train`, `test1`, `test2`, `test3` and a label CSV for those whose labels are out."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import CorpusError, faults_of, read_labels
from mer_pnao.corpus.readers.labelled_folder import clips_in, with_paths
from mer_pnao.foundations.errors import InputError

TRAIN = "train"
# The release's test sets and their splits here. MER-MULTI, the one of the paper's Table 1, is `test`.
TESTS = {"test1": "test", "test2": "noise", "test3": "semi"}
UNLABELLED_MULTI = "multi"


def read_release(root: Path, labels: Sequence[str]) -> pd.DataFrame:
    """The clips of a release folder: `<part>/<name>.mp4` or `.avi`, and `<part>-label.csv` beside the part.

    A part with a label CSV has the clips listed there, which in test2 and test3 may lack a label; further videos (of
    the 73,000 of test3 all but 834 have no label) are left alone. A test set without its CSV has every clip of its
    folder, unlabelled. test2 and test3 may be absent as a whole.

    While the labels of test1 are not out, there is nothing to score on: test1 is then the split `multi`, and train's
    clips come without a split, to be divided into train and test.

    Raises InputError naming file and row for what `read_labels` refuses, a listed clip that is not there, or a train or
    test1 folder that is not there.
    """
    parts: list[pd.DataFrame] = []
    faults: list[str] = []
    for part, split in {TRAIN: TRAIN, **TESTS}.items():
        if part in ("test2", "test3") and not (root / part).exists() and not _csv(root, part).exists():
            continue
        try:
            parts.append(_read_part(root, part, split, labels))
        except InputError as error:
            faults += faults_of(error)
    if faults:
        raise CorpusError(faults)
    table = pd.concat(parts, ignore_index=True)
    twice = table[table["name"].duplicated(keep=False)].sort_values("name", kind="stable")
    if not twice.empty:
        raise InputError(f"{root} holds clip {twice['name'].iloc[0]!r} twice: {' and '.join(twice['path'].iloc[:2])}")
    if UNLABELLED_MULTI in set(table["split"]):
        table["split"] = table["split"].where(table["split"] != TRAIN, "")
    return table


def _read_part(root: Path, part: str, split: str, labels: Sequence[str]) -> pd.DataFrame:
    source = _csv(root, part)
    if part == TRAIN or source.exists():
        return with_paths(read_labels(source, labels, split), root, root / part, source)
    clips = clips_in(root / part)
    return pd.DataFrame(
        {
            "name": list(clips),
            "discrete": "",
            "valence": float("nan"),
            "speaker": "",
            "split": UNLABELLED_MULTI if part == "test1" else split,
            "path": [path.relative_to(root).as_posix() for path in clips.values()],
        }
    )


def _csv(root: Path, part: str) -> Path:
    return root / f"{part}-label.csv"
