"""The convolutions of speech models as strided matrix products.

The library keeps (channels, time), so each layer norm runs over data that lie crosswise in memory, and that takes
longer than the convolutions. Here every step keeps (time, channels): a convolution is one product of the overlapping
stretches of its input with the flattened kernel, and a norm over channels runs along the memory.

Legend of shapes: N samples, T time steps, C channels.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

Norm = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class _Stage:
    """One convolution with what follows it; (T, C) -> (T', C')."""

    weight: Tensor  # (C', kernel * C), the time step major
    bias: Tensor | None
    kernel: int
    stride: int
    norm: Norm | None
    activation: Norm

    def __call__(self, steps: Tensor) -> Tensor:
        count = (len(steps) - self.kernel) // self.stride + 1
        channels = steps.shape[1]
        stretches = steps.as_strided((count, self.kernel * channels), (self.stride * channels, 1))
        convolved = F.linear(stretches, self.weight, self.bias)
        return self.activation(self.norm(convolved) if self.norm else convolved)


class SpeechFrontEnd:
    """Called with a waveform (N,) float32, returns what the library's `feature_extractor` does, as (T, C).

    The first layer computes in float32: a waveform rounded to bfloat16 has lost its quiet parts, and with one channel
    the layer costs next to nothing.

    Args:
        feature_extractor: the library's module, whose kernels, strides, norms and activations are taken over.
        device: where it computes.
        dtype: of all layers but the first, and of the result.

    Raises:
        ValueError: a layer has a norm other than over its channels or, each by itself, over time.
    """

    def __init__(self, feature_extractor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self.dtype = dtype
        layers: Sequence[Any] = feature_extractor.conv_layers
        self._stages = [
            _stage(layer, device, torch.float32 if number == 0 else dtype) for number, layer in enumerate(layers)
        ]

    def __call__(self, waveform: Tensor) -> Tensor:
        first, *rest = self._stages
        steps = first(waveform.contiguous()[:, None]).to(self.dtype)
        for stage in rest:
            steps = stage(steps)
        return steps


def _stage(layer: Any, device: torch.device, dtype: torch.dtype) -> _Stage:
    conv: nn.Conv1d = layer.conv
    weight = conv.weight.permute(0, 2, 1).flatten(1)
    return _Stage(
        _own(weight, device, dtype).contiguous(),
        None if conv.bias is None else _own(conv.bias, device, dtype),
        conv.kernel_size[0],
        conv.stride[0],
        _norm(getattr(layer, "layer_norm", None), device, dtype),
        layer.activation,
    )


def _own(weight: Tensor, device: torch.device, dtype: torch.dtype) -> Tensor:
    """A copy, for whoever casts the library's module afterwards casts its parameters in place."""
    return weight.detach().to(device, dtype, copy=True)


def _norm(module: nn.Module | None, device: torch.device, dtype: torch.dtype) -> Norm | None:
    match module:
        case None:
            return None
        case nn.LayerNorm():
            weight, bias = _own(module.weight, device, dtype), _own(module.bias, device, dtype)
            return lambda steps: F.layer_norm(steps, module.normalized_shape, weight, bias, module.eps)
        case nn.GroupNorm() if module.num_groups == module.num_channels:
            weight, bias = _own(module.weight, device, dtype), _own(module.bias, device, dtype)

            def over_time(steps: Tensor) -> Tensor:
                variance, mean = torch.var_mean(steps, dim=0, correction=0)
                return (steps - mean) * (torch.rsqrt(variance + module.eps) * weight) + bias

            return over_time
        case _:
            raise ValueError(f"no such norm of a speech model is known: {module}")
