"""Features made with the official baseline (MERTools): `labels.csv` and `features/<set>/<name>.npy`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import read_labels


def read_features_folder(root: Path, labels: Sequence[str]) -> pd.DataFrame:
    """The manifest of `root/labels.csv`; there are no clips, so `path` is empty.

    Raises InputError for what `read_labels` refuses. A missing feature file is refused where it is imported.
    """
    return read_labels(root / "labels.csv", labels).assign(path="")
