"""Range checks for the domain values: one sentence naming key, value and range."""

import math
import re
from collections.abc import Collection
from pathlib import PureWindowsPath


def between(key: str, value: float, low: float, high: float, ends: str = "[]") -> None:
    """Raise ValueError unless the value lies from low to high; a round bracket in `ends` leaves that end out."""
    if not low <= value <= high or (value == low and ends[0] == "(") or (value == high and ends[1] == ")"):
        raise ValueError(f"{key} must lie in {ends[0]}{low:.12g}, {high:.12g}{ends[1]}, got {value!r}")


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
    if not re.fullmatch("[A-Za-z0-9][A-Za-z0-9_-]*", value):
        raise ValueError(f"{key} must be letters, digits, '_' and '-', the first a letter or digit, got {value!r}")


def lower_name(key: str, value: str) -> None:
    """Raise ValueError unless the value can name a profile or a split."""
    if not re.fullmatch("[a-z0-9_]+", value):
        raise ValueError(f"{key} must be lower-case letters, digits and '_', got {value!r}")


def sub_path(key: str, value: str) -> None:
    """Raise ValueError unless the value is a relative path that stays below where it starts, on any platform."""
    path = PureWindowsPath(value)  # knows both separators and drives
    if path.anchor or not path.parts or ".." in path.parts or min(value) < " ":
        raise ValueError(f"{key} must be a relative path without '..', got {value!r}")


def _finite(key: str, value: float) -> None:
    if value == math.inf:  # not math.isfinite, which no integer beyond 1e308 passes
        raise ValueError(f"{key} must be finite, got {value!r}")
