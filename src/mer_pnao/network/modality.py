"""The perceptrons that map each feature set to h_m, one for every pair of a branch and a set that it reads.

Shapes: B clips, H' and D' nodes that the inner and the outer layer have left.
"""

from collections.abc import Mapping

import torch
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
) -> dict[Reader, Tensor]:
    """Every reader's h_m (B, D') from the features (B, width) of its set.

    `dropout` is 0 outside of training; `output` is what the last layer ends in, `relu` or `linear`.

    The first layers, which hold most of the weights, compute in the features' own number type: given bfloat16 features
    they multiply in bfloat16, with float32 weights, and everything after them is float32.

    What is done to every node alike is done to the nodes of all readers at once: at this size the number of operations
    costs as much as the arithmetic.
    """
    sums = torch.cat([_product(mlp.inner, features[name]) for (_, name), mlp in mlps.items()], dim=1)
    inner = drop(sums.relu(), dropout)
    parts = torch.split(inner, [mlp.inner.out_features for mlp in mlps.values()], dim=1)
    sums = torch.cat([mlp.outer(part) for mlp, part in zip(mlps.values(), parts, strict=True)], dim=1)
    outer = drop(sums.relu() if output == "relu" else sums, dropout)
    vectors = torch.split(outer, [mlp.outer.out_features for mlp in mlps.values()], dim=1)
    return dict(zip(mlps, vectors, strict=True))


def drop(nodes: Tensor, share: float) -> Tensor:
    """Dropout: zero each value with the probability `share`, scale the others by 1 / (1 - share).

    Drawn as uniform numbers, which the CPU makes twice as fast as torch's own Bernoulli draws.
    """
    if share == 0:
        return nodes
    return nodes * torch.rand_like(nodes).ge(share).div(1 - share)


def _product(layer: nn.Linear, features: Tensor) -> Tensor:
    """The layer's outputs (B, rows) in the type of its weights, multiplied in the type of the features."""
    if features.dtype == layer.weight.dtype:
        return layer(features)  # type: ignore[no-any-return]
    product = F.linear(features, layer.weight.to(features.dtype)).to(layer.weight.dtype)
    return product + layer.bias
