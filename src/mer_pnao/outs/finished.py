"""The finished rounds and systems below models/, in MLflow's terms: settings, metrics, curves, an identity.

Nothing here talks to MLflow.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.outs.names import is_further_seed

# What a record says about the result; the rest of it are the settings that led there.
_OUTCOME = {
    "system", "round", "best", "key", "parameters", "parameters_ratio", "latency_ms", "scores", "kept",
    "pruned_nodes", "nothing_pruned", "data_digest",
}  # fmt: skip
_FIGURES = ("parameters", "parameters_ratio", "latency_ms", "pruned_nodes")


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    epoch: int
    value: float


@dataclass(frozen=True)
class Finished:
    """A folder with a record: a round, or a system without rounds."""

    directory: Path
    record: Mapping[str, Any]

    @property
    def system(self) -> str:
        """The system that it belongs to."""
        return str(self.record["system"])

    @property
    def number(self) -> int | None:
        """The round; None for a system without rounds."""
        return self.record.get("round")

    @property
    def of_record(self) -> bool:
        """Whether the first seed made it. The further seeds' folders only say how much a seed matters."""
        return not is_further_seed(self.directory if self.number is None else self.directory.parent)

    @property
    def title(self) -> str:
        """The system, for people; of a further seed with the seed."""
        return self.system if self.of_record else f"{self.system} seed {self.record['seed']}"

    @property
    def data_digest(self) -> str:
        """SHA-256 of the data."""
        return str(self.record["data_digest"])

    @property
    def com(self) -> float:
        """Com on Train&Val, the only score that choices are made by."""
        return float(self.record["scores"]["trainval"]["com"])

    def settings(self) -> dict[str, str]:
        """What was asked for, with dotted names, lists joined; what does not apply is left out."""
        chosen = {name: value for name, value in self.record.items() if name not in _OUTCOME}
        return {name: str(value) for name, value in _flat(chosen) if value is not None}

    def system_identity(self) -> str:
        """The same for all rounds of one training of a system, which has one seed, and for the next run of the same."""
        if self.number is None:
            return _digest(self.record)
        return _digest([self.system, self.data_digest, self.settings()])

    def identity(self) -> str:
        """The same for the same round, whenever and wherever it was trained."""
        if self.number is None:
            return self.system_identity()
        return _digest([self.system_identity(), self.number, self.record["key"]])

    def metrics(self) -> dict[str, float]:
        """Scores of each split (`trainval_com`), size, latency, nodes and parameters kept; unknown ones are left out.

        Of each prunable layer: `kept_nodes/<layer>` and `kept_parameters/<layer>`, means over the folds. Raises
        InputError when a file of weights is damaged.
        """
        values = {
            f"{split}_{name}": value
            for split, scores in self.record["scores"].items()
            for name, value in scores.items()
        }
        values |= {name: self.record.get(name) for name in _FIGURES}
        if kept := self.record.get("kept"):
            values["kept_nodes"], dense = (sum(layer[i] for layer in kept.values()) for i in (0, 1))
            values["kept_nodes_ratio"] = values["kept_nodes"] / dense
            values |= {f"kept_nodes/{layer}": nodes for layer, (nodes, _) in kept.items()}
        if weights := sorted(self.directory.glob("*.safetensors")):
            sizes = [_layer_sizes(path, kept or {}) for path in weights]
            values |= {f"kept_parameters/{layer}": fmean(size[layer] for size in sizes) for layer in sizes[0]}
            values["model_bytes"] = sum(path.stat().st_size for path in weights)
        return {name: float(value) for name, value in values.items() if value is not None}

    def curves(self) -> list[Point]:
        """Every figure of every epoch, named `fold0/com`. Raises InputError when curves.csv is damaged."""
        path = self.directory / "curves.csv"
        if not path.is_file():
            return []
        points = []
        try:
            with path.open(newline="", encoding="utf-8") as file:
                for row in csv.DictReader(file):
                    fold, epoch = int(row.pop("fold")), int(row.pop("epoch"))
                    points += [Point(f"fold{fold}/{name}", epoch, float(text)) for name, text in row.items() if text]
        except (KeyError, TypeError, ValueError) as error:
            raise InputError(f"{path} does not hold training curves: {error}") from error
        return [point for point in points if math.isfinite(point.value)]


def read_finished(directory: Path) -> Finished:
    """A finished round or system. Raises InputError naming the file when its record cannot be used."""
    path = directory / "record.json"
    try:
        finished = Finished(directory.resolve(), read_json(path))
        finished.identity()
        finished.metrics()
    except (OSError, KeyError, TypeError, ValueError, AttributeError, AssertionError) as error:
        raise InputError(f"{path} is not the record of a finished round or system: {error!r}") from error
    return finished


def _layer_sizes(path: Path, layers: Iterable[str]) -> dict[str, int]:
    """How many weights and biases each layer has in a network's file, of which only the header is read."""
    try:
        with safe_open(path, "numpy") as file:
            return {
                layer: sum(math.prod(file.get_slice(f"{layer}.{part}").get_shape()) for part in ("weight", "bias"))
                for layer in layers
            }
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} does not hold the weights of the layers that its record names: {error}") from error


def _flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        elif isinstance(value, list):
            yield f"{prefix}{name}", ", ".join(map(str, value))
        else:
            yield f"{prefix}{name}", value


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
