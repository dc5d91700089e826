"""A round's `record.json`, or that of a system without rounds: what was asked for, and what came of it."""

import json
from pathlib import Path
from typing import Any, Self

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from mer_pnao.evaluation.fusion_effect import FusionEffect
from mer_pnao.evaluation.scores import Scores
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json, write_json
from mer_pnao.outs.names import RECORD, TRAINVAL

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)


class Member(BaseModel):
    """A system that the final one mixes."""

    model_config = _STRICT

    system: str
    round: int | None  # its best one; the linear probe has none
    weight: float  # its share in the mixture


class Settings(BaseModel):
    """What was asked for. A system states those that it has; None where a round has no such thing."""

    model_config = _STRICT

    profile: str
    algorithm: str | None = None  # digest of the code that trained it
    acoustic: tuple[str, ...] | None = None
    visual: tuple[str, ...] | None = None
    text: tuple[str, ...] | None = None
    gathered: str | None = None
    naor: float | None = None
    alpha: float | None = None
    rewind: str | None = None
    scope: str | None = None
    min_nodes: int | None = None
    rule: str | None = None
    ratio: float | None = None
    scorers: bool | None = None
    stop_early: bool | None = None
    probe_c: float | None = None
    rounds: int | None = None  # of pruning, at most: as asked for
    fusion: str | None = None
    seed: int | None = None  # of the training
    fold_seed: int | None = None
    folds: int | None = None
    network: dict[str, Any] | None = None
    training: dict[str, Any] | None = None
    members: tuple[Member, ...] | None = None

    def stated(self) -> dict[str, Any]:
        """Those that were stated, as JSON knows them."""
        return self.model_dump(mode="json", exclude_unset=True)


class SingleNetworks(BaseModel):
    """What the folds' networks do each by itself, where a decision is otherwise the mean of theirs."""

    model_config = _STRICT

    scores: Scores  # means over the networks
    fusion: FusionEffect  # of all networks' decisions


class RoundOutcome(BaseModel):
    """What only a round has."""

    model_config = _STRICT

    number: int = Field(alias="round")
    best: bool  # of its training, by Train&Val Com; known after the last round
    key: str  # of the round store
    kept: dict[str, tuple[float, int]]  # prunable layer -> nodes left (mean over the folds), nodes when dense
    pruned_nodes: int
    nothing_pruned: bool
    single: dict[str, SingleNetworks] = {}  # test split -> of its labelled clips; earlier versions did not look


class Record(BaseModel):
    """The settings and the outcome of a finished round, or of a system without rounds."""

    model_config = _STRICT

    system: str
    settings: Settings
    round: RoundOutcome | None = None
    parameters: int  # mean over the folds
    parameters_ratio: float | None  # to the dense network; the linear probe has none
    scores: dict[str, Scores]  # split -> of its labelled clips
    data_digest: str  # SHA-256 of the data

    @model_validator(mode="after")
    def _scored(self) -> Self:
        for split in (TRAINVAL, "test"):
            if split not in self.scores:
                raise ValueError(f"scores must have those of {split!r}")
        return self

    @property
    def number(self) -> int:
        """The round; 0 for a system without rounds."""
        return self.round.number if self.round else 0

    @property
    def com(self) -> float:
        """Com on Train&Val, the only score that choices are made by."""
        return self.scores[TRAINVAL].com

    def marked(self, best: bool) -> Self:
        """The record of a round with its mark."""
        assert self.round is not None
        return self.model_copy(update={"round": self.round.model_copy(update={"best": best})})

    def flat(self) -> dict[str, Any]:
        """The file's content: one object, in which the settings and the outcome lie side by side."""
        outcome = self.model_dump(mode="json", by_alias=True, exclude={"settings", "round"})
        # Without what it does not have: a record of an earlier version stays the same.
        of_round = self.round.model_dump(mode="json", by_alias=True, exclude_defaults=True) if self.round else {}
        return {"system": self.system, **self.settings.stated(), **of_round, **outcome}

    def write(self, directory: Path) -> None:
        """Write `record.json`, whole or not at all."""
        write_json(directory / RECORD, self.flat())

    @classmethod
    def read(cls, directory: Path) -> Self:
        """The record of a folder. Raises InputError naming the file when it is none."""
        path = directory / RECORD
        nested: dict[str, Any] = read_json(path, "a readable record")
        for name, part in (("settings", Settings), ("round", RoundOutcome)):
            keys = {field.alias or key for key, field in part.model_fields.items()}
            found = {key: nested.pop(key) for key in keys & nested.keys()}
            nested |= {name: found} if found or part is Settings else {}
        try:
            return cls.model_validate_json(json.dumps(nested))
        except ValidationError as error:
            problem = error.errors()[0]
            key, said = ".".join(map(str, problem["loc"])), problem["msg"]
            raise InputError(f"{path} is not the record of a finished round or system: {key}: {said}") from error


def round_directories(training: Path) -> list[Path]:
    """The finished rounds of a training's folder, in order."""
    return sorted(path.parent for path in training.glob(f"round-*/{RECORD}"))


def record_folders(training: Path) -> list[Path]:
    """A training's finished rounds, or its own folder where it has a record and no rounds."""
    return round_directories(training) or [path.parent for path in training.glob(RECORD)]


def best_round_directory(training: Path) -> Path:
    """The round that its record calls best. Raises InputError when there is none, or a record cannot be read."""
    for directory in round_directories(training):
        of_round = Record.read(directory).round
        if of_round and of_round.best:
            return directory
    raise InputError(f"{training} holds no finished round that is marked as the best one")
