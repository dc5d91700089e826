"""Acted corpora whose file names say all: labels, speakers and intensities without any table."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import INTENSITY, CorpusError
from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.foundations.errors import InputError

Skip = Callable[[str, str], None]  # takes the path below root and the reason of a clip that is left out
_POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in each clip's place


def tell(path: str, reason: str) -> None:
    """Say on stderr that a clip is skipped."""
    print(f"{path} is skipped: {reason}", file=sys.stderr)


@dataclass(frozen=True)
class Take:
    """What a file's name says of its clip."""

    emotion: str
    intensity: str
    speaker: str


@dataclass(frozen=True)
class Naming:
    """A corpus's official names."""

    parse: Callable[[str], Take | None]  # None: a kind of recording that is left out; ValueError: another name
    emotions: Sequence[str]  # that the corpus has
    intensities: Sequence[str]


def read_takes(root: Path, naming: Naming, corpus: CorpusConfig, skip: Skip = tell) -> pd.DataFrame:
    """The clips anywhere below root with official names, those of the corpus's wanted emotions and intensities.

    `skip` is called with name and reason of each clip that has another name. Raises InputError for a wanted emotion or
    intensity that the corpus does not have, or no clip that is wanted, and CorpusError when more than the share
    `max_skipped` is misnamed, and for what Git LFS has not fetched.
    """
    labels, intensities = corpus.labels, corpus.intensities
    wanted_of = (("labels", labels, naming.emotions), ("intensities", intensities, naming.intensities))
    for key, wanted, known in wanted_of:
        for word in wanted:
            if word not in known:
                raise InputError(f"corpus.{key} names {word!r}; this corpus has {', '.join(known)}")
    rows, misnamed = [], dict[Path, str]()
    for name, path in clips_in(root).items():
        try:
            take = naming.parse(name)
        except ValueError as error:
            misnamed[path] = str(error)
            continue
        if take and (not labels or take.emotion in labels) and (not intensities or take.intensity in intensities):
            place = path.relative_to(root).as_posix()
            rows.append((name, place, take.emotion, float("nan"), take.speaker, "", take.intensity))
    if len(misnamed) > corpus.max_skipped * (len(rows) + len(misnamed)):
        raise CorpusError([f"{path}: {reason}" for path, reason in misnamed.items()])
    for path, reason in misnamed.items():
        skip(path.relative_to(root).as_posix(), reason)
    if not rows:
        raise InputError(f"{root} holds no clip of the wanted kind, emotions and intensities")
    small = [root / place for _, place, *_ in rows if (root / place).stat().st_size <= 1024]
    if pointers := [path for path in small if path.read_bytes().startswith(_POINTER)]:
        raise CorpusError([f"{path} is a pointer and no clip: `git lfs pull` fetches it" for path in pointers])
    return pd.DataFrame(rows, columns=["name", "path", "discrete", "valence", "speaker", "split", INTENSITY])
