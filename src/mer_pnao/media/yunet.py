"""Faces by YuNet, a small network that sees turned and tilted heads which the cascade misses."""

import threading
from functools import partial
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.faces import Detector, Detectors, largest, shrunk_to

_SHORT_SIDE = 240  # pixels that frames are shrunk to: a face that fills more than a few hundred is missed
_LEAST_SCORE = 0.9  # the library's own default

_detectors = threading.local()


def yunet(path: Path) -> Detectors:
    """The detector of an ONNX file, for `follow_face`. Raises InputError for one that is absent or no YuNet model."""
    if not path.is_file():
        raise InputError(f"{path}: no such face detector")
    try:
        _largest_face(np.zeros((64, 64, 3), np.uint8), path)
    except cv2.error as error:
        raise InputError(f"{path} is not a YuNet model in ONNX") from error
    return (Detector(partial(_largest_face, path=path)),)


def _largest_face(frame: NDArray[np.uint8], path: Path) -> NDArray[np.float64] | None:
    small, scale = shrunk_to(frame, _SHORT_SIDE)
    detector = _detector(path)
    detector.setInputSize((small.shape[1], small.shape[0]))
    _, found = detector.detect(cv2.cvtColor(small, cv2.COLOR_RGB2BGR))
    return None if found is None else largest(found[:, :4].tolist(), scale)


def _detector(path: Path) -> cv2.FaceDetectorYN:
    """This thread's network: one cannot be shared."""
    known: dict[Path, cv2.FaceDetectorYN] = _detectors.__dict__.setdefault("by_path", {})
    if path not in known:
        cv2.setNumThreads(1)  # clips run side by side already
        known[path] = cv2.FaceDetectorYN.create(str(path), "", (64, 64), _LEAST_SCORE)
    return known[path]
