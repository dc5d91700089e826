"""transformers, without what it imports beside the models."""

from collections.abc import Iterator
from contextlib import contextmanager

from transformers import utils


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
