"""What the two image encoders share in preparing face crops."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F


def resize(images: NDArray[np.uint8], size: tuple[int, int]) -> Tensor:
    """Images as a float tensor of the given height and width, values kept in [0, 255].

    Args:
        images: (B, H, W, 3) uint8 RGB.
        size: height and width of the result.

    Returns:
        (B, 3, height, width) float32, bilinear with a low-pass filter where it shrinks.

    Raises:
        ValueError: the images have another shape or type.
    """
    if images.ndim != 4 or images.shape[-1] != 3 or images.dtype != np.uint8:
        raise ValueError(f"images must be (B, H, W, 3) uint8, not {images.shape} {images.dtype}")
    tensor = torch.from_numpy(images).permute(0, 3, 1, 2).float()
    if tensor.shape[-2:] == size:
        return tensor
    return F.interpolate(tensor, size=size, mode="bilinear", antialias=True)
