"""MA-Net: multi-scale and local attention network for facial expressions (Zhao, Liu and Wang, TIP 2021).

Legend of shapes: B images, W the width of the stem (64 in the published network), C classes.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import get_args

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mer_pnao.encoders.checkpoints import load_state_dict, load_strictly, shape_of
from mer_pnao.encoders.config import SplitOrder
from mer_pnao.encoders.images import resize
from mer_pnao.foundations.checks import one_of

IMAGE_SIZE = 224  # fixed: the local branch cuts the 28x28 map into four quarters of 14x14


def preprocess(images: NDArray[np.uint8]) -> Tensor:
    """The challenge's preparation of face crops: resized and scaled, without mean or deviation.

    (B, H, W, 3) uint8 RGB -> (B, 3, 224, 224) float32 in [0, 1].
    """
    return resize(images, (IMAGE_SIZE, IMAGE_SIZE)) / 255.0


class MANet(nn.Module):
    """The network with the key names and, at width 64, the shapes of the published checkpoint.

    A ResNet-18 stem feeds two branches: a local one, where each quarter of the map has attention blocks of
    its own, and a global one of multi-scale blocks.

    Args:
        width: channels of the stem, a multiple of 4. The embedding has 16 times as many features.
        classes: outputs of each of the two classifiers.
        order: order of the four splits in the second sub-branch of a multi-scale block. `forward` is the
            version of February 2021, which made the challenge's features and the published checkpoint;
            `reverse` is the authors' present version.
    """

    def __init__(self, width: int = 64, classes: int = 7, order: SplitOrder = "forward") -> None:
        super().__init__()
        if width < 4 or width % 4:
            raise ValueError(f"MANet: width must be a positive multiple of 4, not {width}")
        one_of("order", order, get_args(SplitOrder))
        self.embedding_width = 16 * width
        self.conv1 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.layer1 = nn.Sequential(ResidualBlock(width, width, 1), ResidualBlock(width, width, 1))
        self.layer2 = nn.Sequential(ResidualBlock(width, 2 * width, 2), ResidualBlock(2 * width, 2 * width, 1))
        for quarter in (1, 2, 3, 4):
            self.add_module(f"layer3_1_p{quarter}", _attention_stage(2 * width, 4 * width, 2))
            self.add_module(f"layer4_1_p{quarter}", _attention_stage(4 * width, 8 * width, 1))
        self.layer3_2 = _multi_scale_stage(2 * width, 4 * width, order)
        self.layer4_2 = _multi_scale_stage(4 * width, 8 * width, order)
        self.fc_1 = nn.Linear(8 * width, classes)
        self.fc_2 = nn.Linear(8 * width, classes)

    def embed(self, images: Tensor) -> Tensor:
        """Features of faces: local, then global. (B, 3, 224, 224) in [0, 1] -> (B, 16 W)."""
        return torch.cat(self._branches(images), dim=1)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Logits of the local and of the global branch. (B, 3, 224, 224) in [0, 1] -> twice (B, C)."""
        local, overall = self._branches(images)
        return self.fc_1(local), self.fc_2(overall)

    def _branches(self, images: Tensor) -> tuple[Tensor, Tensor]:
        if images.shape[1:] != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"MANet: images must be (B, 3, 224, 224), not {tuple(images.shape)}")
        stem = F.max_pool2d(F.relu(self.bn1(self.conv1(images))), 3, stride=2, padding=1)
        shared = self.layer2(self.layer1(stem))
        return self._local(shared), self.layer4_2(self.layer3_2(shared)).mean(dim=(2, 3))

    def _local(self, shared: Tensor) -> Tensor:
        top, bottom = shared.chunk(2, dim=2)
        quarters = [*top.chunk(2, dim=3), *bottom.chunk(2, dim=3)]
        means = []
        for number, quarter in enumerate(quarters, start=1):
            inner = self.get_submodule(f"layer3_1_p{number}")(quarter)
            means.append(self.get_submodule(f"layer4_1_p{number}")(inner).mean(dim=(2, 3)))
        # The published network tiles the quarters back and averages the whole: with quarters of equal size
        # that is the mean of their means.
        return torch.stack(means).mean(dim=0)


def load_manet(path: Path, order: SplitOrder = "forward") -> MANet:
    """A MA-Net of the width and classes that the checkpoint has, in evaluation mode.

    Raises InputError for a file that is no checkpoint or does not fit, naming the first key.
    """
    state = load_state_dict(path)
    width = shape_of(state, "conv1.weight", 4, path)[0]
    classes = shape_of(state, "fc_1.weight", 2, path)[0]
    return load_strictly(lambda: MANet(width, classes, order), state, path)


