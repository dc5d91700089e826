"""RAVDESS as it can be downloaded: `Actor_01/01-01-03-01-01-01-01.mp4`, the name saying all.

The seven fields: modality (01 sound and picture, 02 picture, 03 sound), channel (01 speech, 02 song), emotion,
intensity, statement, repetition, actor.
"""

import re

from mer_pnao.corpus.readers.official_names import Naming, Take

EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
INTENSITIES = ("normal", "strong")
_NAME = re.compile(r"(0[1-3])-(0[12])-(0[1-8])-(0[12])-0[12]-0[12]-(0[1-9]|1\d|2[0-4])")


def parse(name: str) -> Take | None:
    """What a file's name says; None for song and what lacks sound or picture. Raises ValueError for another name."""
    fields = _NAME.fullmatch(name)
    if fields is None:
        raise ValueError(f"{name!r} is not a name of RAVDESS, seven numbers such as 01-01-03-01-01-01-01")
    modality, channel, emotion, intensity, actor = fields.groups()
    if (modality, channel) != ("01", "01"):
        return None
    return Take(EMOTIONS[int(emotion) - 1], INTENSITIES[int(intensity) - 1], f"actor{actor}")


RAVDESS = Naming(parse, EMOTIONS, INTENSITIES)  # no official split
