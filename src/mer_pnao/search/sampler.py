"""What is tried next: Optuna's TPE, brought to a point of the grid that nobody has taken."""

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from math import prod
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from mer_pnao.params.search_space import Knob, Value
from mer_pnao.pruning.keys import derived_seed

DIVERGED = "diverged"  # a trial's user attribute: why it failed for good


def values_of(trial: FrozenTrial) -> dict[str, Value]:
    """What a trial was enqueued with and has drawn."""
    return {**trial.system_attrs.get("fixed_params", {}), **trial.params}


def has_diverged(trial: FrozenTrial) -> bool:
    """Whether a trial failed because its training diverges, as it would again."""
    return trial.state == TrialState.FAIL and DIVERGED in trial.user_attrs


def on_grid(values: Mapping[str, Value], knobs: Iterable[Knob]) -> bool:
    """Whether there is a value for every knob, and each lies on its grid."""
    return all(knob.name in values and values[knob.name] in knob.grid for knob in knobs)


class OnGrid(BaseSampler):
    """TPE whose draws go, knob by knob, to the nearest value of the grid that leads to a point not yet taken.

    A point is taken by a trial that is finished, given up, diverged, running or waiting. Where one failed otherwise, a
    later one may be. A value's draw needs those of the knobs before it, in their order, and a grid with a free point.

    Every trial draws with a seed of its own, made of the search's seed and the trial's number: a search that one
    worker does tries the same in the same order, however often it was interrupted between two trials.
    """

    def __init__(self, knobs: Sequence[Knob], seed: int) -> None:
        self.knobs = {knob.name: knob for knob in knobs}
        self.seed = seed
        self._tpe = TPESampler(seed=seed)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        """Start the trial's own draws."""
        self._tpe = TPESampler(seed=derived_seed(self.seed, trial.number))

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        """What is drawn together: TPE's."""
        return self._tpe.infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        """TPE's draw, on the grid."""
        drawn = self._tpe.sample_relative(study, trial, search_space)
        point: dict[str, Value] = {}
        for name, knob in self.knobs.items() if drawn else ():
            point[name] = self._free(study, knob, drawn.get(name, knob.grid[0]), point)
        return point

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """TPE's draw of one value, which is uniform in the first trials, on the grid."""
        drawn = self._tpe.sample_independent(study, trial, param_name, param_distribution)
        return self._free(study, self.knobs[param_name], drawn, trial.params)

    def _free(self, study: Study, knob: Knob, drawn: Value, point: Mapping[str, Value]) -> Value:
        """The value next to the drawn one behind which, after those that `point` has, a point is free."""
        place = list(self.knobs).index(knob.name)
        behind = prod(len(each.grid) for each in list(self.knobs.values())[place + 1 :])
        before = tuple(point[name] for name in list(self.knobs)[:place])
        taken = Counter(each[place] for each in self._taken(study) if each[:place] == before)
        return replace(knob, grid=tuple(value for value in knob.grid if taken[value] < behind)).nearest(drawn)

    def _taken(self, study: Study) -> Iterator[tuple[Value, ...]]:
        """The grid's points that are taken."""
        for trial in study.get_trials(deepcopy=False):
            values = values_of(trial)
            if (trial.state != TrialState.FAIL or has_diverged(trial)) and on_grid(values, self.knobs.values()):
                yield tuple(values[name] for name in self.knobs)
