"""Every kind of corpus by its name in params."""

import re
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import read_labels
from mer_pnao.corpus.readers.cremad import CREMAD
from mer_pnao.corpus.readers.label_archive import read_archive
from mer_pnao.corpus.readers.labelled_folder import read_folder
from mer_pnao.corpus.readers.meld import read_meld
from mer_pnao.corpus.readers.mer2023 import read_release
from mer_pnao.corpus.readers.official_names import Skip, read_takes, tell
from mer_pnao.corpus.readers.ravdess import RAVDESS
from mer_pnao.corpus.readers.splits import with_splits
from mer_pnao.corpus.readers.track1 import RELEASES, read_track1
from mer_pnao.foundations.errors import InputError


def read_corpus(corpus: CorpusConfig, root: Path, seed: int, skip: Skip = tell) -> pd.DataFrame:
    """The clips of the corpus in root with a split each, in the columns of the manifest.

    The seed is of the draw of test clips, where the labels do not say what is test. `skip` is called with path and
    reason of each clip that is left out for its name, at most `max_skipped` of them. Raises InputError as the readers
    do, and for a clip in whose name `speaker_in_name` finds nothing.
    """
    labels, validation = corpus.labels, corpus.validation or "dev"
    table = {
        "labelled_folder": lambda: read_folder(root, labels, corpus.label_file),
        "mertools": lambda: _without_clips(root / corpus.label_file, corpus, validation),
        "mer2023": lambda: read_release(root, labels),
        **{year: lambda: read_track1(root, labels, corpus.kind) for year in RELEASES},
        "meld": lambda: read_meld(root, labels, validation),
        "ravdess": lambda: read_takes(root, RAVDESS, corpus, skip),
        "cremad": lambda: read_takes(root, CREMAD, corpus, skip),
    }[corpus.kind]()
    if corpus.speaker_in_name:
        table = table.assign(speaker=[_speaker(name, corpus.speaker_in_name) for name in table["name"]])
    return with_splits(table, corpus.test_share, corpus.test_speakers, seed)


def _without_clips(labels: Path, corpus: CorpusConfig, validation: str) -> pd.DataFrame:
    """The labels of features made with MERTools, a CSV or an archive such as `label-6way.npz`."""
    if labels.name.lower().endswith(".npz"):
        return read_archive(labels, corpus.labels, corpus.archive_labels or (), validation).assign(path="")
    return read_labels(labels, corpus.labels).assign(path="")


def _speaker(name: str, pattern: str) -> str:
    found = re.search(pattern, name)
    if not found or not found[0]:
        raise InputError(f"corpus.speaker_in_name {pattern!r} finds nothing in the name of clip {name!r}")
    return found[0]
