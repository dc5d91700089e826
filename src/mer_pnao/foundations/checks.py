"""Range checks for the domain values: one sentence naming key, value and range."""

import math
import re
from collections.abc import Collection
from pathlib import PureWindowsPath

_BARE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]*")


def between(key: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{key} must lie in [{low:.12g}, {high:.12g}], got {value!r}")


def above(key: str, value: float, low: float) -> None:
    """Raise ValueError unless low < value < infinity."""
    if not value > low:
        raise ValueError(f"{key} must be greater than {low:g}, got {value!r}")
    _finite(key, value)


def at_least(key: str, value: float, low: float) -> None:
    """Raise ValueError unless low <= value < infinity."""
    if not value >= low:
        raise ValueError(f"{key} must be at least {low:g}, got {value!r}")
    _finite(key, value)


def one_of(key: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError unless the value is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(sorted(allowed))}, got {value!r}")


def bare_name(key: str, value: str) -> None:
    """Raise ValueError unless the value can name a folder, a DVC stage and a column alike."""
    if not _BARE_NAME.fullmatch(value):
        raise ValueError(f"{key} must be letters, digits, '_' and '-', the first a letter or digit, got {value!r}")


def sub_path(key: str, value: str) -> None:
    """Raise ValueError unless the value is a relative path that stays below where it starts, on any platform."""
    path = PureWindowsPath(value)  # knows both separators and drives
    if path.anchor or not path.parts or ".." in path.parts or min(value) < " ":
        raise ValueError(f"{key} must be a relative path without '..', got {value!r}")


def _finite(key: str, value: float) -> None:
    if value == math.inf:  # not math.isfinite, which no integer beyond 1e308 passes
        raise ValueError(f"{key} must be finite, got {value!r}")
