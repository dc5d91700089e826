"""Where an encoder runs and with what numbers."""

from typing import get_args

import torch

from mer_pnao.checks import one_of
from mer_pnao.precision import Precision, number_type


def placement(precision: Precision) -> tuple[torch.device, torch.dtype]:
    """The device, which is the first GPU where there is one, and the type of weights and activations.

    Raises:
        ValueError: another precision than auto, fp32 or bf16.
    """
    one_of("precision", precision, get_args(Precision))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, number_type(precision, device)
