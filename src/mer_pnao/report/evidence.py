"""What the train stages left in `models/`, checked and put beside the truth.

Only JSON and CSV are read: the report needs no weights. A further split is any split beside train and test; its clips
are predicted as the test clips are, and those of them that have a label are scored. Shapes: N clips, C classes.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mer_pnao.evaluation.scores import Scores
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import BRANCHES, POSTERIOR, PREDICTIONS, SYSTEMS, TITLES, WEIGHT, further_seeds


@dataclass(frozen=True)
class Round:
    """One round's record; a system without rounds has a single one."""

    number: int
    best: bool
    trainval: Scores | None
    test: Scores | None
    others: dict[str, Scores]  # of the further splits that have labels
    parameters: int | None
    parameters_ratio: float | None  # to the dense network
    latency_ms: float | None
    naor: float | None
    kept: dict[str, tuple[float, float]]  # prunable layer -> nodes left (mean over the folds), nodes when dense
    nothing_pruned: bool
    weights: pd.DataFrame | None  # Fig. 4's histogram: bin_left, bin_right (the same in all rounds), share


@dataclass(frozen=True)
class System:
    """A system's rounds and the predictions of the best one, each split in the truth's order."""

    name: str
    directory: Path
    seed: int | None  # that it was trained with; the linear probe has none
    rounds: tuple[Round, ...]
    best: Round
    trainval: pd.DataFrame  # out-of-fold predictions: name, discrete, valence, confidence, posterior_<label>
    test: pd.DataFrame
    branches: dict[str, NDArray[np.float64]]  # branch -> its posteriors (N, C) for the test clips; empty without any
    data_digest: str | None
    repeats: tuple["System", ...] = ()  # the same system trained with the further seeds
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # as test, for each further split

    @property
    def trainings(self) -> tuple["System", ...]:
        """The model of record and its repeats, one a seed."""
        return (self, *self.repeats)

    @property
    def title(self) -> str:
        """The row's name in Table 1."""
        return TITLES[self.name]

    @property
    def pruned(self) -> bool:
        """Whether there is more than one round to draw."""
        return len(self.rounds) > 1


@dataclass(frozen=True)
class Evidence:
    """Everything the report is made of: the systems, and the truth of the clips that they all predicted."""

    labels: tuple[str, ...]
    systems: dict[str, System]  # in the order of Table 1
    trainval: pd.DataFrame  # name, discrete, valence
    test: pd.DataFrame
    data_digest: str | None
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # further splits, with "" for no emotion

    @property
    def has_valence(self) -> bool:
        """Whether Dim exists on the test split."""
        return bool(self.test["valence"].notna().any())

    def on(self, split: str) -> "Evidence":
        """The same with the labelled clips of a further split in the place of the test clips, and without branches."""
        labelled = (self.others[split]["discrete"] != "").to_numpy()

        def turned(system: System) -> System:
            repeats = tuple(map(turned, system.repeats))
            test = system.others[split][labelled].reset_index(drop=True)
            return replace(system, test=test, branches={}, repeats=repeats, others={})

        systems = {name: turned(system) for name, system in self.systems.items()}
        test = self.others[split][labelled].reset_index(drop=True)
        return replace(self, systems=systems, test=test, others={})

    def classes(self, emotions: pd.Series) -> NDArray[np.int64]:
        """Class indices (N,) of emotions (N,)."""
        return np.array([self.labels.index(emotion) for emotion in emotions], dtype=np.int64)

    def posterior(self, predictions: pd.DataFrame) -> NDArray[np.float64]:
        """The joint posteriors (N, C) of a system's predictions."""
        return predictions[[POSTERIOR + label for label in self.labels]].to_numpy(float)


