"""Checkpoints of random networks, so that the whole pipeline runs where no pretrained weights can be had.

Random convolutions keep part of what they see, enough for a demonstration; nobody should expect a trained
encoder's scores of them. Files and key names are those of the real checkpoints, and only widths differ.
"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import HubertConfig, HubertModel

from mer_pnao.encoders.manet import MANet
from mer_pnao.encoders.resnet import ResNetFERPlus

MANET_WIDTH = 8  # embeddings of 128 features, at a fraction of a second per hundred faces on one core
RESNET_WIDTH = 16
RESNET_DEPTHS = (1, 1, 1, 1)  # depth costs time and, without training, buys nothing


def write_demo_checkpoints(directory: Path, seed: int) -> None:
    """Writes `hubert/`, `manet.safetensors` and `resnet.safetensors`, the same bytes for the same seed.

    The directory is made when absent; the global random state is neither read nor changed.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        _write_hubert(directory / "hubert")
        _write_network(MANet(MANET_WIDTH), lambda faces: faces, directory / "manet.safetensors")
        resnet = ResNetFERPlus(RESNET_WIDTH, RESNET_DEPTHS)
        _write_network(resnet, lambda faces: 255 * (faces - 0.43), directory / "resnet.safetensors")


def _write_hubert(folder: Path) -> None:
    # 24 layers, as the systems read layers 18-20; this width with a group norm gives a linear probe on
    # RAVDESS three times chance, and half the width with layer norms only twice.
    config = HubertConfig(
        hidden_size=128,
        num_hidden_layers=24,
        num_attention_heads=4,
        intermediate_size=256,
        conv_dim=(64,) * 7,
        feat_extract_norm="group",
        num_conv_pos_embeddings=32,
        num_conv_pos_embedding_groups=8,
    )
    config.architectures = ["HubertModel"]
    config.save_pretrained(folder)
    # The format's own mark, without which the library refuses to load the file.
    save_file(HubertModel(config).state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    preprocessor = {"do_normalize": False, "feature_size": 1, "sampling_rate": 16_000}
    (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")


def _write_network(network: nn.Module, prepare: Callable[[Tensor], Tensor], path: Path) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d | nn.Linear):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
    _set_batch_statistics(network, prepare(_random_images()))
    save_file({key: tensor.contiguous() for key, tensor in network.state_dict().items()}, path)


def _set_batch_statistics(network: nn.Module, images: Tensor) -> None:
    """Gives every batch norm the statistics of some images, as training would.

    At the initial statistics the signal drowns with depth in what all images share: the differences
    between two faces fall under the rounding error of bfloat16. Computed in float64, so that another number
    of threads, which adds in another order, still writes the same float32.
    """
    for module in network.modules():
        if isinstance(module, nn.BatchNorm2d):
            module.momentum = None  # the plain mean over the one batch
    network.double().train()
    with torch.no_grad():
        network(images)
    network.float().eval()


def _random_images(count: int = 8, size: int = 224) -> Tensor:
    """Smooth coloured noise of several scales, roughly with the spectrum of photographs; in [0, 1]."""
    total = torch.zeros(count, 3, size, size, dtype=torch.float64)
    for cells in (2, 4, 8, 16, 32):
        noise = torch.randn(count, 3, cells, cells, dtype=torch.float64) / math.sqrt(cells)
        total += F.interpolate(noise, size=(size, size), mode="bilinear")
    return torch.sigmoid(total)
