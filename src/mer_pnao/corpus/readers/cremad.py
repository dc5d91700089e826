"""CREMA-D as it can be downloaded: `VideoFlash/1001_DFA_ANG_XX.flv`, the name says actor, emotion and level."""

import re
from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import CorpusError
from mer_pnao.corpus.readers.official_names import Skip, Take, read_takes, tell

EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_NAME = re.compile(rf"(1\d\d\d)_[A-Z]{{3}}_({'|'.join(EMOTIONS)})_({'|'.join(INTENSITIES)})")
_POINTER = b"version https://git-lfs"  # what a clone without Git LFS has in each clip's place


def parse(name: str) -> Take:
    """What a file's name says. Raises ValueError for a name of another form."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name!r} is not a name of CREMA-D, such as 1001_DFA_ANG_XX")
    actor, emotion, level = fields.groups()
    return Take(EMOTIONS[emotion], INTENSITIES[level], f"actor{actor}")


def read_cremad(
    root: Path, labels: Sequence[str], intensities: Sequence[str] = (), max_skipped: float = 0.0, skip: Skip = tell
) -> pd.DataFrame:
    """The clips, as `read_takes` finds and refuses them; there is no official split.

    Raises CorpusError for what Git LFS has not fetched, too.
    """
    emotions, strengths = tuple(EMOTIONS.values()), tuple(INTENSITIES.values())
    table = read_takes(root, parse, emotions, labels, strengths, intensities, max_skipped=max_skipped, skip=skip)
    small = [path for path in table["path"] if (root / path).stat().st_size <= 1024]
    if missing := [path for path in small if (root / path).read_bytes().startswith(_POINTER)]:
        raise CorpusError([f"{root / path} is a pointer and no clip: `git lfs pull` fetches it" for path in missing])
    return table
