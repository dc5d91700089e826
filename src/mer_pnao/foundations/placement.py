"""Where to compute, and in which numbers."""

from typing import get_args

import torch

from mer_pnao.foundations.checks import one_of
from mer_pnao.foundations.precision import Precision


def number_type(precision: Precision, device: torch.device) -> torch.dtype:
    """float32 or bfloat16 for work on the device.

    `auto` takes bfloat16 where the processor multiplies in it (a GPU, or a CPU with AMX or AVX-512 BF16) and float32
    elsewhere, where it would only cost accuracy.
    """
    if precision == "auto":
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        precision = "bf16" if device.type == "cuda" or native else "fp32"
    return torch.bfloat16 if precision == "bf16" else torch.float32


def placement(precision: Precision) -> tuple[torch.device, torch.dtype]:
    """The device, which is the first GPU where there is one, and the type of weights and activations.

    Raises ValueError for another precision than auto, fp32 or bf16.
    """
    one_of("precision", precision, get_args(Precision))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return device, number_type(precision, device)
