"""What is tried next: Optuna's TPE, brought to the grid."""

from collections.abc import Sequence
from typing import Any

from optuna.distributions import BaseDistribution
from optuna.samplers import BaseSampler, TPESampler
from optuna.study import Study
from optuna.trial import FrozenTrial

from mer_pnao.params.search_space import Knob
from mer_pnao.pruning.keys import derived_seed


class OnGrid(BaseSampler):
    """TPE whose draws go to the nearest point of each grid, where other trials have been or will be.

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
        return {name: self.knobs[name].nearest(value) for name, value in drawn.items()}

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        """TPE's draw of one value, which is uniform in the first trials, on the grid."""
        drawn = self._tpe.sample_independent(study, trial, param_name, param_distribution)
        return self.knobs[param_name].nearest(drawn)
