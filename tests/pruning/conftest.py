"""Masking, the other way to give nodes up: what compacting must agree with."""

from collections.abc import Callable, Mapping
from copy import deepcopy

import pytest
import torch
from torch import Tensor

from mer_pnao.network.emotion_network import EmotionNetwork


@pytest.fixture
def masked() -> Callable[[EmotionNetwork, Mapping[str, Tensor]], EmotionNetwork]:
    """A copy of a network whose masked nodes have zero rows and zero biases, at full size (Theta * m)."""

    def of(network: EmotionNetwork, masks: Mapping[str, Tensor]) -> EmotionNetwork:
        copy = deepcopy(network)
        with torch.no_grad():
            for name, mask in masks.items():
                layer = copy.prunable(scorers=True)[name]
                layer.weight.mul_(mask.unsqueeze(1))
                if layer.bias is not None:
                    layer.bias.mul_(mask)
        return copy

    return of
