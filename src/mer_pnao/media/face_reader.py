"""The faces of a clip, from where the profile says: cut out by a detector, or ready."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import Say, check_clip, reasons
from mer_pnao.media.decode import choose_frames, count_frames, read_frames, shrunk
from mer_pnao.media.face_crops import crops_one_by_one, read_crops
from mer_pnao.media.faces import HAAR, Detectors, FacePath, cut_along, follow_face
from mer_pnao.media.yunet import yunet

Alteration = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # of a frame (H, W, 3), its shape kept


@dataclass(frozen=True)
class OnDemand:
    """Frames (H, W, 3) or crops (size, size, 3) of a clip, made anew each time that they are gone through."""

    count: int
    again: Callable[[], Iterator[NDArray[np.uint8]]]

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        return self.again()


@dataclass(frozen=True)
class ClipFaces:
    """Crops of a clip, held (n, size, size, 3) or cut on demand, and the share of searched frames with a face."""

    crops: NDArray[np.uint8] | OnDemand
    share: float  # 0: no face was found, and the crops are the whole frames


@dataclass(frozen=True)
class FaceReader:
    """Reads the faces of clips; called from several threads."""

    limits: MediaLimits
    detectors: Detectors = HAAR
    crops: Path | None = None  # folder of ready ones, see `face_crops`
    most_held: int = 2**28  # bytes of a clip's frames; one with more is decoded again for each pass over them
    most_crops: int = 2**25  # bytes of a clip's crops; one with more has them cut on demand

    def __call__(
        self,
        path: Path,
        count: int,
        size: int,
        alter: Alteration | None = None,
        per_second: float = 0.0,
        say: Say = lambda _: None,
    ) -> ClipFaces:
        """Crops of a clip's face, `size` pixels wide and high, of the frames that `choose_frames` chooses.

        Ready crops are taken as they are, without a detector, a margin or `alter`; their share is their number among
        the clip's frames. A clip without any is seen whole. Raises ClipError for a clip or crops that cannot be used.
        """
        return self.in_sizes(path, count, [size], alter, per_second, say)[0]

    def in_sizes(
        self,
        path: Path,
        count: int,
        sizes: Iterable[int],
        alter: Alteration | None = None,
        per_second: float = 0.0,
        say: Say = lambda _: None,
    ) -> list[ClipFaces]:
        """As a call for each of the sizes, from a clip that is decoded and searched once."""
        numbers = choose_frames(path, count, self.limits, per_second, say)

        def decoded() -> Iterator[NDArray[np.uint8]]:
            for frame in read_frames(path, numbers, self.limits):
                yield frame if alter is None else alter(frame)

        film = OnDemand(len(numbers), decoded)
        if self.crops is None:
            return self._searched(path, film, sizes)
        if len(ready := read_crops(self.crops, path.stem)):
            return [self._ready(path, film, ready, size) for size in sizes]
        return [self._cut(film, film, FacePath(None, 0.0), size) for size in sizes]

    def _searched(self, path: Path, film: OnDemand, sizes: Iterable[int]) -> list[ClipFaces]:
        """The faces that the detectors find."""
        header = check_clip(path, self.limits)
        width, height = shrunk(header.width, header.height, self.limits)
        frames = list(film) if len(film) * width * height * 3 <= self.most_held else film
        with reasons():
            face = follow_face(frames, self.detectors)
            return [self._cut(film, frames, face, size) for size in sizes]

    def _cut(self, film: OnDemand, frames: Iterable[NDArray[np.uint8]], face: FacePath, size: int) -> ClipFaces:
        """The crops along a face's path, of the film or of its frames that are held."""
        if len(film) * size * size * 3 > self.most_crops:
            return ClipFaces(OnDemand(len(film), lambda: cut_along(film, face, size)), face.share)
        return ClipFaces(np.stack(list(cut_along(frames, face, size))), face.share)

    def _ready(self, path: Path, film: OnDemand, ready: NDArray[np.uint8] | list[Path], size: int) -> ClipFaces:
        """Ready crops, evenly spread, no more than the film has frames."""
        kept = min(len(film), len(ready))
        chosen = [(2 * part + 1) * len(ready) // (2 * kept) for part in range(kept)]
        crops = OnDemand(kept, lambda: crops_one_by_one(ready, chosen, size))
        share = min(1.0, len(ready) / max(count_frames(path, self.limits), 1))
        return ClipFaces(crops if kept * size * size * 3 > self.most_crops else np.stack(list(crops)), share)


def face_reader(limits: MediaLimits, root: Path = Path(), threads: int = 1, batch: int = 1) -> FaceReader:
    """The reader that the profile asks for, of which several threads share the memory for decoded clips.

    The paths of a detector or of ready crops are relative to root; each thread decodes a batch of clips before it
    encodes them. Raises InputError where the detector or the folder of crops is absent, or the detector is none.
    """
    detectors = yunet(root / limits.detector) if limits.detector else HAAR
    crops = root / limits.crops if limits.crops else None
    if crops is not None and not crops.is_dir():
        raise InputError(f"{crops}: no such folder of face crops")
    half = limits.memory_mb * 2**19 // threads  # for the clip that is searched, the other half for the batch's crops
    return FaceReader(limits, detectors, crops, half, half // batch)
