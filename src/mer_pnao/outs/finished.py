"""The finished rounds and systems below models/, in MLflow's terms: settings, metrics, curves, an identity.

Nothing here talks to MLflow.
"""

import csv
import hashlib
import json
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

from safetensors import SafetensorError, safe_open

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import CURVES, is_further_seed
from mer_pnao.outs.record import Record, round_directories

_SECTIONS = (
    dict.fromkeys(
        ("naor", "alpha", "rewind", "scope", "min_nodes", "rule", "ratio", "scorers", "stop_early", "rounds"), "pnao."
    )
    | dict.fromkeys(("acoustic", "visual", "text", "gathered"), "features.")
    | {"probe_c": "evaluation."}
)


class Point(NamedTuple):
    """One value of a curve."""

    name: str
    epoch: int
    value: float


@dataclass(frozen=True)
class Finished:
    """A folder with a record: a round, or a system without rounds."""

    directory: Path
    record: Record

    @property
    def of_record(self) -> bool:
        """Whether the first seed made it. The further seeds' folders only say how much a seed matters."""
        return not is_further_seed(self.directory.parent if self.record.round else self.directory)

    def settings(self) -> dict[str, str]:
        """What was asked for, by the names of params.yaml, lists joined; what does not apply is left out.

        `seed` is that of the training, one of `seeds`; `fold_seed` is params.yaml's `seed`.
        """
        settings = {}
        for name, value in flat(self.record.settings.stated()):
            words = ", ".join(map(str, value)) if isinstance(value, list) else value
            if words is not None:
                settings[f"{_SECTIONS.get(name, '')}{name}"] = str(words)
        return settings

    def training_identity(self) -> str:
        """The same for all rounds of one training as asked for, with one seed, and for the next run of the same.

        On another kind of processor the same settings give other last digits, and so another training: the first
        round's scores tell.
        """
        if self.record.round is None:
            return _digest(self.record.flat())
        first = Record.read(round_directories(self.directory.parent)[0])
        scores = {split: asdict(each) for split, each in first.scores.items()}
        return _digest([self.record.system, self.record.data_digest, self.settings(), scores])

    def identity(self) -> str:
        """The same for the same round of a training."""
        if self.record.round is None:
            return self.training_identity()
        return _digest([self.training_identity(), self.record.round.number, self.record.round.key, self.record.com])

    def metrics(self) -> dict[str, float]:
        """Scores of each split (`trainval_com`), size, nodes and parameters kept; unknown ones are left out.

        Of each prunable layer: `kept_nodes/<layer>` and `kept_parameters/<layer>`, means over the folds. Raises
        InputError when a file of weights is damaged.
        """
        record, of_round = self.record, self.record.round
        values: dict[str, float | None] = {
            f"{split}_{name}": value
            for split, scores in record.scores.items()
            for name, value in asdict(scores).items()
        }
        values |= {"parameters": record.parameters, "parameters_ratio": record.parameters_ratio}
        kept = of_round.kept if of_round else {}
        if of_round:
            values["pruned_nodes"] = of_round.pruned_nodes
        if kept:
            nodes, dense = map(sum, zip(*kept.values(), strict=True))
            values |= {"kept_nodes": nodes, "kept_nodes_ratio": nodes / dense}
            values |= {f"kept_nodes/{layer}": left for layer, (left, _) in kept.items()}
        if weights := sorted(self.directory.glob("fold-*.safetensors")):
            sizes = [_layer_sizes(path, kept) for path in weights]
            values |= {f"kept_parameters/{layer}": fmean(size[layer] for size in sizes) for layer in sizes[0]}
            values["model_bytes"] = sum(path.stat().st_size for path in weights)
        return {name: float(value) for name, value in values.items() if value is not None}

    def curves(self) -> list[Point]:
        """Every figure of every epoch, named `fold0/com`. Raises InputError when curves.csv is damaged."""
        path = self.directory / CURVES
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
    """A finished round or system. Raises InputError naming the file when its record or weights cannot be used."""
    finished = Finished(directory.resolve(), Record.read(directory))
    finished.metrics()
    return finished


def _layer_sizes(path: Path, layers: Iterable[str]) -> dict[str, int]:
    """How many weights and biases each layer has in a network's file, of which only the header is read."""
    try:
        with safe_open(path, "numpy") as file:
            biases = {f"{layer}.bias" for layer in layers}.intersection(file.keys())  # not all have one
            parts = {layer: {f"{layer}.weight"} | biases.intersection({f"{layer}.bias"}) for layer in layers}
            return {
                layer: sum(math.prod(file.get_slice(part).get_shape()) for part in of) for layer, of in parts.items()
            }
    except (OSError, SafetensorError) as error:
        raise InputError(f"{path} does not hold the weights of the layers that its record names: {error}") from error


def flat(values: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Nested values by dotted key, with lists for tuples, as JSON knows them."""
    for name, value in values.items():
        if isinstance(value, Mapping):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", list(value) if isinstance(value, tuple) else value


def _digest(facts: Any) -> str:
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
