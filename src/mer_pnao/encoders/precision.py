"""Where an encoder runs and with what numbers."""

from typing import get_args

import torch

from mer_pnao.checks import one_of
from mer_pnao.encoders.config import Precision


def placement(precision: Precision) -> tuple[torch.device, torch.dtype]:
    """The device and the type of weights and activations.

    The device is the first GPU where there is one. `auto` takes bfloat16 where the processor multiplies in
    it (a GPU, or a CPU with AMX or AVX-512 BF16) and float32 elsewhere, where it would only cost accuracy.

    Raises:
        ValueError: another precision than auto, fp32 or bf16.
    """
    one_of("precision", precision, get_args(Precision))
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if precision == "auto":
        capabilities = torch.cpu.get_capabilities()
        native = capabilities.get("amx_bf16") or capabilities.get("avx512_bf16")
        precision = "bf16" if device.type == "cuda" or native else "fp32"
    return device, torch.bfloat16 if precision == "bf16" else torch.float32
