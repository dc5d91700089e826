"""Every kind of corpus by its name in params."""

from pathlib import Path

import pandas as pd

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.readers.cremad import read_cremad
from mer_pnao.corpus.readers.labelled_folder import read_folder
from mer_pnao.corpus.readers.mer2023 import read_release
from mer_pnao.corpus.readers.mertools import read_features_folder
from mer_pnao.corpus.readers.ravdess import read_ravdess
from mer_pnao.corpus.readers.splits import with_splits


def read_corpus(corpus: CorpusConfig, root: Path, seed: int) -> pd.DataFrame:
    """The clips of the corpus in root with a split each, in the columns of the manifest.

    The seed is of the draw of test clips, where the labels do not say what is test. Raises InputError as the readers
    do.
    """
    labels, label_file, intensities = corpus.labels, corpus.label_file, corpus.intensities
    table = {
        "labelled_folder": lambda: read_folder(root, labels, label_file),
        "mertools": lambda: read_features_folder(root, labels, label_file),
        "mer2023": lambda: read_release(root, labels),
        "ravdess": lambda: read_ravdess(root, labels, intensities),
        "cremad": lambda: read_cremad(root, labels, intensities),
    }[corpus.kind]()
    return with_splits(table, corpus.test_share, corpus.test_speakers, seed)