def read_evidence(models: Path, truth: pd.DataFrame, labels: Sequence[str]) -> Evidence:
    """Read the systems that exist under `models`, for a truth with columns name, split, discrete, valence.

    The emotion of a clip in a further split may be "". Clips of the truth that no system predicts (skipped ones) are
    left out. Raises InputError naming the file when a record or a prediction is missing or does not fit, or when two
    systems predict different clips or were trained on different data.
    """
    present = [name for name in SYSTEMS if (models / name).is_dir()]
    if not present:
        raise InputError(f"{models} holds none of the systems {', '.join(SYSTEMS)}")
    systems = {name: _read_system(models / name, truth, labels) for name in present}
    trainings = [training for system in systems.values() for training in system.trainings]
    first = trainings[0]
    for training in trainings:
        pairs = {"train": (training.trainval, first.trainval), "test": (training.test, first.test)}
        pairs |= {split: (predictions, first.others[split]) for split, predictions in training.others.items()}
        for split, (mine, other) in pairs.items():
            if odd := sorted(set(mine["name"]) ^ set(other["name"])):
                raise InputError(
                    f"{training.directory} and {first.directory} predict different {split} clips: {odd[0]!r}"
                )
    digests = {training.directory: training.data_digest for training in trainings if training.data_digest}
    reference, expected = next(iter(digests.items()), (None, None))
    for directory, digest in digests.items():
        if digest != expected:
            raise InputError(f"{directory} was trained on data with the digest {digest}, {reference} on {expected}")
    return Evidence(
        tuple(labels),
        systems,
        _truth_of(truth, first.trainval),
        _truth_of(truth, first.test),
        expected,
        {split: _truth_of(truth, predictions) for split, predictions in first.others.items()},
    )


