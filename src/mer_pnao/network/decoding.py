"""The joint decoder of emotion and valence (equations 1-4 of the paper).

Shapes: B clips, D fused width, C classes.
"""

import torch
from torch import Tensor, nn


class JointDecoder(nn.Module):
    """From one fused vector to an emotion posterior and a valence that listens to it."""

    def __init__(self, width: int, classes: int) -> None:
        super().__init__()
        self.emotion = nn.Linear(width, classes)  # W_e, b_e
        self.valence_of_fused = nn.Linear(width, 1)  # W_hv, b_hv
        self.valence_of_emotion = nn.Linear(classes, 1)  # W_ev, b_ev
        self.valence = nn.Linear(2, 1)  # W_vv, b_vv

    def forward(self, fused: Tensor) -> tuple[Tensor, Tensor]:
        """Return the log-posteriors (B, C) and the valences (B,) of the fused vectors (B, D).

        Eq. 1: e = softmax(W_e h + b_e), returned as its logarithm so that entropies stay exact near 0 and 1.
        Eq. 2: v = W_vv [v_h, v_e] + b_vv.  Eq. 3: v_h = W_hv h + b_hv.  Eq. 4: v_e = tanh(W_ev e + b_ev).
        """
        log_posterior = self.emotion(fused).log_softmax(dim=-1)
        of_fused = self.valence_of_fused(fused)
        of_emotion = self.valence_of_emotion(log_posterior.exp()).tanh()
        return log_posterior, self.valence(torch.cat([of_fused, of_emotion], dim=-1)).squeeze(-1)
