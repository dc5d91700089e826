"""MER 2024, 2025 and 2026 (Track 1) as they are released: folders of videos, of which CSV files name the used ones."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import CorpusError, checked, faults_of, read_csv, read_labels
from mer_pnao.corpus.readers.labelled_folder import clips_in, with_paths
from mer_pnao.corpus.readers.splits import CANDIDATES
from mer_pnao.foundations.errors import InputError


@dataclass(frozen=True)
class Release:
    """Where a year's release has what."""

    train: str  # label CSV of the training clips
    train_videos: str  # their folder
    candidates: str  # CSV of the names to predict
    videos: str  # the folder of these, and of many that no list names
    tests: Mapping[str, str]  # label CSVs that came out afterwards, and their splits here


RELEASES = {
    "mer2024": Release(
        "label-disdim.csv",
        "video-labeled",
        "candidate_20000.csv",
        "video-unlabeled-with-test2noise",
        {"reference-semi.csv": "test", "reference-noise.csv": "noise"},
    ),
    "mer2025": Release(
        "track1_train_disdim.csv", "video", "track_all_candidates.csv", "video", {"track1_test_dis.csv": "test"}
    ),
    "mer2026": Release(
        "track1_train.csv", "video", "track1_track2_candidate.csv", "video", {"track1_test.csv": "test"}
    ),
}


def read_track1(root: Path, labels: Sequence[str], year: str) -> pd.DataFrame:
    """The clips that a year's CSV files name, wherever below the year's folder of videos; all others are left alone.

    The lists of candidates and of labels that came out afterwards may be absent. Candidates are a further split without
    labels; those with a label are the year's test clips. While there are no labels for the split test, train's clips
    come without a split, to be divided into train and test.

    Raises CorpusError naming file and row for what `read_labels` and `checked` refuse and each listed clip that is not
    there, and InputError for a clip in two parts.
    """
    release = RELEASES[year]
    tests = {file: split for file, split in release.tests.items() if (root / file).exists()}
    labelled = {release.train: "train" if "test" in tests.values() else "", **tests}
    parts, faults = list[pd.DataFrame](), list[str]()
    found = cache(lambda folder: clips_in(root / folder))  # a hundred thousand files, wanted for each list
    for file in (*labelled, release.candidates):
        source, folder = root / file, release.train_videos if file == release.train else release.videos
        try:
            if file in labelled:
                table = read_labels(source, labels, labelled[file])
            elif source.exists():
                table = _read_names(source)
            else:
                continue
            parts.append(with_paths(table, root, root / folder, source, clips=found(folder)))
        except InputError as error:
            faults += faults_of(error)
    if faults:
        raise CorpusError(faults)
    table = pd.concat(parts, ignore_index=True)
    answered = table.loc[table["split"].isin(tests.values()), "name"]
    table = table[~((table["split"] == CANDIDATES) & table["name"].isin(answered))]
    if (twice := table["name"].duplicated()).any():
        raise InputError(f"{root} names clip {table.loc[twice, 'name'].iloc[0]!r} in two of its lists")
    return table.reset_index(drop=True)


def _read_names(source: Path) -> pd.DataFrame:
    """The candidates of a list; whatever it has in place of labels is left alone."""
    table = read_csv(source)
    if "name" not in table:
        raise InputError(f"{source} has no column 'name', only {', '.join(map(repr, table.columns))}")
    if table.empty:
        raise InputError(f"{source} lists no clip")
    names = pd.DataFrame({"name": table["name"], "discrete": "", "valence": "", "speaker": "", "split": CANDIDATES})
    return checked(names, source, ())
