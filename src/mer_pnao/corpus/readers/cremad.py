"""CREMA-D as it can be downloaded: `VideoFlash/1001_DFA_ANG_XX.flv`, the name says actor, emotion and level."""

import re

from mer_pnao.corpus.readers.official_names import Naming, Take

EMOTIONS = {"ANG": "angry", "DIS": "disgust", "FEA": "fearful", "HAP": "happy", "NEU": "neutral", "SAD": "sad"}
INTENSITIES = {"LO": "low", "MD": "medium", "HI": "high", "XX": "unspecified"}
_NAME = re.compile(rf"(1\d\d\d)_[A-Z]{{3}}_({'|'.join(EMOTIONS)})_({'|'.join(INTENSITIES)})")


def parse(name: str) -> Take:
    """What a file's name says. Raises ValueError for a name of another form."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name!r} is not a name of CREMA-D, such as 1001_DFA_ANG_XX")
    actor, emotion, level = fields.groups()
    return Take(EMOTIONS[emotion], INTENSITIES[level], f"actor{actor}")


CREMAD = Naming(parse, tuple(EMOTIONS.values()), tuple(INTENSITIES.values()))  # no official split
