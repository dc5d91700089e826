"""The space of a search: which values of `params.yaml` are open, and on which grids.

Trials draw points of one grid, each once. Those with one alpha meet in the round store: they share the sparse training.
The number of rounds is not drawn but read from a trial's curve.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

import numpy as np

from mer_pnao.foundations.checks import above, at_least, between
from mer_pnao.network.blueprint import NetworkConfig
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.training.config import TrainingConfig

SECTIONS = {  # where an open value stands in params.yaml
    "naor": "pnao",
    "alpha": "pnao",
    "rounds": "pnao",
    "hidden": "network",
    "width": "network",
    "dropout": "network",
    "scorer": "network",
    "learning_rate": "training",
}
CONFIGS = {"pnao": PnaoConfig, "network": NetworkConfig, "training": TrainingConfig}
_LOGARITHMIC = ("naor", "alpha", "hidden", "width", "learning_rate")
Value = float | int | str


@dataclass(frozen=True)
class LogGrid:
    """Points at equal ratios, both ends among them. Raises ValueError naming key, value and range."""

    low: float
    high: float
    points: int

    def __post_init__(self) -> None:
        above("low", self.low, 0)
        at_least("high", self.high, self.low)
        between("points", self.points, 1, 1000)
        if self.points == 1 and self.high > self.low:
            raise ValueError(f"points must be at least 2 to hold both {self.low:g} and {self.high:g}, got 1")
        if len(set(self.values)) < self.points:
            raise ValueError(
                f"points must leave values between {self.low:g} and {self.high:g} that differ in three digits, "
                f"got {self.points}"
            )

    @property
    def values(self) -> tuple[float, ...]:
        """The points, those between the ends rounded to three digits, for people read and write them."""
        between_ends = np.geomspace(self.low, self.high, self.points)[1:-1]
        inner = [float(f"{value:.3g}") for value in between_ends]
        return (self.low, *inner, self.high)[: self.points]


@dataclass(frozen=True)
class WholeRange:
    """Every whole number from low to high. Raises ValueError naming key, value and range."""

    low: int
    high: int

    def __post_init__(self) -> None:
        at_least("high", self.high, self.low)


@dataclass(frozen=True)
class SearchConfig:
    """What `mer search` tries. A list without values leaves the profile's value as it is.

    Raises ValueError naming key, value and range.
    """

    trials: int = 25  # distinct trainings that are finished or given up, over all workers
    naor: LogGrid = LogGrid(0.0125, 0.2, 5)
    alpha: LogGrid = LogGrid(3e-5, 3e-3, 5)
    rounds: WholeRange = WholeRange(2, 8)  # a trial trains all, and its best one from low on counts
    hidden: tuple[int, ...] = ()
    width: tuple[int, ...] = ()
    dropout: tuple[float, ...] = ()
    scorer: tuple[str, ...] = ()
    learning_rate: tuple[float, ...] = ()
    com_at_least: float = 0.0  # with `--objectives com,parameters`: the smallest network that reaches it is chosen

    def __post_init__(self) -> None:
        between("trials", self.trials, 1, 100_000)
        between("rounds", self.rounds.low, 0, 99)
        between("rounds", self.rounds.high, 0, 99)
        for name in ("hidden", "width", "dropout", "scorer", "learning_rate"):
            _list_fits(name, getattr(self, name))
        for knob in self.knobs():
            for value in knob.grid:
                CONFIGS[knob.section](**{knob.name: value})  # refuses what the science does

    def knobs(self) -> tuple["Knob", ...]:
        """The open values, in one order."""
        rounds = tuple(range(self.rounds.low, self.rounds.high + 1))
        grids: dict[str, tuple[Value, ...]] = {"naor": self.naor.values, "alpha": self.alpha.values, "rounds": rounds}
        grids |= {name: getattr(self, name) for name in SECTIONS if name not in grids}
        return tuple(Knob(name, grid) for name, grid in grids.items() if grid)

    def drawn(self) -> tuple["Knob", ...]:
        """The open values that a trial draws: all but the number of rounds."""
        return tuple(knob for knob in self.knobs() if knob.name != "rounds")

    @property
    def points(self) -> int:
        """How many distinct trainings the grids hold."""
        return prod(len(knob.grid) for knob in self.drawn())


@dataclass(frozen=True)
class Knob:
    """One open value and the grid that it is drawn from, which rises unless it holds words."""

    name: str
    grid: tuple[Value, ...]

    @property
    def section(self) -> str:
        """The section of params.yaml that holds it."""
        return SECTIONS[self.name]

    @property
    def logarithmic(self) -> bool:
        """Whether two values are as far apart as their ratio says, and not their difference."""
        return self.name in _LOGARITHMIC

    @property
    def words(self) -> bool:
        """Whether its values are words, which have no order."""
        return isinstance(self.grid[0], str)

    def holds(self, value: Value) -> bool:
        """Whether a value lies between the ends, or among the words. It need not lie on the grid."""
        return value in self.grid if self.words else self.grid[0] <= value <= self.grid[-1]  # type: ignore[operator]

    def nearest(self, value: Value) -> Value:
        """The grid's value next to one that was drawn; of words the first where it is none of them."""
        if self.words:
            return value if value in self.grid else self.grid[0]
        numbers = np.array([value, *self.grid], dtype=float)
        places = np.log(numbers) if self.logarithmic else numbers
        return self.grid[int(np.abs(places[1:] - places[0]).argmin())]


def _list_fits(name: str, values: Sequence[Value]) -> None:
    if len(values) == 1:
        raise ValueError(f"{name} must hold at least two values, or none, got only {values[0]!r}")
    if name == "scorer":
        if len(set(values)) < len(values):
            raise ValueError(f"{name} must name each word once, got {list(values)}")
    elif list(values) != sorted(set(values)):
        raise ValueError(f"{name} must rise, got {list(values)}")
