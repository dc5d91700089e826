"""Range checks for the domain values: one sentence naming key, value and range."""

from collections.abc import Collection


def between(key: str, value: float, low: float, high: float) -> None:
    """Raise ValueError unless low <= value <= high."""
    if not low <= value <= high:
        raise ValueError(f"{key} must lie in [{low:g}, {high:g}], got {value!r}")


def above(key: str, value: float, low: float) -> None:
    """Raise ValueError unless value > low."""
    if not value > low:
        raise ValueError(f"{key} must be greater than {low:g}, got {value!r}")


def at_least(key: str, value: float, low: float) -> None:
    """Raise ValueError unless value >= low."""
    if not value >= low:
        raise ValueError(f"{key} must be at least {low:g}, got {value!r}")


def one_of(key: str, value: str, allowed: Collection[str]) -> None:
    """Raise ValueError unless the value is one of the allowed words."""
    if value not in allowed:
        raise ValueError(f"{key} must be one of {', '.join(sorted(allowed))}, got {value!r}")
