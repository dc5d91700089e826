"""Ready face crops, as MERTools keeps them: OpenFace's images of a clip, or one array of them."""

import unicodedata
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.foundations.files import composed
from mer_pnao.media.container import ClipError, reasons
from mer_pnao.media.faces import squared

_IMAGES = (".bmp", ".png", ".jpg", ".jpeg")


def read_crops(folder: Path, name: str) -> NDArray[np.uint8] | list[Path]:
    """The crops of a clip, as what `crops_one_by_one` takes; empty when its folder is, for no face was found then.

    Looked for, in this order: `<name>/<name>.npy`, `<name>.npy`, the images of `<name>/` and those of OpenFace's
    `<name>_aligned/`, in the order of their names. An array is (n, H, W, 3) uint8 BGR, and stays on the disk.

    Raises ClipError for an array of another shape or type, or that is no plain array, or nothing of the clip at all.
    """
    # One system may spell an umlaut in another way than the one that the crops come from.
    for spelled in dict.fromkeys((name, composed(name), unicodedata.normalize("NFD", name))):
        for path in (folder / spelled / f"{spelled}.npy", folder / f"{spelled}.npy"):
            if path.is_file():
                return _mapped(path)
        for directory in (folder / spelled, folder / f"{spelled}_aligned"):
            if directory.is_dir():
                return sorted(path for path in directory.iterdir() if path.suffix.lower() in _IMAGES)
    raise ClipError(f"has no face crops: {folder} holds neither {name}/ nor {name}.npy nor {name}_aligned/")


def crops_one_by_one(
    crops: NDArray[np.uint8] | list[Path], numbers: list[int], size: int
) -> Iterator[NDArray[np.uint8]]:
    """Some of a clip's crops, each (size, size, 3) uint8 RGB. Raises ClipError for one that is no readable image."""
    for number in numbers:
        crop = crops[number]
        image = _image(crop) if isinstance(crop, Path) else np.asarray(crop)
        with reasons():
            resized = squared(cv2.cvtColor(image, cv2.COLOR_BGR2RGB), size)
        yield resized


def _mapped(path: Path) -> NDArray[np.uint8]:
    try:
        crops: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, OSError, EOFError) as error:
        raise ClipError(f"has face crops that are no plain array ({path.name})") from error
    if crops.ndim != 4 or crops.shape[-1] != 3 or crops.dtype != np.uint8 or 0 in crops.shape[1:]:
        raise ClipError(f"has face crops of {crops.dtype} {crops.shape}, not (n, H, W, 3) uint8 ({path.name})")
    return crops


def _image(path: Path) -> NDArray[np.uint8]:
    # Through numpy, for OpenCV's own reader knows no Unicode names on some platforms.
    with reasons():
        content = np.fromfile(path, np.uint8)
        image: NDArray[np.uint8] | None = cv2.imdecode(content, cv2.IMREAD_COLOR) if len(content) else None
    if image is None:
        raise ClipError(f"has a face crop that is no readable image ({path.name})")
    return image
