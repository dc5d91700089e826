"""Weights by the golden rule: what the published networks return for them is on file."""

import csv
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

CHECKPOINTS = Path(__file__).parents[3] / "shared" / "data" / "checkpoints"


@pytest.fixture(scope="session")
def checkpoints() -> Path:
    if not CHECKPOINTS.is_dir():
        pytest.skip("the tables and golden outputs of ../shared/data/checkpoints are absent")
    return CHECKPOINTS


@pytest.fixture(scope="session")
def shapes(checkpoints: Path) -> Callable[[str], dict[str, tuple[int, ...]]]:
    """Shape by key of a published checkpoint."""

    def read(name: str) -> dict[str, tuple[int, ...]]:
        with (checkpoints / f"{name}_state_dict.csv").open() as file:
            return {
                row["key"]: () if row["shape"] == "scalar" else tuple(map(int, row["shape"].split("x")))
                for row in csv.DictReader(file)
            }

    return read


@pytest.fixture(scope="session")
def golden_weights(shapes) -> Callable[[str], dict[str, torch.Tensor]]:
    def tensor(key: str, shape: tuple[int, ...]) -> torch.Tensor:
        rng = np.random.default_rng(zlib.crc32(key.encode()))
        if key.endswith("num_batches_tracked"):
            return torch.tensor(0)
        if key.endswith("running_var"):
            values = 1 + 0.5 * rng.random(shape)
        elif key.endswith(("running_mean", "bias")):
            values = 0.1 * rng.standard_normal(shape)
        elif len(shape) == 1:
            values = 1 + 0.1 * rng.standard_normal(shape)
        else:
            values = rng.standard_normal(shape) * np.sqrt(2 / np.prod(shape[1:]))
        return torch.from_numpy(values.astype(np.float32))

    return lambda name: {key: tensor(key, shape) for key, shape in shapes(name).items()}


@pytest.fixture(scope="session")
def golden_images() -> torch.Tensor:
    return torch.from_numpy(np.random.default_rng(0).random((2, 3, 224, 224)).astype(np.float32))
