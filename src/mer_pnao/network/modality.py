"""The perceptrons that map each feature set to h_m, one for every pair of a branch and a set that it reads.

Shapes: B clips, H' and D' nodes that the inner and the outer layer have left.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

OUTPUTS = ("relu", "linear")

Reader = tuple[str, str]  # a branch and a feature set that it reads


class ModalityMLP(nn.Module):
    """h_m = out(W_2 dropout(ReLU(W_1 f_m))), the two prunable layers of one modality; see `modality_vectors`.

    A node whose row and bias are zero is exactly zero behind either output, so that removing it changes nothing.
    `inner_kept` (H') and `outer_kept` (D') are the nodes' indices in the dense network; a dense one keeps all.
    """

    inner_kept: Tensor
    outer_kept: Tensor

    def __init__(self, inputs: int, inner_kept: Tensor, outer_kept: Tensor) -> None:
        super().__init__()
        self.inner = nn.Linear(inputs, len(inner_kept))
        self.outer = nn.Linear(len(inner_kept), len(outer_kept))
        self.register_buffer("inner_kept", inner_kept.clone())
        self.register_buffer("outer_kept", outer_kept.clone())


def modality_vectors(
    mlps: Mapping[Reader, ModalityMLP], features: Mapping[str, Tensor], dropout: float, output: str
) -> Tensor:
    """The h_m of all readers side by side, (B, sum of D'), from the features (B, width) of their sets.

    `dropout` is 0 outside of training; `output` is what the last layer ends in, `relu` or `linear`.

    The first layers, which hold most of the weights, compute in the features' own number type: given bfloat16 features
    they multiply in bfloat16, with float32 weights, and everything after them is float32.

    What is done to every node alike is done to the nodes of all readers at once: at this size the number of operations
    costs as much as the arithmetic.
    """
    readers = list(mlps.values())
    products = [F.linear(features[name], _weight_for(mlp, features[name])) for (_, name), mlp in mlps.items()]
    inner = drop(_with_biases(products, [mlp.inner for mlp in readers]).relu(), dropout)
    parts = torch.split(inner, [mlp.inner.out_features for mlp in readers], dim=1)
    products = [F.linear(part, mlp.outer.weight) for part, mlp in zip(parts, readers, strict=True)]
    sums = _with_biases(products, [mlp.outer for mlp in readers])
    return drop(sums.relu() if output == "relu" else sums, dropout)


def drop(nodes: Tensor, share: float) -> Tensor:
    """Dropout: zero each value with the probability `share`, scale the others by 1 / (1 - share).

    Sixteen of NumPy's random bits decide about a value, seeded from torch's generator: the probability is a multiple of
    2^-16, and they cost a sixth of torch's own draws.
    """
    if share == 0:
        return nodes
    seed = int(torch.empty((), dtype=torch.int64).random_())
    words: NDArray[np.uint64] = np.random.SFC64(seed).random_raw(-(-nodes.numel() // 4))
    kept = words.view(np.uint16)[: nodes.numel()] >= round(share * 2**16)
    scale = np.multiply(kept, 1 / (1 - share), dtype=np.float32 if nodes.dtype == torch.float32 else np.float64)
    return nodes * torch.from_numpy(scale).view_as(nodes).to(nodes)


def _weight_for(mlp: ModalityMLP, features: Tensor) -> Tensor:
    """The first layer's weight in the number type of the features."""
    return mlp.inner.weight.to(features.dtype)


def _with_biases(products: Sequence[Tensor], layers: Sequence[nn.Linear]) -> Tensor:
    """The layers' products side by side, (B, sum of their rows), plus their biases and in the type of these."""
    biases = torch.cat([layer.bias for layer in layers])
    return torch.cat(list(products), dim=1).to(biases.dtype) + biases
