"""Decision fusion of the branches: by entropy (equations 5-7), the former attention, and the plain mean.

A fusion is a class here and its entry in FUSIONS.

Shapes: M branches, B clips, C classes, P fused positions of a branch.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import torch
from torch import Tensor, nn

CERTAIN = 1e-30  # nats; a smaller entropy counts as this one, for a gradient over it would overflow float32


def entropy(posterior: Tensor) -> Tensor:
    """Information entropy in nats along the last axis (eq. 5): (..., C) -> (...); 0 log 0 is 0."""
    terms: Tensor = torch.special.entr(posterior)
    return terms.sum(dim=-1)


def entropy_weights(entropies: Tensor) -> Tensor:
    """Confidence weights of the branches from their entropies (eq. 6): (M, B) -> (M, B).

    w_i = (1 - H_i / sum_j H_j) / (M - 1); they sum to one and none exceeds 1 / (M - 1). Equation 6 leaves two
    cases open: when all entropies are zero the weights are uniform, and a single branch has weight one.
    """
    branches = entropies.shape[0]
    if branches == 1:
        return torch.ones_like(entropies)
    entropies = entropies.clamp_min(CERTAIN)
    shares = entropies / entropies.sum(dim=0)
    # 1 - share_i as the sum of the others' shares, which does not cancel where one branch has nearly all the entropy:
    # a weight of 1e-20 stays one, and its gradient stays true.
    others = (1 - torch.eye(branches, dtype=shares.dtype, device=shares.device)) / (branches - 1)
    return (others @ shares).clamp_max(1 / (branches - 1))  # which rounding would pass


def weighted_decision(posteriors: Tensor, valences: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    """Joint decision (eq. 7): (M, B, C), (M, B) and weights (M, B) -> posterior (B, C), valence (B,)."""
    return (weights.unsqueeze(-1) * posteriors).sum(dim=0), (weights * valences).sum(dim=0)


def entropy_fusion(emotion: Tensor, valence: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Fuse the branches' decisions by their entropies (eq. 5-7).

    Takes the posteriors (M, B, C), each row a distribution, and the valences (M, B); returns the joint
    posterior (B, C), the joint valence (B,) and the weights (M, B).

    Raises ValueError when the shapes do not fit each other.
    """
    if emotion.ndim != 3 or valence.shape != emotion.shape[:2]:
        raise ValueError(
            "entropy_fusion takes posteriors (M, B, C) and valences (M, B), "
            f"got {tuple(emotion.shape)} and {tuple(valence.shape)}"
        )
    weights = entropy_weights(entropy(emotion))
    return *weighted_decision(emotion, valence, weights), weights


class Fusion(Protocol):
    """A module that weighs the branches' decisions."""

    def __call__(self, fused: Sequence[Tensor], log_posteriors: Tensor) -> Tensor:
        """Return the weights (M, B) of the branches' fused vectors, M tensors (B, P), and log-posteriors (M, B, C)."""
        ...

    def columns(self, positions: Tensor) -> dict[str, Tensor]:
        """What pruning leaves of which weight's columns, boolean (columns,) by the weight's name.

        Stay do the given positions of all fused vectors side by side, boolean (sum of the P,).
        """
        ...


class EntropyFusion(nn.Module):
    """The paper's: weights from the entropies (eq. 5 and 6), as in `entropy_fusion`.

    The gradient of p log p with respect to p is infinite at 0; through log p it is (1 + log p) p, which is not.
    """

    def __init__(self, fused_widths: Sequence[int]) -> None:
        super().__init__()

    def forward(self, fused: Sequence[Tensor], log_posteriors: Tensor) -> Tensor:
        """See `Fusion`."""
        return entropy_weights(-(log_posteriors.exp() * log_posteriors.clamp_min(-1e4)).sum(dim=-1))

    def columns(self, positions: Tensor) -> dict[str, Tensor]:
        """See `Fusion`."""
        return {}


class AttentionFusion(nn.Module):
    """The former strategy: weights from a softmax of a linear map of the concatenated fused vectors."""

    def __init__(self, fused_widths: Sequence[int]) -> None:
        super().__init__()
        self.score = nn.Linear(sum(fused_widths), len(fused_widths))

    def forward(self, fused: Sequence[Tensor], log_posteriors: Tensor) -> Tensor:
        """See `Fusion`."""
        weights: Tensor = self.score(torch.cat(list(fused), dim=-1)).softmax(dim=-1)
        return weights.T

    def columns(self, positions: Tensor) -> dict[str, Tensor]:
        """See `Fusion`."""
        return {"score.weight": positions}


class MeanFusion(nn.Module):
    """The same weight for every branch: what the others are held against."""

    def __init__(self, fused_widths: Sequence[int]) -> None:
        super().__init__()

    def forward(self, fused: Sequence[Tensor], log_posteriors: Tensor) -> Tensor:
        """See `Fusion`."""
        return torch.full_like(log_posteriors[..., 0], 1 / len(fused))

    def columns(self, positions: Tensor) -> dict[str, Tensor]:
        """See `Fusion`."""
        return {}


FUSIONS: dict[str, Callable[[Sequence[int]], Fusion]] = {
    "entropy": EntropyFusion,
    "attention": AttentionFusion,
    "mean": MeanFusion,
}
