"""A small separable corpus that networks can learn in a second."""

import numpy as np
import pytest
import torch

from mer_pnao.network.emotion_network import Blueprint, NetworkConfig
from mer_pnao.training.examples import Examples

torch.set_num_threads(1)
WIDTHS = {"a": 12, "b": 10, "v": 8}


@pytest.fixture
def examples() -> Examples:
    """120 clips of 3 classes: class means plus noise in every set; valence follows the class; 12 speakers."""
    rng, clips, classes = np.random.default_rng(0), 120, 3
    means = {name: np.random.default_rng(7).standard_normal((classes, width)) for name, width in WIDTHS.items()}
    emotion = np.arange(clips) % classes
    features = {
        name: (mean[emotion] + 1.2 * rng.standard_normal((clips, mean.shape[1]))).astype(np.float32)
        for name, mean in means.items()
    }
    valence = (emotion - 1 + 0.3 * rng.standard_normal(clips)).astype(np.float32)
    names = tuple(f"clip{i:03d}" for i in range(clips))
    speakers = tuple(f"speaker{(i // classes) % 12:02d}" for i in range(clips))
    return Examples(names, features, emotion, valence, speakers, classes)


@pytest.fixture
def blueprint() -> Blueprint:
    return Blueprint(WIDTHS, ("a", "b"), ("v",), 3, "entropy", NetworkConfig(24, 12, 0.2))
