"""What a network costs: parameters and the latency of one clip."""

import time
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


def parameters(network: nn.Module) -> int:
    """The number of trainable parameters (buffers, such as z-score statistics, are not counted)."""
    return sum(parameter.numel() for parameter in network.parameters())


def latency_ms(networks: Sequence[nn.Module], clip: Mapping[str, Tensor], repeats: int = 60) -> float:
    """Milliseconds on one thread for all the networks of a model to predict one clip.

    `clip` holds each set's features (1, width). The fastest of the repeats, which other load on the machine disturbs
    least; still a measurement, which differs a little from one call to the next.
    """
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        with torch.inference_mode():
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                for network in networks:
                    network(clip)
                times.append(time.perf_counter() - start)
    finally:
        torch.set_num_threads(threads)
    return 1000 * min(times)
