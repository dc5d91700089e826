"""What the train stages left in `models/`, checked and put beside the truth.

Only JSON and CSV are read: the report needs no weights. A further split is any split beside train and test; its clips
are predicted as the test clips are, and those of them that have a label are scored. Shapes: N clips, C classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.evaluation.fusion_effect import FusionEffect
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import read_predictions, read_table
from mer_pnao.outs.names import POSTERIOR, PREDICTIONS, PROBE, SYSTEMS, TITLES, TRAINVAL, WEIGHTS, further_seeds
from mer_pnao.outs.record import Record, SingleNetworks, record_folders
from mer_pnao.report.words import FINAL_WITH_PROBE

_WEIGHTS = ["bin_left", "bin_right", "share"]  # of Fig. 4's histogram; the bins are the same in all rounds


@dataclass(frozen=True)
class System:
    """A system's rounds and the predictions of the best one, each split in the truth's order."""

    name: str
    directory: Path
    rounds: tuple[Record, ...]  # a system without rounds has a single record
    best: Record
    weights: Mapping[int, pd.DataFrame]  # round -> Fig. 4's histogram: bin_left, bin_right, share
    trainval: pd.DataFrame  # out-of-fold predictions: name, discrete, valence, confidence, posterior_<label>
    test: pd.DataFrame
    branches: dict[str, NDArray[np.float64]]  # branch -> its posteriors (N, C) for the test clips; empty without any
    repeats: tuple["System", ...] = ()  # the same system trained with the further seeds
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # as test, for each further split
    split: str = "test"  # that `test` is of

    @property
    def trainings(self) -> tuple["System", ...]:
        """The model of record and its repeats, one a seed."""
        return (self, *self.repeats)

    @property
    def title(self) -> str:
        """The row's name in Table 1."""
        return FINAL_WITH_PROBE if self.mixes_probe else TITLES[self.name]

    @property
    def mixes_probe(self) -> bool:
        """Whether the linear probe is a member, as it is of Final where that is asked for."""
        return any(member.system == PROBE for member in self.best.settings.members or ())

    @property
    def seed(self) -> int | None:
        """What it was trained with; the linear probe has none."""
        return self.best.settings.seed

    @property
    def single(self) -> SingleNetworks | None:
        """What the best round's networks do each by itself on the test clips."""
        return self.best.round.single.get(self.split) if self.best.round else None

    @property
    def fusion_effect(self) -> FusionEffect | None:
        """What the fusion changes in them, over the networks of all trainings; None where no record tells."""
        found = [each.single.fusion for each in self.trainings if each.single]
        return sum(found[1:], found[0]) if found else None

    @property
    def parameters_total(self) -> int | None:
        """Of all fold networks, whose mean decides; None where the record does not say how many there are."""
        folds = self.best.settings.folds
        return None if folds is None else folds * self.best.parameters

    @property
    def pruned(self) -> bool:
        """Whether there is more than one round to draw."""
        return len(self.rounds) > 1


@dataclass(frozen=True)
class Evidence:
    """Everything the report is made of: the systems, and the truth of the clips that they all predicted."""

    labels: tuple[str, ...]
    systems: dict[str, System]  # in the order of Table 1
    trainval: pd.DataFrame  # name, speaker, discrete, valence
    test: pd.DataFrame
    data_digest: str
    others: Mapping[str, pd.DataFrame] = field(default_factory=dict)  # further splits, with "" for no emotion
    clips: Mapping[str, int] = field(default_factory=dict)  # of the manifest, by split

    @property
    def branches(self) -> list[str]:
        return list(dict.fromkeys(branch for system in self.systems.values() for branch in system.branches))

    @property
    def speakers(self) -> int:
        """How many speak in the test clips, where they are drawn; 0 where clips are, for fewer than two are known."""
        known = len(set(speakers_of(self.test) or ()))
        return known if known > 1 else 0

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
            return replace(system, test=test, branches={}, repeats=repeats, others={}, split=split)

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
    """Read the systems that exist under `models`, for a truth with columns name, speaker, split, discrete, valence.

    The emotion of a clip in a further split may be "". Clips of the truth that no system predicts (skipped ones) are
    left out. Raises InputError naming the file when a record or a prediction is missing or does not fit, or when two
    systems predict different clips or were trained on different data.
    """
    present = [name for name in SYSTEMS if (models / name).is_dir()]
    if not present:
        raise InputError(f"{models} holds none of the systems {', '.join(SYSTEMS)}")
    systems = {}
    for name in present:
        folders = [models / name, *further_seeds(models / name).values()]
        of_record, *repeats = (_read_training(name, folder, truth, labels) for folder in folders)
        systems[name] = replace(of_record, repeats=tuple(repeats))
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
        digest, expected = training.best.data_digest, first.best.data_digest
        if digest != expected:
            raise InputError(
                f"{training.directory} was trained on data with the digest {digest}, {first.directory} on {expected}"
            )
    if all(scores.dim is None for scores in first.best.scores.values()):  # the networks have learnt no valence
        truth = truth.assign(valence=np.nan)
    return Evidence(
        tuple(labels),
        systems,
        _truth_of(truth, first.trainval),
        _truth_of(truth, first.test),
        first.best.data_digest,
        {split: _truth_of(truth, predictions) for split, predictions in first.others.items()},
        {str(split): count for split, count in truth["split"].value_counts().items()},
    )


def _truth_of(truth: pd.DataFrame, predictions: pd.DataFrame) -> pd.DataFrame:
    columns = ["name", "speaker", "discrete", "valence"]
    return truth.set_index("name", drop=False).loc[predictions["name"], columns].reset_index(drop=True)


def _read_training(name: str, directory: Path, truth: pd.DataFrame, labels: Sequence[str]) -> System:
    folders = record_folders(directory) or [directory]
    rounds = tuple(map(Record.read, folders))
    chosen = [place for place, each in enumerate(rounds) if each.round and each.round.best]
    if len(rounds) > 1 and len(chosen) != 1:
        raise InputError(f"{directory} must mark exactly one of its {len(rounds)} rounds as best, not {len(chosen)}")
    best = chosen[0] if chosen else 0
    weights = {
        each.number: read_table(folder / WEIGHTS, _WEIGHTS)
        for folder, each in zip(folders, rounds, strict=True)
        if (folder / WEIGHTS).exists()
    }
    predictions = read_predictions(folders[best] / PREDICTIONS, labels)
    columns = ["name", "discrete", "valence", "confidence", *(POSTERIOR + label for label in labels)]

    def in_order(split: str, source: str) -> pd.DataFrame:
        return predictions.rows(split, truth.loc[truth["split"] == source, "name"].tolist())[columns]

    splits = ["test", *(split for split in truth["split"].unique() if split not in ("train", "test"))]
    tests = {split: in_order(split, split) for split in splits}
    for split, each in tests.items():
        if each.empty:
            raise InputError(f"{predictions.path} holds no prediction for the split {split!r}")
    test = tests.pop("test")
    of_branches = predictions.branch_posteriors("test", test["name"].tolist())
    return System(
        name,
        directory,
        rounds,
        rounds[best],
        weights,
        trainval=in_order(TRAINVAL, "train"),
        test=test,
        branches={branch: of_branches[:, place] for place, branch in enumerate(predictions.branches)},
        others=tests,
    )
