"""A small models/ tree as the train stages leave it, with known truth."""

import json
import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from mer_pnao.evaluation.scores import Scores, score

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
SLOPE = 0.12  # of skill lost with each round before and after the best one
SKILL = {"linear_probe": 1.6, "baseline": 2.0, "enf": 2.1, "pnao": 2.4, "enf_pnao": 2.6, "final": 3.0}


def make_truth(clips: int, valence: bool, labels: Sequence[str] = LABELS, seed: int = 0) -> pd.DataFrame:
    """Two thirds train, one third test, every label in both; one valence in ten is missing."""
    r = np.random.default_rng(seed)
    shares = np.arange(2 * len(labels), len(labels), -1.0)
    emotion = [
        labels[i // 3 % len(labels)] if i < 3 * len(labels) else r.choice(list(labels), p=shares / shares.sum())
        for i in range(clips)
    ]
    values = np.where(r.random(clips) < 0.1, np.nan, r.normal(0, 1.7, clips)) if valence else np.full(clips, np.nan)
    split = ["test" if i % 3 == 0 else "train" for i in range(clips)]
    names = [f"clip_{i:05d}" for i in range(clips)]
    speakers = [f"speaker-{i % 36:02d}" for i in range(clips)]  # twelve of them in test
    columns = {"name": names, "speaker": speakers, "split": split, "discrete": emotion, "valence": values}
    return pd.DataFrame(columns)


BRANCHES = ("hubert-18", "hubert-19", "hubert-20")


def make_branches(truth: pd.DataFrame, labels: Sequence[str], skill: float, seed: int) -> pd.DataFrame:
    """Each branch's posteriors, the later ones less skilled, in shuffled rows."""
    parts = []
    for place, branch in enumerate(BRANCHES):
        table = make_predictions(truth, labels, skill / (1.5 + place), seed + place)
        posteriors = [f"posterior_{label}" for label in labels]
        parts.append(table[["name", "split", *posteriors]].assign(branch=branch))
    return pd.concat(parts).sample(frac=1, random_state=seed)


def make_predictions(
    truth: pd.DataFrame, labels: Sequence[str], skill: float, seed: int, branches: Sequence[str] = ()
) -> pd.DataFrame:
    """Posteriors that lean to the truth by `skill`, valences that do so too, shuffled rows."""
    r, near = np.random.default_rng(seed), np.random.default_rng(99)  # what is hard is hard for every system
    right = np.array([[label == emotion for label in labels] for emotion in truth["discrete"]])
    logits = skill * right + near.normal(0, 1, right.shape) + r.normal(0, 0.45, right.shape)
    posterior = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    confidence = 1 + (posterior * np.log(posterior)).sum(axis=1) / np.log(len(labels))
    guess = truth["valence"].fillna(0) + r.normal(0, 1.7 / skill, len(truth))
    columns = {
        "name": truth["name"],
        "split": truth["split"].replace("train", "trainval"),
        "discrete": [labels[i] for i in posterior.argmax(axis=1)],
        "valence": guess if truth["valence"].notna().any() else np.nan,
        "confidence": confidence,
    }
    columns |= {f"posterior_{label}": posterior[:, i] for i, label in enumerate(labels)}
    columns |= {f"weight_{branch}": 1 / len(branches) for branch in branches}
    return pd.DataFrame(columns).sample(frac=1, random_state=seed)


def scores_of(truth: pd.DataFrame, predictions: pd.DataFrame, split: str) -> Scores:
    labelled = truth[truth["discrete"] != ""]
    part = predictions[predictions["split"] == split].merge(
        labelled.drop(columns="split"), on="name", suffixes=("", "_true")
    )
    return score(part["discrete_true"], part["discrete"], part["valence_true"], part["valence"])


def write_round(directory: Path, truth: pd.DataFrame, labels: Sequence[str], skill: float, draw: int, **record) -> None:
    directory.mkdir(parents=True)
    branches = () if record["system"] == "linear_probe" else BRANCHES
    predictions = make_predictions(truth, labels, skill, draw, branches)
    predictions.to_csv(directory / "predictions.csv", index=False)
    if branches:
        make_branches(truth, labels, skill, draw).to_csv(directory / "branches.csv", index=False)
    splits = predictions.loc[predictions["name"].isin(truth["name"][truth["discrete"] != ""]), "split"].unique()
    scores = {split: vars(scores_of(truth, predictions, split)) for split in sorted(splits, reverse=True)}
    (directory / "record.json").write_text(
        json.dumps({"profile": "demo", "scores": scores, "data_digest": "d1", **record})
    )


def write_weights(path: Path, number: int) -> None:
    edges = np.linspace(-0.5, 0.5, 101).round(6)
    share = np.exp(-np.abs(edges[:-1] + 0.005) / (0.02 + 0.004 * number))
    table = pd.DataFrame({"bin_left": edges[:-1], "bin_right": edges[1:], "share": share / share.sum()})
    table.to_csv(path, index=False)


def make_models(
    root: Path,
    truth: pd.DataFrame,
    labels: Sequence[str] = LABELS,
    rounds: int = 3,
    best: int = 1,
    seeds: Sequence[int] = (0,),
) -> Path:
    """models/ with every system; the pruned ones have rounds 0 to `rounds` - 1, each seed a best round of its own."""
    for place, seed in enumerate(seeds):
        make_seed(root, truth, labels, rounds, (best + place) % rounds, seed, f"seed-{seed}" if place else "")
    return root


def make_seed(
    root: Path, truth: pd.DataFrame, labels: Sequence[str], rounds: int, best: int, seed: int, folder: str
) -> None:
    common = {"naor": None, "alpha": 1e-5, "rewind": "learning_rate"}
    layers = [
        f"branches.hubert-{level}.gathering.modalities.{name}.{layer}"
        for level in (18, 19, 20)
        for name in (f"hubert-{level}", "manet", "resnet")
        for layer in ("inner", "outer")
    ]
    for place, (system, skill) in enumerate(SKILL.items()):
        if system in ("linear_probe", "final"):
            size = (
                {"parameters": 24_580, "parameters_ratio": None}
                if system == "linear_probe"
                else {"parameters": 1_500_000, "parameters_ratio": 0.7}
            )
            if system == "final":
                size["seed"] = seed
            elif folder:
                continue
            draw = 10 * place + 1000 * seed
            write_round(root / system / folder, truth, labels, skill, draw, system=system, **common, **size)
            continue
        for number in range(rounds if "pnao" in system else 1):
            left = 0.93**number
            directory = root / system / folder / f"round-{number:02d}"
            record = common | {
                "system": system,
                "seed": seed,
                "round": number,
                "best": number == (best if "pnao" in system else 0),
                "parameters": int(1_200_000 * left),
                "parameters_ratio": left,
                "key": f"{number}" * 64,
                "pruned_nodes": 0,
                "nothing_pruned": number == 2,
                "kept": {layer: [round(128 * left ** (1 + i % 5), 1), 128] for i, layer in enumerate(layers)},
            }
            here, draw = skill - SLOPE * abs(number - best), 10 * place + 1000 * seed
            write_round(directory, truth, labels, here, draw, **record)
            write_weights(directory / "weights.csv", number)


@pytest.fixture
def truth() -> pd.DataFrame:
    return make_truth(240, valence=True)


@pytest.fixture
def skipped() -> pd.DataFrame:
    return pd.DataFrame(
        [
            ["sample_00917", "hubert", "skipped", "the file has no audio stream"],
            ["sample_01230", "manet", "whole_frame", "no face in 31 frames <script>alert(1)</script>"],
        ],
        columns=["name", "encoder", "action", "reason"],
    )


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """`make_models`, which makes equal models once and copies them."""
    made: dict[tuple[Any, ...], Path] = {}

    def copy(root: Path, truth: pd.DataFrame, **wanted: Any) -> Path:
        key = (pd.util.hash_pandas_object(truth).to_numpy().tobytes(), *sorted(wanted.items()))
        if key not in made:
            made[key] = make_models(tmp_path_factory.mktemp("models") / "models", truth, **wanted)
        return Path(shutil.copytree(made[key], root))

    return copy


@pytest.fixture
def models(tmp_path: Path, truth: pd.DataFrame, build: Callable[..., Path]) -> Path:
    return build(tmp_path / "models", truth)


@pytest.fixture(scope="session")
def truth_of() -> Callable[..., pd.DataFrame]:
    return make_truth
