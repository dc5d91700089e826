"""The joint decoder of emotion and valence (equations 1-4 of the paper).

Shapes: M branches, B clips, D fused width, C classes.
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from mer_pnao.network.stacking import biases, weights


class JointDecoder(nn.Module):
    """From one fused vector to an emotion posterior and a valence that listens to it."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.emotion = nn.Linear(width, classes)  # W_e, b_e
        self.valence_of_fused = nn.Linear(width, 1)  # W_hv, b_hv
        self.valence_of_emotion = nn.Linear(classes, 1)  # W_ev, b_ev
        self.valence = nn.Linear(2, 1)  # W_vv, b_vv

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-posteriors (B, C) and the valences (B,) of the fused vectors (B, D)."""
        log_posteriors, valences = decode([self], fused.unsqueeze(0))
        return log_posteriors[0], valences[0]


def decode(decoders: Sequence[JointDecoder], fused: Tensor) -> tuple[Tensor, Tensor]:
    """Return the log-posteriors (M, B, C) and the valences (M, B) of each branch's fused vectors (M, B, D).

    A decoder whose own width is smaller than D reads the first positions.

    Eq. 1: e = softmax(W_e h + b_e), returned as its logarithm so that entropies stay exact near 0 and 1.
    Eq. 2: v = W_vv [v_h, v_e] + b_vv.  Eq. 3: v_h = W_hv h + b_hv.  Eq. 4: v_e = tanh(W_ev e + b_ev).

    All branches at once: see `stacking`.
    """
    count, width = len(decoders), fused.shape[2]
    of_h = [layer for decoder in decoders for layer in (decoder.emotion, decoder.valence_of_fused)]
    sums = torch.baddbmm(biases(of_h, count).unsqueeze(1), fused, weights(of_h, width, count).transpose(1, 2))
    log_posteriors, of_fused = sums[..., :-1].log_softmax(dim=-1), sums[..., -1]
    of_e = [decoder.valence_of_emotion for decoder in decoders]
    products = log_posteriors.exp() * weights(of_e, log_posteriors.shape[2], count)
    of_emotion = (products.sum(dim=-1) + biases(of_e, count)).tanh()
    last = [decoder.valence for decoder in decoders]
    w_vv = weights(last, 2, count)
    valences = of_fused * w_vv[..., 0] + of_emotion * w_vv[..., 1] + biases(last, count)
    return log_posteriors, valences
