"""What a network costs. Its latency is measured by `benchmarks/latency.py`, for no two measurements are the same."""

from torch import nn


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters (buffers, such as z-score statistics, are not counted)."""
    return sum(parameter.numel() for parameter in network.parameters())
