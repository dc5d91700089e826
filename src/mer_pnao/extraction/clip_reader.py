"""What an encoder takes of a clip: its sound, the faces in some of its frames, or its words.

Needs no deep-learning library, so that a process that only decodes is small and starts at once.

Legend of shapes: n frames of a clip, S the side of a face crop.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from numpy.typing import NDArray

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.corruption import ClipCorruption
from mer_pnao.media.decode import read_sound
from mer_pnao.media.face_reader import OnDemand, face_reader


@dataclass(frozen=True)
class DecodedClip:
    """What an encoder takes of a clip: a waveform (samples,), words, or face crops (n, S, S, 3), some cut on demand."""

    content: NDArray[Any] | OnDemand | str
    whole_frame: bool = False  # no face was found, and the crops are the whole frames
    face_share: float | None = None  # of the searched frames, those with a face; of images only
    remarks: tuple[str, ...] = ()  # that only a part of the clip is used, as sentences without a full stop


@dataclass(frozen=True)
class DecodingPlan:
    """All that decoding for an encoder depends on beside the clip, as plain values."""

    kind: Literal["sound", "faces"]
    limits: MediaLimits
    frames: int = 0  # of faces only: how many of a clip at most
    crop_side: int = 0  # of faces only, in pixels
    per_second: float = 0.0  # of faces only: as many as that, within `frames`; 0: `frames` of every clip


class ClipReader:
    """Reads clips for one encoder; called from several threads. Takes and raises what `face_reader` does."""

    def __init__(self, plan: DecodingPlan, root: Path = Path(), threads: int = 1, batch: int = 1) -> None:
        self.plan = plan
        self._faces = face_reader(plan.limits, root, threads, batch) if plan.kind == "faces" else None

    def __call__(self, path: Path, corruption: ClipCorruption | None = None) -> DecodedClip:
        """Raises ClipError with the reason for a useless clip."""
        return self.in_sizes(path, [self.plan.crop_side], corruption)[0]

    def in_sizes(
        self, path: Path, sides: Collection[int], corruption: ClipCorruption | None = None
    ) -> list[DecodedClip]:
        """As a call for each of these sides of a face crop (of sound nothing depends on them), from one pass."""
        remarks: list[str] = []
        if self._faces is None:
            waveform = read_sound(path, self.plan.limits, remarks.append)
            content = waveform if corruption is None else corruption.of_sound(waveform)
            return [DecodedClip(content, remarks=tuple(remarks))] * len(sides)
        blur = None if corruption is None else corruption.of_frame
        cut = self._faces.in_sizes(path, self.plan.frames, sides, blur, self.plan.per_second, remarks.append)
        return [DecodedClip(faces.crops, faces.share == 0, faces.share, tuple(remarks)) for faces in cut]


class SharedReader:
    """Reads clips for several encoders; those that differ by the side of a crop alone share a pass over the file.

    Raises InputError as `ClipReader` does.
    """

    def __init__(self, plans: Mapping[str, DecodingPlan], root: Path = Path()) -> None:
        self._names = tuple(plans)
        self._sides: dict[DecodingPlan, dict[str, int]] = {}  # what encoders share -> encoder -> side
        for name, plan in plans.items():
            self._sides.setdefault(replace(plan, crop_side=0), {})[name] = plan.crop_side
        self._readers = {shared: ClipReader(shared, root) for shared in self._sides}

    def __call__(self, path: Path) -> dict[str, DecodedClip]:
        """What each encoder takes of a clip, in order of the plans. Raises ClipError where it is useless."""
        contents: dict[str, DecodedClip] = {}
        for shared, sides in self._sides.items():
            read = self._readers[shared].in_sizes(path, sides.values())
            contents |= zip(sides, read, strict=True)
        return {name: contents[name] for name in self._names}
