"""The face in a clip, cut out of its frames by a box that moves steadily."""

import statistics
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Detector:
    """One way of searching a clip's frames."""

    # (H, W, 3) uint8 RGB -> centre x, centre y and side of the largest face, in pixels of the frame, and how many faces
    # there are; None without one
    find: Callable[[NDArray[np.uint8]], NDArray[np.float64] | None]
    every: int = 1  # frame that is searched


Detectors = Sequence[Detector]  # the quickest first; the next has its turn where that one finds no face

_MARGIN = 0.15  # of the box on each side: the cascade's box cuts chin and brows
_WINDOW = 5  # detections of the running median: a wild one among them moves nothing
_SIZES = 1.5  # times the median side: what is larger or smaller than that is another face or none
LEAST_SHARE = 0.2  # of the searched frames: a face seen in fewer is a false alarm

_cascades = threading.local()


@dataclass(frozen=True)
class FacePath:
    """Where the face of a clip is: `boxes` (n, 3), centre x, centre y and side in pixels; None for no face.

    `share` is that of the searched frames with a face, 0 when too few have one; `seen` tells of each that was searched
    how many faces it has.
    """

    boxes: NDArray[np.float64] | None
    share: float
    seen: Mapping[int, int] = field(default_factory=dict)

    @property
    def faces(self) -> int:
        """How many faces the frames that have some usually have."""
        return statistics.median_low([count for count in self.seen.values() if count] or [0])


def follow_face(frames: Iterable[NDArray[np.uint8]], detectors: Detectors) -> FacePath:
    """Where the largest face is in each frame (H, W, 3).

    The box keeps one size over the clip, the median, and its centre follows a running median of what was found,
    interpolated where a frame shows no face or was not searched. The frames are gone through once for each detector
    that has its turn, and none is kept.
    """
    seen: dict[int, int] = {}
    for detector in detectors:
        count, seen = 0, {}
        found: dict[int, NDArray[np.float64]] = {}
        for count, frame in enumerate(frames, start=1):
            if (count - 1) % detector.every == 0:
                box = detector.find(frame)
                seen[count - 1] = 0 if box is None else int(box[3])
                if box is not None:
                    found[count - 1] = box
        if len(found) >= LEAST_SHARE * len(seen):
            return FacePath(_steady(found, count), len(found) / len(seen), seen)
    return FacePath(None, 0.0, seen)


def cut_along(frames: Iterable[NDArray[np.uint8]], path: FacePath, size: int) -> Iterator[NDArray[np.uint8]]:
    """The crops (size, size, 3) of the frames (H, W, 3) along a face's path; without a face the whole frames."""
    if path.boxes is None:
        for frame in frames:
            yield cv2.resize(frame, (size, size), interpolation=cv2.INTER_AREA)
    else:
        for frame, box in zip(frames, path.boxes, strict=True):
            yield _cut(frame, box, size)


def shrunk_to(image: NDArray[np.uint8], short_side: int) -> tuple[NDArray[np.uint8], float]:
    """The image with a short side of so many pixels at most, and the scale by which it was shrunk."""
    scale = min(1.0, short_side / min(image.shape[:2]))
    if scale < 1:
        image = cv2.resize(image, None, fx=scale, fy=scale, interpolation=cv2.INTER_AREA)
    return image, scale


def squared(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The image as (size, size, 3): averaged where it shrinks, interpolated where it grows."""
    method = cv2.INTER_AREA if min(image.shape[:2]) > size else cv2.INTER_LINEAR
    resized: NDArray[np.uint8] = cv2.resize(image, (size, size), interpolation=method)
    return resized


def largest(boxes: Sequence[Sequence[float]], scale: float) -> NDArray[np.float64] | None:
    """The largest of the boxes (left, top, width, height), as a `Detector` finds it in a frame shrunk by `scale`."""
    if len(boxes) == 0:
        return None
    x, y, width, height = max(boxes, key=lambda box: (box[2] * box[3], *box))
    return np.array([(x + width / 2) / scale, (y + height / 2) / scale, max(width, height) / scale, len(boxes)])


def _haar_face(
    frame: NDArray[np.uint8], short_side: int, step: float, smallest_share: float
) -> NDArray[np.float64] | None:
    """The largest face that the cascade sees in the frame (H, W, 3) shrunk to `short_side` pixels.

    `step` leads from one size of face to the next; a face has at least `smallest_share` of the short side.
    """
    grey, scale = shrunk_to(cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY), short_side)
    smallest = max(24, round(smallest_share * min(grey.shape)))  # 24: the cascade's own window
    found = _cascade().detectMultiScale(grey, scaleFactor=step, minNeighbors=4, minSize=(smallest, smallest))
    return largest(found, scale)


# Talking heads fill the picture, so that a quick search finds most; the thorough one costs twenty times as much
# and is for what is left.
HAAR: Detectors = (
    Detector(partial(_haar_face, short_side=120, step=1.15, smallest_share=0.3), every=2),
    Detector(partial(_haar_face, short_side=240, step=1.1, smallest_share=0.1)),
)


def _cascade() -> cv2.CascadeClassifier:
    """This thread's detector: one cannot be shared, and reading it takes longer than a clip."""
    if not hasattr(_cascades, "frontal"):
        cv2.setNumThreads(1)  # clips run side by side already
        path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_default.xml"
        _cascades.frontal = cv2.CascadeClassifier(str(path))
    cascade: cv2.CascadeClassifier = _cascades.frontal
    return cascade


def _steady(boxes: Mapping[int, NDArray[np.float64]], count: int) -> NDArray[np.float64]:
    """Some frames' boxes -> (count, 3) boxes of one side, their centres along a smooth path."""
    # The upper median, so that the side is one that was seen and some box is always like it.
    side = statistics.median_high(float(box[2]) for box in boxes.values())
    alike = {number: box for number, box in boxes.items() if side / _SIZES < box[2] < side * _SIZES}
    numbers, found = list(alike), np.stack(list(alike.values()))
    smooth = np.empty((len(found), 2))
    for i in range(len(found)):
        # As far back as ahead: a face that moves is not held back.
        reach = min(_WINDOW // 2, i, len(found) - 1 - i)
        smooth[i] = np.median(found[i - reach : i + reach + 1, :2], axis=0)
    centres = [np.interp(range(count), numbers, smooth[:, axis]) for axis in (0, 1)]
    return np.column_stack([*centres, np.full(count, side)])


def _cut(frame: NDArray[np.uint8], box: NDArray[np.float64], size: int) -> NDArray[np.uint8]:
    """The square around a face with its margin; beyond the frame's edge the edge is repeated."""
    x, y, face = box
    side = max(1, round(face * (1 + 2 * _MARGIN)))
    left, top = round(x - side / 2), round(y - side / 2)
    height, width = frame.shape[:2]
    rows = np.clip(np.arange(top, top + side), 0, height - 1)
    columns = np.clip(np.arange(left, left + side), 0, width - 1)
    return squared(frame[rows[:, None], columns], size)
