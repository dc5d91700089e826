"""The training objective (equations 8 and 9).

Shapes: M branches, B clips, C classes.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mer_pnao.network.emotion_network import Prediction


def uncertainty_weighted(emotion_loss: Tensor, valence_loss: Tensor, delta1: Tensor, delta2: Tensor) -> Tensor:
    """AWL (eq. 9): L_e / d1^2 + L_v / (2 d2^2) + log(1 + d1) + log(1 + d2), for d1, d2 > 0."""
    return emotion_loss / delta1**2 + valence_loss / (2 * delta2**2) + torch.log1p(delta1) + torch.log1p(delta2)


class UncertaintyWeights(nn.Module):
    """d1 and d2 of eq. 9, positive by d = exp(s) and 1 at the start.

    They belong to the objective, not to the network: no sparsity term and no weight decay touches them, and a
    rewound round starts with new ones, as it does with a new optimiser. Without any valence in the corpus nothing
    would hold d2 up, so it stays at 1.
    """

    def __init__(self, has_valence: bool) -> None:
        super().__init__()
        self.log_delta1 = nn.Parameter(torch.zeros(()))
        self.log_delta2 = nn.Parameter(torch.zeros(()), requires_grad=has_valence)

    def forward(self) -> tuple[Tensor, Tensor]:
        """Return (d1, d2), scalars."""
        return self.log_delta1.exp(), self.log_delta2.exp()

    def values(self) -> tuple[float, float]:
        """(d1, d2) as numbers."""
        delta1, delta2 = self()
        return float(delta1.detach()), float(delta2.detach())


def emotion_loss(prediction: Prediction, emotion: Tensor) -> Tensor:
    """Cross-entropy of the joint decision plus its mean over the branches.

    `emotion` holds class indices (B,) or a distribution a clip (B, C).
    """
    # A confident mistake costs 69 at most here, and its gradient leaves float32 room for what multiplies it.
    joint = prediction.posterior.clamp_min(1e-30).log()
    of_clips = joint + prediction.log_posteriors.mean(dim=0)
    target = emotion if emotion.ndim == 2 else F.one_hot(emotion, of_clips.shape[1])
    return -(target * of_clips).sum(dim=-1).mean()


def valence_loss(prediction: Prediction, valence: Tensor) -> Tensor:
    """Squared error of the joint decision plus its mean over the branches; valence (B,), NaN: left out.

    Zero, with a zero gradient, for a batch without any valence.
    """
    known = valence.isfinite()
    target = valence.where(known, 0.0)
    count = known.sum().clamp_min(1)
    joint = ((prediction.valence - target) ** 2 * known).sum() / count
    single = ((prediction.valences - target) ** 2 * known).sum(dim=1).mean() / count
    return joint + single


def add_sparsity_gradient(matrices: Iterable[nn.Parameter], alpha: float) -> None:
    """Add the sub-gradient of alpha ||Theta||_1 (eq. 8), alpha sign(w), to the gradients in place.

    In the autograd graph the same term would cost a pass over every weight forward and another one backward.
    """
    if alpha == 0:
        return
    with torch.no_grad():
        for matrix in matrices:
            if matrix.grad is not None:
                matrix.grad.add_(matrix.sign(), alpha=alpha)
