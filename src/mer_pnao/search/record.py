"""What a search found, as plain values: for the report, for MLflow and for `best_params.yaml`."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from mer_pnao.params.search_space import Knob, Value


@dataclass(frozen=True)
class RoundRecord:
    """A trained round of a trial; all scores are out of fold."""

    key: str  # of the round store
    parameters: int
    dis: float
    dim: float | None
    com: float


@dataclass(frozen=True)
class TrialRecord:
    """A trial that counts: one that ran to its end, or was given up after some rounds."""

    number: int
    complete: bool
    values: Mapping[str, Value]  # what was drawn, and the number of rounds that was read from the curve
    rounds: tuple[RoundRecord, ...]  # all that were trained
    dense: int  # parameters before the first pruning
    hits: int  # rounds that the store knew
    misses: int
    started: float  # in seconds since 1970
    seconds: float
    replaces: int | None  # the trial whose worker was lost
    own: bool  # the profile's own values

    @property
    def best_round(self) -> int:
        """The round that counts: the last one of a run with the trial's values."""
        return int(self.values["rounds"])

    @property
    def best(self) -> RoundRecord:
        return self.rounds[self.best_round]

    @property
    def parameters_ratio(self) -> float:
        """The best round's share of the dense parameters."""
        return self.best.parameters / self.dense

    @property
    def hit_rate(self) -> float:
        """The share of the trial's rounds that were known."""
        return self.hits / (self.hits + self.misses)


@dataclass(frozen=True)
class StudyRecord:
    """A study with all its trials that count, by number."""

    name: str
    profile: str
    objectives: tuple[str, ...]
    com_at_least: float
    knobs: tuple[Knob, ...]
    settings: Mapping[str, Any]  # the sections of params.yaml that the trials' values depend on, without the knobs
    data_digest: str  # of the training clips
    trials: tuple[TrialRecord, ...]
    importances: Mapping[str, float]  # of each knob for Com, by PED-ANOVA; empty with too few trials
    lost: int  # trials whose worker was gone, which were done again
    diverged: int  # trials that failed for good, for their training diverges
    seconds: float  # from the first trial's start to the last one's end

    @property
    def pareto(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.objectives) > 1

    @property
    def chosen(self) -> TrialRecord | None:
        """The trial of the highest Com, or with two objectives the smallest network of at least `com_at_least`.

        At a tie the smaller network, then the fewer rounds, then the earlier trial; where none reaches it, the highest.
        None without a complete trial.
        """
        complete = [each for each in self.trials if each.complete]
        reaching = [each for each in complete if self.pareto and each.best.com >= self.com_at_least]
        if reaching:
            return min(reaching, key=lambda each: (each.best.parameters, -each.best.com, each.best_round, each.number))
        return min(
            complete,
            key=lambda each: (-each.best.com, each.best.parameters, each.best_round, each.number),
            default=None,
        )

    @property
    def own(self) -> TrialRecord | None:
        """The complete trial of what the profile had when the study began, with the best number of rounds for it."""
        return next((each for each in self.trials if each.own and each.complete), None)

    @property
    def front(self) -> list[TrialRecord]:
        """The complete trials that no other one beats in both Com and size, from the smallest on."""
        front: list[TrialRecord] = []
        complete = [each for each in self.trials if each.complete]
        for each in sorted(complete, key=lambda each: (each.best.parameters, -each.best.com, each.number)):
            if not front or each.best.com > front[-1].best.com:
                front.append(each)
        return front

    @property
    def hit_rate(self) -> float:
        """The share of all the trials' rounds that were known."""
        asked = sum(each.hits + each.misses for each in self.trials)
        return sum(each.hits for each in self.trials) / asked if asked else 0.0
