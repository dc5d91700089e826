"""The branches' parameters side by side, so that one operation serves all branches.

With some clips a batch, the number of operations costs more than their arithmetic.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional as F


def weights(layers: Sequence[nn.Linear], width: int, branches: int) -> Tensor:
    """The layers' weights, a branch's below each other: (branches, rows of a branch, width).

    Narrower ones end in columns of zeros.
    """
    rows = [
        layer.weight if layer.in_features == width else F.pad(layer.weight, (0, width - layer.in_features))
        for layer in layers
    ]
    return torch.cat(rows).view(branches, -1, width)


def biases(layers: Sequence[nn.Linear], branches: int) -> Tensor:
    """The layers' biases, a branch's behind each other: (branches, rows of a branch)."""
    return torch.cat([layer.bias for layer in layers]).view(branches, -1)
