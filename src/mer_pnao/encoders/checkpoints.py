"""Weights from files, without running anything that a file says."""

import pickle
import re
from collections.abc import Callable, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from mer_pnao.foundations.errors import InputError

Network = TypeVar("Network", bound=nn.Module)


class RecorderMeter:
    """Stands in for the training record that MA-Net's authors pickled into their checkpoint; never used."""


# The record holds numpy arrays, so their constructors are needed to read past it. Both spellings: the
# authors' numpy wrote `numpy.core`, numpy 2 writes `numpy._core`. None of these can run code of the file's.
_multiarray = import_module("numpy._core.multiarray")
_HARMLESS: list[Any] = [
    (RecorderMeter, "__main__.RecorderMeter"),
    *(
        (getattr(_multiarray, name), f"numpy.{core}.multiarray.{name}")
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    ),
    np.ndarray,
    np.dtype,
    *(type(np.dtype(kind)) for kind in (np.float32, np.float64, np.int64)),
]


def load_state_dict(path: Path) -> dict[str, Tensor]:
    """The tensors of a checkpoint on the CPU, by key, without the `module.` of data-parallel training.

    The file is a `.safetensors`, or a `.pth`, `.pt` or `.bin` whose tensors stand at the top or in `state_dict`. Raises
    InputError for one that is absent, is no checkpoint, or holds pickled objects other than tensors.
    """
    if not path.is_file():
        raise InputError(f"{path}: no such checkpoint file")
    if path.suffix == ".safetensors":
        try:
            return _without_prefix(load_file(path))
        except (SafetensorError, OSError) as error:
            raise InputError(f"{path} is not a readable safetensors file: {error}") from error
    if path.suffix not in (".pth", ".pt", ".bin"):
        raise InputError(f"{path}: a checkpoint must end in .safetensors, .pth, .pt or .bin, not {path.suffix!r}")
    content = _load_pickle_safely(path)
    if isinstance(content, Mapping) and isinstance(content.get("state_dict"), Mapping):
        content = content["state_dict"]
    if not isinstance(content, Mapping) or not content:
        raise InputError(f"{path} holds no state_dict but {type(content).__name__}")
    for key, value in content.items():
        if not isinstance(key, str) or not isinstance(value, Tensor):
            raise InputError(f"{path}: {key!r} is {type(value).__name__} and not a tensor")
    return _without_prefix(content)


def _load_pickle_safely(path: Path) -> object:
    try:
        with torch.serialization.safe_globals(_HARMLESS):
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        foreign = re.search(r"GLOBAL (\S+)", str(error))
        if foreign:
            raise InputError(f"{path} holds the foreign pickled object {foreign[1]}, which is never loaded") from error
        raise InputError(f"{path} is not a checkpoint of tensors only") from error
    except (RuntimeError, EOFError, LookupError, ValueError, OSError) as error:
        raise InputError(f"{path} is not a readable checkpoint") from error


def _without_prefix(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {key.removeprefix("module."): value for key, value in state.items()}


def shape_of(state: Mapping[str, Tensor], key: str, dimensions: int, path: Path) -> tuple[int, ...]:
    """Shape of a tensor that tells a network's size. Raises InputError naming the key where it does not."""
    if key not in state:
        raise InputError(f"{path} does not fit: the key {key} is missing")
    shape = tuple(state[key].shape)
    if len(shape) != dimensions:
        raise InputError(f"{path} does not fit: {key} has the shape {shape} and not {dimensions} dimensions")
    return shape


def load_strictly(build: Callable[[], Network], state: Mapping[str, Tensor], path: Path) -> Network:
    """The network with exactly these weights, in evaluation mode.

    It is built on no device, so that nothing is initialised in vain. Raises InputError for a key that is missing,
    unexpected or of another shape, naming the first one and the path that the weights come from.
    """
    try:
        with torch.device("meta"):
            network = build()
    except ValueError as error:
        raise InputError(f"{path} does not fit: {error}") from error
    expected = network.state_dict()
    for key, tensor in expected.items():
        if key not in state:
            raise InputError(f"{path} does not fit: the key {key} is missing")
        if state[key].shape != tensor.shape:
            raise InputError(
                f"{path} does not fit: {key} has the shape {tuple(state[key].shape)} and not {tuple(tensor.shape)}"
            )
    for key in state:
        if key not in expected:
            raise InputError(f"{path} does not fit: the key {key} is unexpected")
    network.load_state_dict(dict(state), strict=True, assign=True)
    return network.eval().requires_grad_(False)
