"""Acted corpora whose file names say all: labels, speakers and intensities without any table."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import INTENSITY, CorpusError
from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.foundations.errors import InputError


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
) -> pd.DataFrame:
    """The clips anywhere below root whose names `parse` takes, those of the wanted emotions and intensities.

    `parse` gives None for a kind of recording that is left out. The corpus has the `emotions` and `strengths`, of which
    `labels` and `intensities` are wanted; none: all. Raises InputError for a wanted one that the corpus does not have,
    a name that is not an official one, or no clip that is wanted.
    """
    for key, wanted, known in (("labels", labels, emotions), ("intensities", intensities, strengths)):
        for word in wanted:
            if word not in known:
                raise InputError(f"corpus.{key} names {word!r}; this corpus has {', '.join(known)}")
    rows, faults = [], []
    for name, path in clips_in(root).items():
        try:
            take = parse(name)
        except ValueError as error:
            faults.append(f"{path}: {error}")
            continue
        if take and (not labels or take.emotion in labels) and (not intensities or take.intensity in intensities):
            place = path.relative_to(root).as_posix()
            rows.append((name, place, take.emotion, float("nan"), take.speaker, "", take.intensity))
    if faults:
        raise CorpusError(faults)
    if not rows:
        raise InputError(f"{root} holds no clip of the wanted kind, emotions and intensities")
    return pd.DataFrame(rows, columns=["name", "path", "discrete", "valence", "speaker", "split", INTENSITY])
