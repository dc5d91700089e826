"""Every kind of corpus by its name in params."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.cremad import read_cremad
from mer_pnao.corpus.labelled_folder import read_folder
from mer_pnao.corpus.mer2023 import read_release
from mer_pnao.corpus.mertools import read_features_folder
from mer_pnao.corpus.ravdess import read_ravdess
from mer_pnao.corpus.splits import with_splits


def read_corpus(
    kind: str,
    root: Path,
    labels: Sequence[str],
    label_file: str,
    intensities: Sequence[str],
    test_share: float,
    test_speakers: Sequence[str],
    seed: int,
) -> pd.DataFrame:
    """The clips of a corpus with a split each, in the columns of the manifest. Raises InputError as the readers do."""
    table = {
        "labelled_folder": lambda: read_folder(root, labels, label_file),
        "mertools": lambda: read_features_folder(root, labels, label_file),
        "mer2023": lambda: read_release(root, labels),
        "ravdess": lambda: read_ravdess(root, labels, intensities),
        "cremad": lambda: read_cremad(root, labels, intensities),
    }[kind]()
    return with_splits(table, test_share, test_speakers, seed)
