"""The Caffe-style ResNet-50 for faces with the FER+ classes (resnet50_ferplus_dag, Albanie and Vedaldi).

Legend of shapes: B images, W the width of the stem (64 in the published network), C classes.
"""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional as F

from mer_pnao.encoders.checkpoints import load_state_dict, load_strictly, shape_of
from mer_pnao.encoders.images import resize

IMAGE_SIZE = 224
SHORT_SIDE = 256  # the challenge resizes to this before it cuts the centre out
MEANS = (131.0912, 103.8827, 91.4953)  # RGB, over VGGFace2, on which the network was trained first
EXPANSION = 4  # a block's outputs over its inner width


def preprocess(images: NDArray[np.uint8]) -> Tensor:
    """The challenge's preparation: short side to 256, centre crop of 224, [0, 255] minus the RGB means.

    (B, H, W, 3) uint8 RGB -> (B, 3, 224, 224) float32.
    """
    height, width = images.shape[1:3]
    scale = SHORT_SIDE / min(height, width)
    resized = resize(images, (round(height * scale), round(width * scale)))
    top, left = (resized.shape[2] - IMAGE_SIZE) // 2, (resized.shape[3] - IMAGE_SIZE) // 2
    centre = resized[:, :, top : top + IMAGE_SIZE, left : left + IMAGE_SIZE]
    return centre - torch.tensor(MEANS)[:, None, None]


class ResNetFERPlus(nn.Module):
    """The network with the key names and, by default, the shapes of the published checkpoint.

    Unlike torchvision's, the stride sits on the 1x1 reduction and the max-pool has no padding.

    Args:
        width: channels of the stem; the embedding has 8 times as many features.
        depths: blocks of the four stages.
        classes: outputs of the classifier.
    """

    def __init__(self, width: int = 64, depths: Sequence[int] = (3, 4, 6, 3), classes: int = 8) -> None:
        super().__init__()
        if width < 1 or len(depths) != 4 or min(depths) < 1:
            raise ValueError(f"ResNetFERPlus: width and four depths must be positive, not {width}, {tuple(depths)}")
        self.embedding_width = 8 * width
        self.conv1_7x7_s2 = nn.Conv2d(3, width, 7, stride=2, padding=3, bias=False)
        self.conv1_7x7_s2_bn = nn.BatchNorm2d(width)
        # The published names are flat (conv2_1_1x1_reduce, ...), so a block is a name and not a module.
        self.blocks: list[tuple[str, bool]] = []
        inputs = width
        for stage, depth in enumerate(depths):
            inner = width * 2**stage
            for number in range(1, depth + 1):
                name, stride = f"conv{stage + 2}_{number}", 2 if stage > 0 and number == 1 else 1
                self._add_block(name, inputs, inner, stride, projected=number == 1)
                self.blocks.append((name, number == 1))
                inputs = EXPANSION * inner
        self.classifier = nn.Conv2d(inputs, classes, 1)

    def embed(self, images: Tensor) -> Tensor:
        """conv5_3_3x3_relu averaged over its 7x7 map. (B, 3, 224, 224), [0, 255] minus means -> (B, 8 W)."""
        last, _ = self.blocks[-1]
        return self._inner(last, self._trunk(images)).mean(dim=(2, 3))

    def forward(self, images: Tensor) -> Tensor:
        """Class scores. (B, 3, 224, 224), [0, 255] minus the means -> (B, C)."""
        pooled = self._block(*self.blocks[-1], self._trunk(images)).mean(dim=(2, 3), keepdim=True)
        scores: Tensor = self.classifier(pooled)
        return scores.flatten(1)

    def _add_block(self, name: str, inputs: int, inner: int, stride: int, projected: bool) -> None:
        outputs = EXPANSION * inner
        self._add(f"{name}_1x1_reduce", nn.Conv2d(inputs, inner, 1, stride=stride, bias=False))
        self._add(f"{name}_3x3", nn.Conv2d(inner, inner, 3, padding=1, bias=False))
        self._add(f"{name}_1x1_increase", nn.Conv2d(inner, outputs, 1, bias=False))
        if projected:
            self._add(f"{name}_1x1_proj", nn.Conv2d(inputs, outputs, 1, stride=stride, bias=False))

    def _add(self, name: str, convolution: nn.Conv2d) -> None:
        self.add_module(name, convolution)
        self.add_module(f"{name}_bn", nn.BatchNorm2d(convolution.out_channels))

    def _normed(self, name: str, x: Tensor) -> Tensor:
        normed: Tensor = self.get_submodule(f"{name}_bn")(self.get_submodule(name)(x))
        return normed

    def _trunk(self, images: Tensor) -> Tensor:
        """The map that enters the last block."""
        if images.shape[1:] != (3, IMAGE_SIZE, IMAGE_SIZE):
            raise ValueError(f"ResNetFERPlus: images must be (B, 3, 224, 224), not {tuple(images.shape)}")
        x = F.max_pool2d(F.relu(self._normed("conv1_7x7_s2", images)), 3, stride=2, ceil_mode=True)
        for name, projected in self.blocks[:-1]:
            x = self._block(name, projected, x)
        return x

    def _inner(self, name: str, x: Tensor) -> Tensor:
        return F.relu(self._normed(f"{name}_3x3", F.relu(self._normed(f"{name}_1x1_reduce", x))))

    def _block(self, name: str, projected: bool, x: Tensor) -> Tensor:
        out = self._normed(f"{name}_1x1_increase", self._inner(name, x))
        return F.relu(out + (self._normed(f"{name}_1x1_proj", x) if projected else x))


def load_resnet(path: Path) -> ResNetFERPlus:
    """A network of the width, depths and classes that the checkpoint has, in evaluation mode.

    Raises InputError for a file that is no checkpoint or does not fit, naming the first key.
    """
    state = load_state_dict(path)
    width = shape_of(state, "conv1_7x7_s2.weight", 4, path)[0]
    classes = shape_of(state, "classifier.weight", 4, path)[0]
    depths = [
        max(1, sum(key.startswith(f"conv{stage}_") and key.endswith("_3x3.weight") for key in state))
        for stage in (2, 3, 4, 5)
    ]
    return load_strictly(lambda: ResNetFERPlus(width, depths, classes), state, path)
