"""What a remembered round depends on, as a key, and the seeds of its parts."""

import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


def algorithm_version() -> str:
    """A digest of the code and of the torch version that a round's result depends on.

    DVC runs a stage again when the code of the science changes; a stored round must then not answer for the old code.
    """
    return code_version("evaluation", "network", "pruning", "training")


@cache
def code_version(*folders: str) -> str:
    """A digest of the code in these folders of the package, and of the torch version."""
    package = Path(__file__).parents[1]
    files = [package / "foundations/precision.py"]
    files += [path for folder in folders for path in sorted((package / folder).glob("*.py"))]
    digests = [
        f"{path.relative_to(package).as_posix()} {hashlib.sha256(path.read_bytes()).hexdigest()}" for path in files
    ]
    parts = [torch.__version__, *digests]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:16]


def derived_seed(*parts: int) -> int:
    """A seed of its own for each tuple of whole numbers of one length."""
    # Of one length: the sequence pads with zeros, so that of (seed, fold) is that of (seed, fold, 0).
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def hash_of(*parts: Any) -> str:
    """A hash of plain values and of dataclasses of them."""

    def plain(value: Any) -> Any:
        return asdict(value) if hasattr(value, "__dataclass_fields__") else value

    return hashlib.sha256(json.dumps([plain(part) for part in parts], sort_keys=True).encode()).hexdigest()
