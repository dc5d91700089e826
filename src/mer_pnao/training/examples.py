"""The labelled clips that networks learn from, as plain arrays.

Shapes: N clips, C classes.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

UNLABELLED = -1  # the emotion of a clip that is predicted and never scored; only further test splits have such


@dataclass(frozen=True)
class Examples:
    """N clips: features, labels and, where known, speakers. Raises ValueError when the lengths differ."""

    names: tuple[str, ...]
    features: Mapping[str, NDArray[np.float32]]  # set -> (N, width)
    emotion: NDArray[np.int64]  # (N,) class indices
    valence: NDArray[np.float32]  # (N,), NaN where a clip has none
    speakers: tuple[str, ...] | None  # one a clip, or unknown
    classes: int  # C

    def __post_init__(self) -> None:
        lengths = {len(self.names), len(self.emotion), len(self.valence), *map(len, self.features.values())}
        lengths |= set() if self.speakers is None else {len(self.speakers)}
        if len(lengths) != 1:
            raise ValueError(f"names, features and labels must be of one length, got {sorted(lengths)}")

    def __len__(self) -> int:
        return len(self.names)

    @property
    def has_valence(self) -> bool:
        """Whether any clip has a valence."""
        return bool(np.isfinite(self.valence).any())

    @property
    def labelled(self) -> NDArray[np.bool_]:
        """Which clips have an emotion, (N,)."""
        return np.asarray(self.emotion != UNLABELLED)

    def without_valence(self) -> "Examples":
        """The same clips as if none had a valence."""
        return replace(self, valence=np.full_like(self.valence, np.nan))

    def select(self, rows: NDArray[np.int64]) -> "Examples":
        """The clips of the given row numbers, in that order."""
        return Examples(
            tuple(self.names[i] for i in rows),
            {name: values[rows] for name, values in self.features.items()},
            self.emotion[rows],
            self.valence[rows],
            None if self.speakers is None else tuple(self.speakers[i] for i in rows),
            self.classes,
        )

    def joined(self, other: "Examples") -> "Examples":
        """These clips and then the others; where some speakers are known, each other clip has a speaker of its own."""
        parts = [part.speakers or tuple(f"unknown speaker of {name}" for name in part.names) for part in (self, other)]
        known = self.speakers is not None or other.speakers is not None
        return Examples(
            (*self.names, *other.names),
            {name: np.concatenate([values, other.features[name]]) for name, values in self.features.items()},
            np.concatenate([self.emotion, other.emotion]),
            np.concatenate([self.valence, other.valence]),
            (*parts[0], *parts[1]) if known else None,
            self.classes,
        )

    def tensors(self) -> dict[str, Tensor]:
        """The features as float32 tensors, set -> (N, width)."""
        return {name: torch.tensor(values, dtype=torch.float32) for name, values in self.features.items()}

    def digest(self) -> str:
        """SHA-256 of everything in here: what a stored result is allowed to depend on."""
        seen = hashlib.sha256()
        speakers = self.speakers or ()
        seen.update("\0".join([str(self.classes), str(len(speakers)), *self.names, *speakers]).encode())
        for name, values in sorted(self.features.items()):
            seen.update(f"{name}{values.shape}".encode())
            seen.update(np.ascontiguousarray(values, dtype=np.float32).tobytes())
        seen.update(np.ascontiguousarray(self.emotion, dtype=np.int64).tobytes())
        seen.update(np.ascontiguousarray(self.valence, dtype=np.float32).tobytes())
        return seen.hexdigest()
