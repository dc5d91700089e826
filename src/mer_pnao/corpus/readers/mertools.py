"""Features made with the official baseline (MERTools): labels, and `features/<set>/<name>.npy` and its like."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import read_labels
from mer_pnao.corpus.readers.label_archive import read_archive


def read_features_folder(root: Path, labels: Sequence[str], label_file: str = "labels.csv") -> pd.DataFrame:
    """The labels of `root/<label_file>`, a CSV or the baseline's `label-6way.npz`; there are no clips: `path` is empty.

    Raises InputError for what `read_labels` or `read_archive` refuses. A missing feature is refused where it is
    imported.
    """
    read = read_archive if label_file.lower().endswith(".npz") else read_labels
    return read(root / label_file, labels).assign(path="")
