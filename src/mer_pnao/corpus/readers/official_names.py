"""Acted corpora whose file names say all: labels, speakers and intensities without any table."""

import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import INTENSITY, CorpusError
from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.foundations.errors import InputError

Skip = Callable[[str, str], None]  # takes the path below root and the reason of a clip that is left out


def tell(path: str, reason: str) -> None:
    """Say on stderr that a clip is skipped."""
    print(f"{path} is skipped: {reason}", file=sys.stderr)


@dataclass(frozen=True)
class Take:
    """What a file's name says of its clip."""

    emotion: str
    intensity: str
    speaker: str


def read_takes(
    root: Path,
    parse: Callable[[str], Take | None],
    emotions: Sequence[str],
    labels: Sequence[str],
    strengths: Sequence[str],
    intensities: Sequence[str],
    max_skipped: float = 0.0,
    skip: Skip = tell,
) -> pd.DataFrame:
    """The clips anywhere below root whose names `parse` takes, those of the wanted emotions and intensities.

    `parse` gives None for a kind of recording that is left out. The corpus has the `emotions` and `strengths`, of which
    `labels` and `intensities` are wanted; none: all. `skip` is called with name and reason of each clip whose name is
    not an official one. Raises InputError for a wanted emotion or intensity that the corpus does not have, or no clip
    that is wanted, and CorpusError when more than the share `max_skipped` is misnamed.
    """
    for key, wanted, known in (("labels", labels, emotions), ("intensities", intensities, strengths)):
        for word in wanted:
            if word not in known:
                raise InputError(f"corpus.{key} names {word!r}; this corpus has {', '.join(known)}")
    rows, misnamed = [], dict[Path, str]()
    for name, path in clips_in(root).items():
        try:
            take = parse(name)
        except ValueError as error:
            misnamed[path] = str(error)
            continue
        if take and (not labels or take.emotion in labels) and (not intensities or take.intensity in intensities):
            place = path.relative_to(root).as_posix()
            rows.append((name, place, take.emotion, float("nan"), take.speaker, "", take.intensity))
    if len(misnamed) > max_skipped * (len(rows) + len(misnamed)):
        raise CorpusError([f"{path}: {reason}" for path, reason in misnamed.items()])
    for path, reason in misnamed.items():
        skip(path.relative_to(root).as_posix(), reason)
    if not rows:
        raise InputError(f"{root} holds no clip of the wanted kind, emotions and intensities")
    return pd.DataFrame(rows, columns=["name", "path", "discrete", "valence", "speaker", "split", INTENSITY])
