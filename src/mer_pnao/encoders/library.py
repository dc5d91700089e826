"""transformers, without what it imports beside the models, and without what it prints."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import utils
from transformers.utils import logging as transformers_logging

from mer_pnao.encoders.model_folder import one_line
from mer_pnao.foundations.errors import InputError


@contextmanager
def without_scipy() -> Iterator[None]:
    """Within, transformers imports a model as where scipy is not installed.

    Only its losses of object detectors need scipy, and every model imports them: a sixth of the start of `mer predict`.
    """
    asked = utils.is_scipy_available
    utils.is_scipy_available = lambda: False
    try:
        yield
    finally:
        utils.is_scipy_available = asked


def with_weights(model: Any, config: Any, state: Mapping[str, Tensor], folder: Path) -> tuple[Any, Mapping[str, Any]]:
    """A model of the library's class in evaluation mode, float32, and its report of keys that do not fit.

    Raises InputError naming the folder where the library cannot build it.
    """
    try:
        with _quietly():
            network, report = model.from_pretrained(
                None,
                config=config,
                state_dict={k: t.float() if t.is_floating_point() else t for k, t in state.items()},
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError, ImportError) as error:
        raise InputError(f"{folder} is not a readable {model.__name__}: {one_line(error)}") from error
    return network.eval().requires_grad_(False), report


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the library's bars and reports off the terminal: what matters of them becomes one sentence."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()
