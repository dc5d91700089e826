"""The faces of a clip, from where the profile says: cut out by a detector, or ready."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from mer_pnao.errors import InputError
from mer_pnao.media.decode import MediaLimits, count_frames, decode_frames, reasons
from mer_pnao.media.face_crops import crops_as_rgb, read_crops
from mer_pnao.media.faces import HAAR, FaceCrops, FaceFinder, crop_faces, whole_frames
from mer_pnao.media.yunet import yunet

Alteration = Callable[[NDArray[np.uint8]], NDArray[np.uint8]]  # of frames (n, H, W, 3), their shape kept


@dataclass(frozen=True)
class FaceReader:
    """Reads the faces of clips; called from several threads."""

    limits: MediaLimits
    finder: FaceFinder = HAAR
    crops: Path | None = None  # folder of ready ones, see `face_crops`

    def __call__(self, path: Path, count: int, size: int, alter: Alteration | None = None) -> FaceCrops:
        """Up to `count` crops of a clip's face, `size` pixels wide and high, spread evenly.

        Ready crops are taken as they are, without a detector, a margin or `alter`; their share is their number among
        the clip's frames. A clip without any is seen whole.

        Raises:
            ClipError: a clip or crops that cannot be used.
        """
        if self.crops is None:
            frames = decode_frames(path, count, self.limits)
            with reasons():
                return crop_faces(frames if alter is None else alter(frames), size, self.finder)
        total = count_frames(path, self.limits)
        ready = read_crops(self.crops, path.stem)
        if not len(ready):
            return whole_frames(decode_frames(path, count, self.limits), size)
        kept = min(count, len(ready))
        numbers = [(2 * part + 1) * len(ready) // (2 * kept) for part in range(kept)]
        return FaceCrops(crops_as_rgb(ready, numbers, size), min(1.0, len(ready) / max(total, 1)))


def face_reader(limits: MediaLimits, root: Path = Path()) -> FaceReader:
    """The reader that the profile asks for.

    Args:
        limits: what a clip may be, and the paths of a detector or of ready crops.
        root: what those paths are relative to.

    Raises:
        InputError: the detector or the folder of crops is absent, or the detector is none.
    """
    finder = yunet(root / limits.detector) if limits.detector else HAAR
    crops = root / limits.crops if limits.crops else None
    if crops is not None and not crops.is_dir():
        raise InputError(f"{crops}: no such folder of face crops")
    return FaceReader(limits, finder, crops)
