"""Features made with the official baseline (MERTools): labels, and `features/<set>/<name>.npy` and its like."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import read_labels
from mer_pnao.corpus.readers.label_archive import read_archive


def read_features_folder(
    root: Path,
    labels: Sequence[str],
    label_file: str = "labels.csv",
    archive_labels: Sequence[str] = (),
    validation: str = "dev",
) -> pd.DataFrame:
    """The labels of `root/<label_file>`, a CSV or an archive such as `label-6way.npz`; without clips, `path` is empty.

    The last two are of an archive, as `read_archive` takes them. Raises InputError for what `read_labels` or
    `read_archive` refuses. A missing feature is refused where it is imported.
    """
    path = root / label_file
    is_archive = label_file.lower().endswith(".npz")
    table = read_archive(path, labels, archive_labels, validation) if is_archive else read_labels(path, labels)
    return table.assign(path="")
