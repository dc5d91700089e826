"""What a model's training clips were like, which its answers are told with: part of the model, beside its networks."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors.numpy import load_file, save

from mer_pnao.outs.names import NOVELTY
from mer_pnao.training.novelty import Novelty

DRAWN = "has learnt from drawn faces and synthetic voices, and knows nothing about people"


@dataclass(frozen=True)
class TrainedOn:
    """The training clips of a model."""

    clips: int
    drawn: bool  # by the demo, of no real people
    valence: tuple[float, float] | None  # the lowest and the highest; None where none was learnt
    novelty: Mapping[str, Novelty]  # by feature set

    def caveats(self) -> tuple[str, ...]:
        """What holds for every answer of the model, as sentences without a full stop."""
        drawn = (f"the model {DRAWN}",) if self.drawn else ()
        return drawn if self.valence else (*drawn, "no valence was learnt, so the answer's means nothing")

    def distances(self, features: Mapping[str, NDArray[np.float32]]) -> dict[str, NDArray[np.float64]]:
        """Of N clips, set -> (N,) in multiples of what counts as far, for features (N, width) a set."""
        return {name: novelty.distance(features[name]) for name, novelty in self.novelty.items()}

    def write(self, directory: Path) -> dict[str, Any]:
        """Write the novelty's tensors into a folder; returns the rest, as JSON knows it."""
        tensors = {f"{name}.{part}": value for name, each in self.novelty.items() for part, value in _parts(each)}
        (directory / NOVELTY).write_bytes(save(tensors))
        return {"clips": self.clips, "drawn": self.drawn, "valence": self.valence and list(self.valence)}

    @classmethod
    def read(cls, directory: Path, facts: Mapping[str, Any]) -> "TrainedOn":
        """What was written. Raises OSError, SafetensorError, KeyError or TypeError when it is damaged."""
        parts: dict[str, dict[str, Any]] = {}
        for key, value in load_file(directory / NOVELTY).items():
            name, _, part = key.rpartition(".")
            parts.setdefault(name, {})[part] = value
        valence = facts["valence"] and (float(facts["valence"][0]), float(facts["valence"][1]))
        return cls(
            int(facts["clips"]), bool(facts["drawn"]), valence, {key: Novelty(**of) for key, of in parts.items()}
        )


def _parts(novelty: Novelty) -> Iterator[tuple[str, NDArray[np.float32]]]:
    return ((part, np.asarray(value, order="C")) for part, value in asdict(novelty).items())
