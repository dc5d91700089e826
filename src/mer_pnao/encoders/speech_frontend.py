"""The convolutions of HuBERT-large and its like as strided matrix products.

The library keeps (channels, time), so each layer norm runs over data that lie crosswise in memory, and the norms take
longer than the convolutions. Here every step keeps (time, channels): a convolution is one product of the overlapping
stretches of its input with the flattened kernel, and a norm runs along the memory.

Legend of shapes: N samples, T time steps, C channels.
"""

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class _Stage:
    """One convolution of the library's with its layer norm and activation; (T, C) -> (T', C')."""

    def __init__(self, layer: Any, device: torch.device, product: torch.dtype, result: torch.dtype) -> None:
        conv: nn.Conv1d = layer.conv
        norm = getattr(layer, "layer_norm", None)
        if not isinstance(norm, nn.LayerNorm):
            raise ValueError(f"a layer of the front end must have a layer norm, not {norm}")

        def own(weight: Tensor, dtype: torch.dtype) -> Tensor:
            # Detached, for whoever casts the library's module afterwards casts its parameters in place.
            return weight.detach().to(device, dtype)

        # (C', kernel * C), the time step major
        self.weight = own(conv.weight.permute(0, 2, 1).flatten(1), product).contiguous()
        self.bias = None if conv.bias is None else own(conv.bias, product)
        self.kernel, self.stride = conv.kernel_size[0], conv.stride[0]
        self.scale, self.shift = own(norm.weight, result), own(norm.bias, result)  # (C',)
        self.epsilon, self.activation = norm.eps, layer.activation

    def __call__(self, steps: Tensor) -> Tensor:
        count = (len(steps) - self.kernel) // self.stride + 1
        channels = steps.shape[1]
        stretches = steps.as_strided((count, self.kernel * channels), (self.stride * channels, 1))
        convolved = F.linear(stretches, self.weight, self.bias).to(self.scale.dtype)
        normed = F.layer_norm(convolved, self.scale.shape, self.scale, self.shift, self.epsilon)
        activated: Tensor = self.activation(normed)
        return activated


class SpeechFrontEnd:
    """Called with a waveform (N,) float32, returns what the library's `feature_extractor` does, as (T, C).

    Its kernels, strides, norms and activations are taken over. The first product is of float32, so that the waveform
    itself is not rounded: with one channel it costs next to nothing; everything else, and the result, are of `dtype`.
    Raises ValueError for a layer without a layer norm.
    """

    def __init__(self, feature_extractor: Any, device: torch.device, dtype: torch.dtype) -> None:
        self._stages = [
            _Stage(layer, device, torch.float32 if number == 0 else dtype, dtype)
            for number, layer in enumerate(feature_extractor.conv_layers)
        ]

    def __call__(self, waveform: Tensor) -> Tensor:
        steps = waveform.contiguous()[:, None]
        for stage in self._stages:
            steps = stage(steps)
        return steps
