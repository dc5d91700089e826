"""The models on disk: `models/<system>/round-NN/`, a network a fold, its record, curves and predictions.

Those are the networks of the first of `seeds`, the system's models of record; what a further seed made of it
lies below `models/<system>/seed-<s>/` in the same way.

No pickle: weights are safetensors, everything else JSON and CSV. These outputs are the truth that the registry and
the report are derived from. Shapes: M branches, N clips, C classes.
"""

import csv
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json, write_json
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork, Prediction, from_state
from mer_pnao.outs.decisions import Decisions
from mer_pnao.outs.names import CONFIG, NOVELTY
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.training.fit import Epoch, predict

_BINS = np.linspace(-0.5, 0.5, 101)  # of Figure 4, the same for every round


@dataclass(frozen=True)
class RoundModel:
    """One round's model: a network a fold, whose decisions are averaged."""

    system: str
    number: int
    blueprint: Blueprint
    labels: tuple[str, ...]
    networks: tuple[EmotionNetwork, ...]
    trained_on: TrainedOn | None = None  # None of one that answers nobody

    def decide(self, features: Mapping[str, Tensor]) -> Decisions:
        """Average the folds' posteriors, valences, branch weights and branches for features (N, width) a set."""
        return average(self.decide_apart(features))

    def decide_apart(self, features: Mapping[str, Tensor]) -> list[Decisions]:
        """Each fold's decisions for features (N, width) a set."""
        return [decisions_of(predict(network, features)) for network in self.networks]


def average(each: Sequence[Decisions]) -> Decisions:
    """The mean of several networks' decisions."""
    return Decisions(*(np.mean(values, axis=0) for values in zip(*(one.arrays for one in each), strict=True)))


def decisions_of(prediction: Prediction) -> Decisions:
    """A network's prediction for N clips as decisions, in float64."""
    clips_first = (
        prediction.posterior,
        prediction.valence,
        prediction.weights.T,
        prediction.log_posteriors.exp().transpose(0, 1),
    )
    return Decisions(*(values.double().numpy() for values in clips_first))


def write_networks(directory: Path, model: RoundModel) -> None:
    """Write a round's networks, `config.json` and what it was trained on into the directory, which is made."""
    directory.mkdir(parents=True, exist_ok=True)
    for fold, network in enumerate(model.networks):
        state = {name: value.contiguous() for name, value in network.state_dict().items()}
        # Not `save_file`, whose files are closed to other users, such as the one that a server runs as.
        (directory / f"fold-{fold}.safetensors").write_bytes(save(state))
    config = {
        "system": model.system,
        "round": model.number,
        "labels": list(model.labels),
        "folds": len(model.networks),
        "blueprint": asdict(model.blueprint),
        "trained_on": model.trained_on and model.trained_on.write(directory),
    }
    write_json(directory / CONFIG, config)


def write_curves(path: Path, folds: Sequence[Sequence[Epoch]]) -> None:
    """Every figure of every epoch, a row a fold and epoch."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["fold", *Epoch._fields])
        writer.writerows([fold, *epoch] for fold, curves in enumerate(folds) for epoch in curves)


def write_weights(path: Path, networks: Sequence[EmotionNetwork]) -> None:
    """The share of all weights in each bin of Figure 4; weights beyond the last bins are counted in them."""
    values = torch.cat([matrix.detach().flatten() for network in networks for matrix in network.weight_matrices()])
    counts, _ = np.histogram(values.clamp(_BINS[0], _BINS[-1]).numpy(), bins=_BINS)
    bins = {"bin_left": _BINS[:-1].round(6), "bin_right": _BINS[1:].round(6), "share": counts / counts.sum()}
    pd.DataFrame(bins).to_csv(path, index=False)


def read_round(directory: Path) -> RoundModel:
    """Load a round's model. Raises InputError naming the file when something is missing or does not fit."""
    path = directory / CONFIG
    try:
        config = read_json(path)
        parts = dict(config["blueprint"])
        parts["config"] = NetworkConfig(**parts["config"])
        parts |= {kind: tuple(parts.get(kind, ())) for kind in ("acoustic", "visual", "text")}
        blueprint = Blueprint(**parts)
        networks = []
        for fold in range(config["folds"]):
            path = directory / f"fold-{fold}.safetensors"
            networks.append(from_state(blueprint, load_file(path)))
        facts = config.get("trained_on")
        path = directory / NOVELTY
        trained_on = TrainedOn.read(directory, facts) if facts else None
    except (OSError, KeyError, TypeError, ValueError, RuntimeError, SafetensorError) as error:
        raise InputError(f"{path} is not a model of this project: {error}") from error
    labels = tuple(config["labels"])
    return RoundModel(config["system"], config["round"], blueprint, labels, tuple(networks), trained_on)
