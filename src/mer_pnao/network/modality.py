"""The perceptron that maps a feature set to h_m, one for every pair of a branch and a set that it reads.

Shapes: B clips, H' and D' nodes that the inner and the outer layer have left.
"""

from torch import Tensor, nn
from torch.nn import functional as F


class ModalityMLP(nn.Module):
    """h_m = out(W_2 dropout(ReLU(W_1 f_m))), the two prunable layers of one modality; dropout follows h_m, too.

    A node whose row and bias are zero is exactly zero behind either output, so that removing it changes nothing.
    `inner_kept` (H') and `outer_kept` (D') are the nodes' indices in the dense network; a dense one keeps all.
    """

    inner_kept: Tensor
    outer_kept: Tensor

    def __init__(self, inputs: int, inner_kept: Tensor, outer_kept: Tensor, dropout: float, output: str) -> None:
        super().__init__()
        self.inner = FirstLayer(inputs, len(inner_kept))
        self.outer = nn.Linear(len(inner_kept), len(outer_kept))
        self.dropout = nn.Dropout(dropout)
        self.output = nn.ReLU() if output == "relu" else nn.Identity()
        self.register_buffer("inner_kept", inner_kept.clone())
        self.register_buffer("outer_kept", outer_kept.clone())

    def forward(self, features: Tensor) -> Tensor:
        """Map the features (B, width) of the set to h_m (B, D')."""
        inner = self.dropout(self.inner(features).relu())
        return self.dropout(self.output(self.outer(inner)))  # type: ignore[no-any-return]


class FirstLayer(nn.Linear):
    """A linear layer that multiplies in its inputs' number type and returns that of its weights.

    First layers hold most of a network's weights: given bfloat16 features they multiply in bfloat16, with float32
    weights, and everything after them is float32.
    """

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, rows)."""
        number = features.dtype
        return F.linear(features, self.weight.to(number), self.bias.to(number)).to(self.weight.dtype)