class ResidualBlock(nn.Module):
    """Two 3x3 convolutions and a shortcut, as in ResNet-18; with attention when asked for."""

    def __init__(self, inputs: int, outputs: int, stride: int, attention: bool = False) -> None:
        super().__init__()
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        self.conv2 = _conv3x3(outputs, outputs, 1)
        self.bn2 = nn.BatchNorm2d(outputs)
        # CBAM (Woo et al. 2018) weights the channels, then the places of a map.
        gates = {"ChannelGate": ChannelGate(outputs), "SpatialGate": SpatialGate()} if attention else {}
        self.cbam = nn.Sequential(OrderedDict(gates))
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        out = F.relu(self.bn1(self.conv1(x)))
        out = self.cbam(self.bn2(self.conv2(out)))
        return F.relu(out + self.downsample(x))


class ChannelGate(nn.Module):
    """One weight a channel, from its mean and its maximum through one shared perceptron."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        hidden = max(1, channels // 16)
        self.mlp = nn.Sequential(nn.Flatten(), nn.Linear(channels, hidden), nn.ReLU(), nn.Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        attention = self.mlp(x.mean(dim=(2, 3))) + self.mlp(x.amax(dim=(2, 3)))
        return x * torch.sigmoid(attention)[:, :, None, None]


class SpatialGate(nn.Module):
    """One weight a place, from the maximum and the mean over its channels."""

    def __init__(self) -> None:
        super().__init__()
        norm = nn.BatchNorm2d(1)
        self.spatial = nn.Sequential(OrderedDict(conv=nn.Conv2d(2, 1, 7, padding=3, bias=False), bn=norm))

    def forward(self, x: Tensor) -> Tensor:
        pooled = torch.cat([x.amax(dim=1, keepdim=True), x.mean(dim=1, keepdim=True)], dim=1)
        return x * torch.sigmoid(self.spatial(pooled))


class MultiScaleBlock(nn.Module):
    """Two chains over four splits of the channels, each link seeing the one before; summed, with shortcut."""

    SPLITS = 4

    def __init__(self, inputs: int, outputs: int, stride: int, order: SplitOrder) -> None:
        super().__init__()
        self.reverse_second = order == "reverse"
        self.conv1 = _conv3x3(inputs, outputs, stride)
        self.bn1 = nn.BatchNorm2d(outputs)
        split = outputs // self.SPLITS
        for chain in (1, 2):
            for link in range(1, self.SPLITS + 1):
                self.add_module(f"conv{chain}_2_{link}", _conv3x3(split, split, 1))
                self.add_module(f"bn{chain}_2_{link}", nn.BatchNorm2d(split))
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        splits = F.relu(self.bn1(self.conv1(x))).chunk(self.SPLITS, dim=1)
        forward = range(1, self.SPLITS + 1)
        first = self._chain(1, splits, forward)
        second = self._chain(2, splits, forward[::-1] if self.reverse_second else forward)
        return F.relu(first + second + self.downsample(x))

    def _chain(self, chain: int, splits: Sequence[Tensor], order: Sequence[int]) -> Tensor:
        links: dict[int, Tensor] = {}
        seen = torch.zeros_like(splits[0])
        for number in order:
            conv = self.get_submodule(f"conv{chain}_2_{number}")
            norm = self.get_submodule(f"bn{chain}_2_{number}")
            links[number] = norm(conv(splits[number - 1] + seen))
            seen = F.relu(links[number])
        return torch.cat([links[number] for number in sorted(links)], dim=1)


def _attention_stage(inputs: int, outputs: int, stride: int) -> nn.Sequential:
    return nn.Sequential(ResidualBlock(inputs, outputs, stride, True), ResidualBlock(outputs, outputs, 1, True))


def _multi_scale_stage(inputs: int, outputs: int, order: SplitOrder) -> nn.Sequential:
    return nn.Sequential(MultiScaleBlock(inputs, outputs, 2, order), MultiScaleBlock(outputs, outputs, 1, order))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Module:
    if stride == 1 and inputs == outputs:
        return nn.Identity()
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False), nn.BatchNorm2d(outputs))


def _conv3x3(inputs: int, outputs: int, stride: int) -> nn.Conv2d:
    return nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False)
