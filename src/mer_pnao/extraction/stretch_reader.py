"""What the encoders take of a recording, stretch by stretch: its sound, and the faces in some of its frames.

Needs no deep-learning library, as `clip_reader` does not.

Legend of shapes: n frames of a stretch, S the side of a face crop. Times are numbers of samples at 16 kHz.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, reasons
from mer_pnao.media.face_reader import face_reader
from mer_pnao.media.faces import FacePath, cut_along, follow_face
from mer_pnao.media.recording import Sampling, Stretch, stretches


@dataclass(frozen=True)
class StretchFaces:
    """The face crops of a stretch for one encoder, as those of the clip cut out there."""

    crops: NDArray[np.uint8]  # (n, S, S, 3)
    times: NDArray[np.float64]  # (n, 2): each frame's, see `Film`
    seen: NDArray[np.float64]  # (n,): 1 a face, 0 none, NaN not searched
    whole_frame: bool  # no face was found, and the crops are the whole frames


@dataclass(frozen=True)
class DecodedStretch:
    """What the encoders take of a stretch."""

    start: int
    end: int
    sound: NDArray[np.float32]  # mono at 16 kHz, full scale 1; ends before the stretch where the recording's sound does
    faces: Mapping[str, StretchFaces]  # by the encoder's name
    remarks: tuple[str, ...]
    reason: str = ""  # why its pictures cannot be used, as a ClipError has it; then there are no faces


class StretchReader:
    """Reads recordings for the encoders of these plans.

    The paths of a face detector are relative to root. Raises InputError for crops that lie ready, since those of a
    recording do not, for encoders that take a clip in different ways, and as `face_reader` does.
    """

    def __init__(self, plans: Mapping[str, DecodingPlan], root: Path = Path()) -> None:
        self._plans = {name: plan for name, plan in plans.items() if plan.kind == "faces"}
        shared = {replace(plan.limits, memory_mb=MediaLimits.memory_mb) for plan in plans.values()}
        if any(limits.crops for limits in shared):
            raise InputError("its faces come from ready crops, and a recording has none: cut it into clips")
        if len(shared) != 1:
            raise InputError("its encoders were run with different values of media, so that no recording suits all")
        self.limits = next(iter(plans.values())).limits
        self._samplings = {name: Sampling(plan.frames, plan.per_second) for name, plan in self._plans.items()}
        self._detectors = face_reader(self.limits, root).detectors

    def read(self, path: Path, length: int) -> Iterator[Stretch]:
        """The stretches of a recording; raises what `stretches` does."""
        return stretches(path, length, tuple(dict.fromkeys(self._samplings.values())), self.limits)

    def find_faces(self, stretch: Stretch) -> DecodedStretch:
        """Search each frame once, whichever encoders see it, and cut the face out.

        Called from several threads.
        """
        try:
            with reasons():
                paths = {
                    sampling: follow_face(film.frames, self._detectors) if film.frames else FacePath(None, 0.0)
                    for sampling, film in stretch.films.items()
                }
                faces = {name: self._cut(stretch, name, paths[sampling]) for name, sampling in self._samplings.items()}
        except ClipError as error:
            return DecodedStretch(stretch.start, stretch.end, stretch.sound, {}, stretch.remarks, str(error))
        most = max((path.faces for path in paths.values()), default=0)
        several = (f"{most} faces were seen in it, of which the largest was followed",) if most > 1 else ()
        return DecodedStretch(stretch.start, stretch.end, stretch.sound, faces, (*stretch.remarks, *several))

    def _cut(self, stretch: Stretch, name: str, path: FacePath) -> StretchFaces:
        film, size = stretch.films[self._samplings[name]], self._plans[name].crop_side
        crops = np.array(list(cut_along(film.frames, path, size)), np.uint8).reshape(-1, size, size, 3)
        times = np.array(film.times, np.float64).reshape(-1, 2)
        known = [path.seen.get(number, np.nan) for number in range(len(film.frames))]
        seen = np.minimum(np.array(known, np.float64), 1)
        return StretchFaces(crops, times, seen, path.boxes is None)