def _truth_of(truth: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    columns = ["name", "discrete", "valence"]
    return truth.set_index("name", drop=False).loc[predictions["name"], columns].reset_index(drop=True)


def _read_system(directory: Path, truth: pd.DataFrame, labels: Sequence[str]) -> System:
    folders = [directory, *further_seeds(directory).values()]
    of_record, *repeats = (_read_training(directory.name, folder, truth, labels) for folder in folders)
    return replace(of_record, repeats=tuple(repeats))


def _read_training(name: str, directory: Path, truth: pd.DataFrame, labels: Sequence[str]) -> System:
    records = sorted(directory.glob("round-*/record.json")) or [directory / "record.json"]
    contents = [_read_record(path) for path in records]
    rounds = tuple(_round(path, content) for path, content in zip(records, contents, strict=True))
    chosen = [place for place, each in enumerate(rounds) if each.best]
    if len(rounds) > 1 and len(chosen) != 1:
        raise InputError(f"{directory} must mark exactly one of its {len(rounds)} rounds as best, not {len(chosen)}")
    best = chosen[0] if chosen else 0
    path = records[best].with_name(PREDICTIONS)
    predictions, branches = _read_predictions(path, labels)
    trainval = _in_order(path, predictions, truth, "trainval", "train")
    splits = ["test", *(split for split in truth["split"].unique() if split not in ("train", "test"))]
    tests = {split: _in_order(path, predictions, truth, split, split) for split in splits}
    for split, each in tests.items():
        if each.empty:
            raise InputError(f"{path} holds no prediction for the split {split!r}")
    test = tests.pop("test")
    return System(
        name,
        directory,
        contents[best].get("seed"),
        rounds,
        rounds[best],
        trainval,
        test,
        _read_branches(path.with_name(BRANCHES), branches, test["name"], labels) if branches else {},
        contents[best].get("data_digest"),
        others=tests,
    )


def _read_record(path: Path) -> dict[str, Any]:
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable record: {error}") from error
    if not isinstance(record, dict):
        raise InputError(f"{path} must hold a JSON object, not {type(record).__name__}")
    return record


def _round(path: Path, record: dict[str, Any]) -> Round:
    try:
        scores = record.get("scores") or {}
        kept = {layer: (float(left), float(dense)) for layer, (left, dense) in (record.get("kept") or {}).items()}
        return Round(
            number=int(record.get("round") or 0),
            best=bool(record.get("best", True)),
            trainval=Scores(**scores["trainval"]) if scores.get("trainval") else None,
            test=Scores(**scores["test"]) if scores.get("test") else None,
            others={split: Scores(**each) for split, each in scores.items() if split not in ("trainval", "test")},
            parameters=record.get("parameters"),
            parameters_ratio=record.get("parameters_ratio"),
            latency_ms=record.get("latency_ms"),
            naor=record.get("naor"),
            kept=kept,
            nothing_pruned=bool(record.get("nothing_pruned", False)),
            weights=_read_weights(path.with_name("weights.csv")),
        )
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a round's record: {error}") from error


def _read_weights(path: Path) -> pd.DataFrame | None:
    if not path.exists():
        return None
    table = pd.read_csv(path, dtype=float)
    if missing := [column for column in ("bin_left", "bin_right", "share") if column not in table]:
        raise InputError(f"{path} lacks the column {missing[0]!r}")
    return table


def _read_predictions(path: Path, labels: Sequence[str]) -> tuple[pd.DataFrame, list[str]]:
    """The predictions, and the branches that they were fused from."""
    numbers = ["valence", "confidence", *(POSTERIOR + label for label in labels)]
    columns = ["name", "split", "discrete", *numbers]
    table, others = _read_columns(path, columns, numbers)
    if not (known := table["discrete"].isin(list(labels))).all():
        raise InputError(f"{path} predicts {table['discrete'][~known].iloc[0]!r}, not one of {', '.join(labels)}")
    _require_finite(path, table, numbers[2:])
    return table, [column.removeprefix(WEIGHT) for column in others if column.startswith(WEIGHT)]


def _read_branches(
    path: Path, branches: Sequence[str], clips: pd.Series, labels: Sequence[str]
) -> dict[str, NDArray[np.float64]]:
    """The posteriors of the branches for the test clips, (N, C) each, in the order of the clips."""
    numbers = [POSTERIOR + label for label in labels]
    table, _ = _read_columns(path, ["name", "split", "branch", *numbers], numbers)
    _require_finite(path, table, numbers)
    test = table[table["split"] == "test"]
    posteriors = {}
    for branch in branches:
        part = test[test["branch"] == branch].set_index("name")
        if part.index.has_duplicates or not clips.isin(part.index).all():
            raise InputError(f"{path} must hold one row for each test clip and the branch {branch!r}")
        posteriors[branch] = part.loc[clips, numbers].to_numpy(float)
    return posteriors


def _read_columns(path: Path, columns: list[str], numbers: list[str]) -> tuple[pd.DataFrame, list[str]]:
    """The columns, some of them as numbers, and the names of those that are left out."""
    try:
        # an emotion or a clip may be called "none" or "NA": only numbers can be missing
        table = pd.read_csv(path, dtype=str, keep_default_na=False)
        if missing := [column for column in columns if column not in table]:
            raise InputError(f"{path} lacks the column {missing[0]!r}")
        others = [str(column) for column in table if column not in columns]
        table = table[columns].assign(**{column: table[column].replace("", "nan").astype(float) for column in numbers})
    except (OSError, ValueError) as error:
        raise (error if isinstance(error, InputError) else InputError(f"{path} is not readable: {error}")) from error
    return table, others


def _require_finite(path: Path, table: pd.DataFrame, posteriors: list[str]) -> None:
    finite = np.isfinite(table[posteriors].to_numpy()).all(axis=1)
    if not finite.all():
        clip = table["name"][~finite].iloc[0]
        raise InputError(f"{path} has a posterior that is not finite for the clip {clip!r}")


def _in_order(path: Path, predictions: pd.DataFrame, truth: pd.DataFrame, split: str, source: str) -> pd.DataFrame:
    """The predictions of a split, in the order of the truth's split `source`."""
    part = predictions[predictions["split"] == split].drop(columns="split")
    if (twice := part["name"].duplicated()).any():
        raise InputError(f"{path} predicts the clip {part['name'][twice].iloc[0]!r} twice in the split {split!r}")
    order = truth.loc[truth["split"] == source, "name"]
    if not (known := part["name"].isin(order)).all():
        clip = part["name"][~known].iloc[0]
        raise InputError(f"{path} predicts the clip {clip!r}, which the manifest does not have in its {source!r} split")
    return part.set_index("name").loc[order[order.isin(part["name"])]].reset_index()
