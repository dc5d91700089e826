"""What a remembered round depends on, as a key, and the seeds of its parts."""

import ast
import hashlib
import json
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch


@cache
def code_version(module: str) -> str:
    """A digest of torch's version, the module's source and those of all that it imports of the package, however deep.

    DVC runs a stage again when its code changes; a stored round must then not answer for the old code. What no import
    leads to changes no result.
    """
    sources = imported_sources(module)
    digests = [f"{name} {hashlib.sha256(sources[name]).hexdigest()}" for name in sorted(sources)]
    return hashlib.sha256("\n".join([torch.__version__, *digests]).encode()).hexdigest()[:16]


def imported_sources(module: str) -> dict[str, bytes]:
    """The sources of a module of the package and of all that it imports of the package, by the modules' names."""
    root, found, waiting = Path(__file__).parents[2], {}, [module]
    while waiting:
        name = waiting.pop()
        path = root.joinpath(*name.split(".")).with_suffix(".py")
        if name in found or not path.is_file():  # a package, whose own file is empty, or a name in a module
            continue
        found[name] = path.read_bytes()
        for node in ast.walk(ast.parse(found[name])):
            if isinstance(node, ast.Import):
                waiting += [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom) and node.module:
                waiting += [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
    return found


def derived_seed(*parts: int) -> int:
    """A seed of its own for each tuple of whole numbers of one length."""
    # Of one length: the sequence pads with zeros, so that of (seed, fold) is that of (seed, fold, 0).
    return int(np.random.SeedSequence(parts).generate_state(1)[0])


def hash_of(*parts: Any) -> str:
    """A hash of plain values and of dataclasses of them."""

    def plain(value: Any) -> Any:
        return asdict(value) if hasattr(value, "__dataclass_fields__") else value

    return hashlib.sha256(json.dumps([plain(part) for part in parts], sort_keys=True).encode()).hexdigest()
