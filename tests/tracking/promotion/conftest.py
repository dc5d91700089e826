"""A project whose versions have predicted clips that are at hand: who is better than whom is known."""

import json
import shutil
from collections.abc import Mapping
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from mlflow import MlflowClient

from mer_pnao.corpus.manifest import COLUMNS, write_manifest
from mer_pnao.evaluation.scores import score
from mer_pnao.features.sets import write_shard
from mer_pnao.outs.decisions import Decisions, predictions_table
from mer_pnao.outs.networks import RoundModel, read_round, write_networks
from mer_pnao.systems.dataset import Dataset, load_dataset
from mer_pnao.tracking.connection import DATABASE, NAME
from mer_pnao.tracking.promotion.gates import Latency
from mer_pnao.tracking.promotion.reload import Reloads
from mer_pnao.tracking.runs import track

SPLITS = {"train": 12, "test": 80, "noisy": 15, "kept": 40}
BRANCHES = ("sound-1", "sound-2")
WORSE, BETTER, SMALLER = 1, 2, 3  # the versions; BETTER is the candidate, SMALLER decides as BETTER does


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / DATABASE}")


def aliases_of(root: Path) -> dict[str, int]:
    aliases = client_of(root).get_registered_model(NAME).aliases
    return {name: int(number) for name, number in aliases.items() if name != "candidate"}


def stand(root: Path, **aliases: int) -> None:
    """Point aliases by hand."""
    for alias, version in aliases.items():
        client_of(root).set_registered_model_alias(NAME, alias, str(version))


def in_process(
    root: Path, latency: tuple[float, float] = (1.0, 1.0), shift: float = 0.0
) -> Any:  # a function as `evidence.Reload`
    """Reload from the outs in this process, with the latencies given, and valences that are off by `shift`."""
    folders = {WORSE: "pnao/round-00", BETTER: "pnao/round-01", SMALLER: "enf_pnao/round-00"}

    def reload(candidate: int, champion: int | None, features: Mapping[str, np.ndarray] | None) -> Reloads:
        measured = None if champion is None else Latency(*latency)
        if features is None:
            return Reloads(pd.DataFrame(), measured)
        model = read_round(root / "models" / folders[candidate])
        decisions = model.decide({name: torch.from_numpy(values) for name, values in features.items()})
        names = [str(i) for i in range(len(decisions.valence))]
        table = predictions_table(names, "", decisions, model.labels, BRANCHES).rename(columns={"discrete": "emotion"})
        return Reloads(table.assign(valence=table["valence"] + shift), measured)

    return reload


@pytest.fixture(scope="session")
def registry_tools() -> SimpleNamespace:
    """The helpers above, for tests cannot import a conftest."""
    return SimpleNamespace(
        client_of=client_of,
        aliases_of=aliases_of,
        stand=stand,
        in_process=in_process,
        worse=WORSE,
        better=BETTER,
        smaller=SMALLER,
        clips=SPLITS["test"] + SPLITS["noisy"] + SPLITS["kept"],
    )


@pytest.fixture(scope="session")
def registered(empty: Path, outs: SimpleNamespace, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three versions on the same data, tracked. Tests copy it before they change it."""
    root = Path(shutil.copytree(empty, tmp_path_factory.mktemp("registered") / "project"))
    worse, better = outs.make_model("pnao", 3), outs.make_model("pnao", 4)
    dataset = _write_data(root, worse, better, outs.labels)
    models = root / "models"
    _write(outs, models, dataset, replace(worse, number=0), 0.40, 1000)
    _write(outs, models, dataset, replace(better, number=1), 0.45, 1000, best=True)
    _write(outs, models, dataset, replace(better, system="enf_pnao", number=0), 0.44, 900, best=True)
    probe = outs.write_single(models, "linear_probe", 0.2, data_digest=dataset.digest)
    # The probe is wrong about every clip.
    tables = []
    for split in ("test", "kept"):
        clips = dataset.tests[split]
        wrong = [outs.labels[(i + 1) % len(outs.labels)] for i in clips.emotion]
        tables.append(pd.DataFrame({"name": clips.names, "split": split, "discrete": wrong, "valence": 0.0}))
    pd.concat(tables).to_csv(probe / "predictions.csv", index=False)
    track(root)
    versions = {int(each.version): each.tags for each in client_of(root).search_model_versions(f"name = '{NAME}'")}
    found = {number: (tags["system"], tags["round"]) for number, tags in versions.items()}
    assert found == {WORSE: ("pnao", "0"), BETTER: ("pnao", "1"), SMALLER: ("enf_pnao", "0")}
    return root


@pytest.fixture
def shop(registered: Path, tmp_path: Path) -> Path:
    """The project of three versions, of the test's own."""
    return Path(shutil.copytree(registered, tmp_path / "shop"))


def _write_data(root: Path, worse: RoundModel, better: RoundModel, labels: tuple[str, ...]) -> Dataset:
    """Clips whose truth is what `better` decides, but of every fifth and of `kept`, where it is what `worse` does."""
    r, data = np.random.default_rng(3), root / "data" / "demo"
    names = [f"{split}-{i:03d}" for split, count in SPLITS.items() for i in range(count)]
    widths = better.blueprint.widths
    features = {name: 3 * r.normal(size=(len(names), width)).astype(np.float32) for name, width in widths.items()}
    for name, vectors in features.items():
        write_shard(data / "features" / "stub" / name / "part-00000.parquet", names, vectors)
    tensors = {name: torch.from_numpy(vectors) for name, vectors in features.items()}
    decided = [model.decide(tensors) for model in (better, worse)]
    rows = []
    for i, name in enumerate(names):
        split = name.rpartition("-")[0]
        here = decided[split == "kept" or i % 5 == 0]
        label = labels[i % len(labels)] if split == "train" else labels[int(here.posterior[i].argmax())]
        valence = float(np.clip(here.valence[i], -5, 5))
        known = ("", "") if split == "noisy" else (label, valence)
        rows.append((name, "", *known, f"{split}-{i % 12}", split))
    write_manifest(pd.DataFrame(rows, columns=list(COLUMNS)), data / "manifest.csv")
    return load_dataset(data / "manifest.csv", data / "features", tuple(widths), labels)


def _write(
    outs: SimpleNamespace,
    models: Path,
    dataset: Dataset,
    model: RoundModel,
    com: float,
    parameters: int,
    best: bool = False,
) -> None:
    """A finished round, with what the model predicts."""
    tables = []
    for split, examples in {"trainval": dataset.train, **dataset.tests}.items():
        decisions: Decisions = model.decide(examples.tensors())
        tables.append(predictions_table(examples.names, split, decisions, outs.labels, BRANCHES))
        if split == "test":
            chosen = decisions.posterior.argmax(axis=1)
            test = asdict(score(examples.emotion, chosen, examples.valence, decisions.valence))
    scores = {"trainval": {"dis": com + 0.2, "dim": 0.8, "com": com}, "test": test}
    facts = {"data_digest": dataset.digest, "scores": scores}
    directory = outs.write_round(models, model.system, model.number, com, parameters, best, **facts)
    write_networks(directory, model)
    # In an order of its own, as nothing says that it is the manifest's.
    pd.concat(tables).sample(frac=1, random_state=parameters + model.number).to_csv(
        directory / "predictions.csv", index=False
    )
    assert json.loads((directory / "record.json").read_text())["scores"]["test"] == test
