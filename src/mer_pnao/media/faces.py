"""The face in a clip, cut out of its frames by a box that moves steadily."""

import threading
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class _Pass:
    """How a clip is searched: `side` is the short side that frames are shrunk to, in pixels."""

    side: int
    step: float  # from one size of face to the next
    smallest: float  # face, as a share of the short side


# Talking heads fill the picture, so that a quick look finds most; the thorough one costs ten times as much
# and is for what is left.
_PASSES = (_Pass(side=120, step=1.15, smallest=0.3), _Pass(side=240, step=1.1, smallest=0.1))
_MARGIN = 0.15  # of the box on each side: the cascade's box cuts chin and brows
_WINDOW = 5  # frames of the running median: one wild detection in the window moves nothing
_LEAST_SHARE = 0.2  # of the frames: a face seen in fewer is a false alarm

_cascades = threading.local()


@dataclass(frozen=True)
class FaceCrops:
    """Crops of a clip: `crops` (n, size, size, 3) uint8 RGB, and the share of frames with a face found.

    A share of 0 says that no face was found and that the crops are the whole frames.
    """

    crops: NDArray[np.uint8]
    share: float


def crop_faces(frames: NDArray[np.uint8], size: int) -> FaceCrops:
    """Cuts the largest face out of each frame.

    The box keeps one size over the clip, the median, and its centre follows a running median; where a frame
    shows no face, the centre is interpolated between its neighbours.

    Args:
        frames: (n, H, W, 3) uint8 RGB of one clip, in order.
        size: side of the crops in pixels.

    Raises:
        ValueError: frames of another shape or type, or none.
    """
    if frames.ndim != 4 or frames.shape[-1] != 3 or frames.dtype != np.uint8 or len(frames) == 0:
        raise ValueError(f"frames must be (n, H, W, 3) uint8, not {frames.shape} {frames.dtype}")
    boxes, found = _search(frames)
    share = float(found.mean())
    if share < _LEAST_SHARE:
        whole = [cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA) for frame in frames]
        return FaceCrops(np.stack(whole), 0.0)
    crops = [_cut(frame, box, size) for frame, box in zip(frames, _steady(boxes, found), strict=True)]
    return FaceCrops(np.stack(crops), share)


def _search(frames: NDArray[np.uint8]) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    """Boxes (n, 3), NaN where there is no face, and which frames have one (n,)."""
    for look in _PASSES:
        boxes = np.stack([_largest_face(frame, look) for frame in frames])
        found = ~np.isnan(boxes[:, 0])
        if found.mean() >= _LEAST_SHARE:
            break
    return boxes, found


def _largest_face(frame: NDArray[np.uint8], look: _Pass) -> NDArray[np.float64]:
    """Centre x, centre y and side of the largest face in pixels of the frame; all NaN without one."""
    grey = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
    scale = min(1.0, look.side / min(grey.shape))
    if scale < 1:
        grey = cv2.resize(grey, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    smallest = max(24, round(look.smallest * min(grey.shape)))  # 24: the cascade's own window
    found = _cascade().detectMultiScale(
        grey, scaleFactor=look.step, minNeighbors=4, minSize=(smallest, smallest)
    )
    if len(found) == 0:
        return np.full(3, np.nan)
    x, y, width, height = max(found, key=lambda box: (box[2] * box[3], *box))
    box: NDArray[np.float64] = np.array([x + width / 2, y + height / 2, max(width, height)]) / scale
    return box


def _cascade() -> cv2.CascadeClassifier:
    """This thread's detector: one cannot be shared, and reading it takes longer than a clip."""
    if not hasattr(_cascades, "frontal"):
        cv2.setNumThreads(1)  # clips run side by side already
        path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        _cascades.frontal = cv2.CascadeClassifier(str(path))
    cascade: cv2.CascadeClassifier = _cascades.frontal
    return cascade


def _steady(boxes: NDArray[np.float64], found: NDArray[np.bool_]) -> NDArray[np.float64]:
    """(n, 3) boxes with gaps -> (n, 3) boxes of one side along a smooth path."""
    frames = np.arange(len(boxes))
    side = np.median(boxes[found, 2])
    path = np.stack([np.interp(frames, frames[found], boxes[found, axis]) for axis in (0, 1)], axis=1)
    reach = _WINDOW // 2
    smooth = [np.median(path[max(0, i - reach) : i + reach + 1], axis=0) for i in frames]
    return np.column_stack([np.stack(smooth), np.full(len(boxes), side)])


def _cut(frame: NDArray[np.uint8], box: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The square around a face with its margin; beyond the frame's edge the edge is repeated."""
    x, y, face = box
    side = max(1, round(face * (1 + 2 * _MARGIN)))
    left, top = round(x - side / 2), round(y - side / 2)
    height, width = frame.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    crop = frame[rows[:, None], columns]
    method = cv2.INTER_AREA if side > size else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(crop, (size, size), interpolation=method)
    return resized
