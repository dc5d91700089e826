"""What the systems choose and record, against oracles.

The test set chooses nothing: not the round, not Final's weight, not a bit of a network. Its labels are made so that a
choice by test scores would fall otherwise; every choice must stay as it was.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from safetensors.torch import load_file

from mer_pnao.outs.decisions import read_predictions
from mer_pnao.outs.names import MEMBERS
from mer_pnao.outs.record import best_round_directory
from mer_pnao.params.profile import Params
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.final import combine_final
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.train import run_systems
from mer_pnao.training.examples import Examples

LABELS = ("angry", "neutral", "happy")


@pytest.fixture
def params(small_profile: Params) -> Params:
    return small_profile.model_copy(update={"folds": 2, "pnao": PnaoConfig(naor=0.6, alpha=1e-3, rounds=1)})


@pytest.fixture
def dataset(examples: Examples) -> Dataset:
    rows = np.arange(len(examples))
    return Dataset(examples.select(rows[rows < 90]), examples.select(rows[rows >= 90]), LABELS)


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> DiskRoundStore:
    """Remembers the rounds, so that another test set costs no training."""
    monkeypatch.chdir(tmp_path)
    return DiskRoundStore(tmp_path / "rounds")


@pytest.fixture
def build(params: Params, store: DiskRoundStore, tmp_path: Path) -> Callable[[Dataset, str], Path]:
    def models_of(dataset: Dataset, name: str) -> Path:
        models = tmp_path / name.replace("/", "-")
        for system in MEMBERS:
            list(run_systems({system: models / system}, dataset, params, store))
        combine_final(dataset, ("a", "b"), models, models / "final")
        return models

    return models_of


def flattering(dataset: Dataset, predictions: Path) -> Dataset:
    """The dataset with a test set whose truth is what these predictions say: their Com on it is 1."""
    decisions = read_predictions(predictions, LABELS).decisions("test", dataset.test.names)
    emotion, valence = decisions.posterior.argmax(axis=1), decisions.valence.astype(np.float32)
    return replace(dataset, test=replace(dataset.test, emotion=emotion, valence=valence))


def chosen(models: Path) -> tuple[dict[str, str], dict[str, bytes], str]:
    """Everything that was chosen or trained, and nothing that was measured on the test set."""
    best = {system: best_round_directory(models / system).name for system in MEMBERS}
    networks = {str(path.relative_to(models)): path.read_bytes() for path in models.rglob("fold-*.safetensors")}
    return best, networks, (models / "final/config.json").read_text()


def com_on_test(directory: Path) -> float:
    return float(json.loads((directory / "record.json").read_text())["scores"]["test"]["com"])


def test_whatever_the_test_set_flatters_the_choices_stay(
    build: Callable[[Dataset, str], Path], store: DiskRoundStore, dataset: Dataset
) -> None:
    models = build(dataset, "first")
    want = chosen(models)
    assert len(want[1]) == len(MEMBERS) * 2 * 2
    trained = store.misses
    # Each round is flattered once, so a choice by test would fall on each once, and on either member of Final.
    for system in MEMBERS:
        for directory in sorted((models / system).glob("round-*")):
            name = f"{system}/{directory.name}"
            flattered = build(flattering(dataset, directory / "predictions.csv"), f"flattering-{name}")
            assert com_on_test(flattered / name) == pytest.approx(1.0)
            assert [com_on_test(path) for path in (flattered / system).glob("round-*")].count(1.0) == 1
            assert chosen(flattered) == want
    assert store.misses == trained  # nor was anything trained again


def test_the_folds_of_every_system_keep_speakers_apart(params: Params, dataset: Dataset) -> None:
    folds, speakers = folds_of(dataset.train, params), dataset.train.speakers or ()
    judges = {(speaker, int(fold)) for speaker, fold in zip(speakers, folds, strict=True)}
    assert len(judges) == len(set(speakers)) > 2
    assert {fold for _, fold in judges} == {0, 1}


def test_the_weights_of_figure_4_are_those_of_the_saved_networks(
    build: Callable[[Dataset, str], Path], dataset: Dataset
) -> None:
    """Shares of all folds' weights (no biases, no statistics) in a hundred bins from -.5 to .5, the last ones open."""
    models = build(dataset, "first")
    for directory in sorted(models.glob("*pnao/round-*")):
        values = np.concatenate(
            [
                tensor.numpy().ravel()
                for path in directory.glob("fold-*.safetensors")
                for name, tensor in load_file(path).items()
                if name.endswith(".weight")
            ]
        ).astype(float)
        table = pd.read_csv(directory / "weights.csv")
        lefts, rights = table["bin_left"].to_numpy(), table["bin_right"].to_numpy()
        assert (lefts[0], rights[-1], len(table)) == (-0.5, 0.5, 100)
        for left, right, share in zip(lefts, rights, table["share"], strict=True):
            above = values >= left if left > -0.5 else np.full(len(values), True)
            below = values < right if right < 0.5 else np.full(len(values), True)
            assert share == pytest.approx((above & below).mean(), abs=2 / len(values))  # an edge may round either way
