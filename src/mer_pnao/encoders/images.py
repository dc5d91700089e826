"""What the image encoders share: how they are run, and how face crops are resized for them.

Legend of shapes: B images, D the width of an embedding.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F


class ImageNetwork(NamedTuple):
    """A loaded network in evaluation mode, with its own preparation of images."""

    module: nn.Module
    preprocess: Callable[[NDArray[np.uint8]], Tensor]  # (B, H, W, 3) uint8 RGB -> (B, 3, side, side) float32
    embed: Callable[[Tensor], Tensor]  # of that -> (B, D)
    crop_side: int  # of the images that it is best given
    width: int  # D


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """(B, H, W, 3) uint8 RGB -> (B, 3, *size) float32 in [0, 255], bilinear with a low-pass filter where it shrinks.

    Raises ValueError for images of another shape or type.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (B, H, W, 3) uint8, not {images.shape} {images.dtype}")
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if tensor.shape[-2:] == size:
        return tensor
    return F.interpolate(tensor, size=size, mode="bilinear", antialias=True)
