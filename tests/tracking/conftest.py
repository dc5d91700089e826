"""A project with hand-made outs below models/, in the formats of the training stages."""

import csv
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from mer_pnao.foundations.files import write_json
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.decisions import branches_table, predictions_table
from mer_pnao.outs.networks import RoundModel, write_networks
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.training.fit import Epoch

LABELS = ("neutral", "angry", "happy")
WIDTHS = {"sound-1": 5, "sound-2": 4, "face": 3}
DIGEST = "ab12" * 16
EPOCHS, FOLDS = 4, 2
ROOT = Path(__file__).parents[2]


def pytest_configure(config: pytest.Config) -> None:
    """What MLflow's own use of its libraries warns about is not ours to repair."""
    config.addinivalue_line("filterwarnings", "ignore:The ``noload`` loader strategy:DeprecationWarning")


def make_model(system: str, number: int) -> RoundModel:
    fusion = "attention" if system in ("pnao", "baseline") else "entropy"
    blueprint = Blueprint(
        WIDTHS, ("sound-1", "sound-2"), ("face",), len(LABELS), fusion, NetworkConfig(hidden=6, width=4)
    )
    torch.manual_seed(number)
    networks = tuple(EmotionNetwork(blueprint).eval() for _ in range(FOLDS))
    return RoundModel(system, number, blueprint, LABELS, networks, TrainedOn(80, True, (-1.5, 2.0), {}))


def make_features(clips: int) -> dict[str, torch.Tensor]:
    values = np.random.default_rng(7)
    return {
        name: torch.from_numpy(values.normal(size=(clips, width)).astype(np.float32)) for name, width in WIDTHS.items()
    }


def make_record(system: str, com: float, parameters: int = 1000) -> dict[str, Any]:
    """A record without the fields of a round."""
    scores = {"dis": com + 0.2, "dim": 0.8, "com": com}
    return {
        "system": system,
        "profile": "demo",
        "parameters": parameters,
        "parameters_ratio": parameters / 1000,
        "seed": 0,
        "scores": {"trainval": scores, "test": {name: value - 0.1 for name, value in scores.items()}},
        "data_digest": DIGEST,
    }


def write_finished_round(
    models: Path,
    system: str,
    number: int,
    com: float,
    parameters: int = 1000,
    best: bool = False,
    folder: str = "",
    **changes: Any,
) -> Path:
    directory = models / system / folder / f"round-{number:02d}"
    model = make_model(system, number)
    write_networks(directory, model)
    with (directory / "curves.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(["fold", *Epoch._fields])
        for fold in range(FOLDS):
            for epoch in range(EPOCHS):
                figures = [0.1 * epoch + fold + number + i / 100 for i in range(9)]
                writer.writerow([fold, epoch, *figures])
    features = make_features(6)
    names = [f"clip-{i}" for i in range(6)]
    for make, name in ((predictions_table, "predictions.csv"), (branches_table, "branches.csv")):
        table = make(names, "test", model.decide(features), LABELS, ("sound-1", "sound-2"))
        table.to_csv(directory / name, index=False)
    record = make_record(system, com, parameters)
    record |= {
        "round": number,
        "best": best,
        "key": f"{number}" * 64,
        "naor": 0.05,
        "alpha": 0.0005,
        "rewind": "learning_rate",
        "scope": "network",
        "min_nodes": 2,
        "rounds": 2,
        "fusion": model.blueprint.fusion,
        "acoustic": ["sound-1", "sound-2"],
        "visual": ["face"],
        "algorithm": "c" * 64,
        "folds": FOLDS,
        "network": {"hidden": 6, "width": 4},
        "training": {"epochs": EPOCHS, "learning_rate": 0.002},
        "kept": {
            "branches.sound-1.gathering.modalities.face.inner": [3.5, 6],
            "branches.sound-2.gathering.modalities.face.outer": [4.0, 4],
        },
        "pruned_nodes": 5 * number,
        "nothing_pruned": False,
    }
    write_json(directory / "record.json", record | changes)
    return directory


def write_single(models: Path, system: str, com: float, folder: str = "", **changes: Any) -> Path:
    """A system without rounds."""
    directory = models / system / folder
    directory.mkdir(parents=True)
    write_json(directory / "record.json", make_record(system, com) | changes)
    pd.DataFrame({"name": ["clip-0"], "discrete": ["happy"]}).to_csv(directory / "predictions.csv", index=False)
    return directory


def make_project(folder: Path) -> Path:
    """A project's root without models."""
    folder.mkdir(parents=True)
    shutil.copy(ROOT / "profiles" / "demo.yaml", folder / "params.yaml")
    (folder / "dvc.lock").write_text("schema: '2.0'\n")
    return folder


@pytest.fixture(scope="session")
def outs() -> SimpleNamespace:
    """The helpers above, for tests cannot import a conftest."""
    return SimpleNamespace(
        make_features=make_features,
        make_model=make_model,
        make_project=make_project,
        write_round=write_finished_round,
        write_single=write_single,
        labels=LABELS,
        digest=DIGEST,
        epochs=EPOCHS,
        folds=FOLDS,
    )


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project whose database is made, which takes seconds, and empty."""
    from mer_pnao.tracking.connection import initialise

    root = make_project(tmp_path_factory.mktemp("empty") / "project")
    initialise(root)
    return root


@pytest.fixture
def project(empty: Path, tmp_path: Path) -> Path:
    """A project of the test's own, with an empty database."""
    return Path(shutil.copytree(empty, tmp_path / "project"))


@pytest.fixture(scope="session")
def tracked(empty: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with every kind of system, tracked from its outs. Tests copy it before they change it."""
    from mer_pnao.tracking.runs import track

    root = Path(shutil.copytree(empty, tmp_path_factory.mktemp("tracked") / "project"))
    models = root / "models"
    write_single(models, "linear_probe", 0.20)
    write_finished_round(models, "baseline", 0, 0.25, best=True, naor=None, scope=None, rewind=None)
    write_finished_round(models, "pnao", 0, 0.30)
    write_finished_round(models, "pnao", 1, 0.42, 900, best=True)
    write_finished_round(models, "enf_pnao", 0, 0.31)
    write_finished_round(models, "enf_pnao", 1, 0.42, 800, best=True)  # as good as pnao's, and smaller
    write_finished_round(models, "enf_pnao", 2, 0.41, 700)
    write_single(models, "final", 0.45)
    figures = root / "reports" / "figures"
    figures.mkdir(parents=True)
    (figures / "rounds_pnao.png").write_bytes(b"a figure")
    (figures / "rounds_enf_pnao.png").write_bytes(b"another figure")
    track(root)
    return root
