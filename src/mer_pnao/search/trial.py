"""One trial: Algorithm 1 with the values that were drawn, judged by out-of-fold Com alone."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Protocol

import numpy as np
from optuna import Trial, TrialPruned
from optuna.trial import FixedTrial

from mer_pnao.foundations.errors import InputError
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.params.profile import Params
from mer_pnao.params.search_space import CONFIGS, SECTIONS, Knob, Value
from mer_pnao.pruning.pnao import optimise_architecture
from mer_pnao.pruning.rounds import Round, RoundStore, best_round
from mer_pnao.systems.cost import parameters
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.optimisation import optimisation_of
from mer_pnao.training.examples import Examples

SYSTEM = "enf_pnao"  # what is searched for: the paper's own, entropy fusion shrunk by PNAO
COM, PARAMETERS = "com", "parameters"  # the objectives
OUTCOME = "outcome"  # a trial's user attribute: what its rounds so far gave


class CountingStore(RoundStore, Protocol):
    """A round store that counts what it knew and what it did not."""

    hits: int
    misses: int


@dataclass(frozen=True)
class Task:
    """Everything that a trial's value depends on, but for what the trial draws. There is no test clip in here."""

    train: Examples
    params: Params
    objectives: tuple[str, ...]  # (COM,) or (COM, PARAMETERS)

    @property
    def knobs(self) -> tuple[Knob, ...]:
        """What a trial finds a value for."""
        return self.params.search.knobs()

    @property
    def drawn(self) -> tuple[Knob, ...]:
        """What a trial draws: all of them but the number of rounds, which is read from its curve."""
        return self.params.search.drawn()

    @property
    def pareto(self) -> bool:
        """Whether there is more than one objective."""
        return len(self.objectives) > 1


def load_task(params: Params, objectives: tuple[str, ...]) -> Task:
    """The profile's training clips; the test clips are dropped as soon as they are read.

    Raises InputError for what `dataset_of` refuses, and for a rule that would make one training of several points.
    """
    if params.pnao.rule != "naor" and params.search.naor.points > 1:
        raise InputError(f"search.naor.points must be 1, for pnao.rule {params.pnao.rule!r} does not read NAOR")
    return Task(dataset_of(params).train, params, objectives)


def draw(trial: Trial | FixedTrial, knobs: Sequence[Knob]) -> dict[str, Value]:
    """A value for every knob: name -> value."""
    return {knob.name: _suggest(trial, knob) for knob in knobs}


def _suggest(trial: Trial | FixedTrial, knob: Knob) -> Value:
    low, high = knob.grid[0], knob.grid[-1]
    if isinstance(low, str):
        return str(trial.suggest_categorical(knob.name, [str(word) for word in knob.grid]))
    if isinstance(low, int):
        return trial.suggest_int(knob.name, low, int(high), log=knob.logarithmic)
    return trial.suggest_float(knob.name, low, float(high), log=knob.logarithmic)


def with_values(profile: Params, values: Mapping[str, Value]) -> Params:
    """The profile with these values in their sections."""
    changes: dict[str, dict[str, Any]] = by_section(values)
    return profile.model_copy(
        update={section: replace(getattr(profile, section), **changed) for section, changed in changes.items()}
    )


def by_section(values: Mapping[str, Value]) -> dict[str, dict[str, Value]]:
    """Drawn values, name -> value, as params.yaml has them: section -> name -> value."""
    sections: dict[str, dict[str, Value]] = {}
    for name, value in values.items():
        sections.setdefault(SECTIONS[name], {})[name] = value
    return sections


def objective(trial: Trial | FixedTrial, task: Task, store: CountingStore) -> tuple[float, ...]:
    """The value of each objective after N rounds, N the best of the space's range, chosen as everywhere by Com.

    All rounds of the range are trained. With one objective the Com of each round in it is reported, and Optuna may give
    the trial up: raises TrialPruned. The user attribute OUTCOME grows round by round, so that a killed trial shows how
    far it came. Raises DivergenceError.
    """
    low, high = task.params.search.rounds.low, task.params.search.rounds.high
    run = optimisation_of(SYSTEM, task.train, with_values(task.params, {**draw(trial, task.drawn), "rounds": high}))
    network = EmotionNetwork(run.blueprint)
    weights, dense = [name for name, _ in network.named_parameters()], parameters(network)
    rounds: list[dict[str, Any]] = []
    before = (store.hits, store.misses)
    for finished in optimise_architecture(run, store):
        rounds.append(_facts(finished, weights))
        hits, misses = store.hits - before[0], store.misses - before[1]
        count = round_count(rounds, low)
        outcome = {"rounds": rounds, "best": count, "dense": dense, "hits": hits, "misses": misses}
        trial.set_user_attr(OUTCOME, outcome)
        if count is not None and not task.pareto:  # an earlier round's Com is nothing that the trial is judged by
            trial.report(finished.scores.com, finished.number)
            if finished.number < high and trial.should_prune():
                raise TrialPruned
    assert count is not None
    best = rounds[count]
    if not task.pareto:
        return (best["com"],)
    trial.set_constraint("com_at_least", task.params.search.com_at_least - best["com"])
    return best["com"], float(best["parameters"])


def round_count(rounds: Sequence[Mapping[str, Any]], low: int) -> int | None:
    """The number N >= low of rounds after which Algorithm 1 has the best network; None before round `low`.

    `rounds` holds a curve's Com and parameters from round 0 on.
    """
    if len(rounds) <= low:
        return None
    return low + best_round((each["com"], each["parameters"]) for each in rounds[low:])


def _facts(finished: Round, weights: Sequence[str]) -> dict[str, Any]:
    """Parameters are counted in the folds' states: to build the networks would cost more than a known round does."""
    size = float(np.mean([sum(fold.state[name].numel() for name in weights) for fold in finished.folds]))
    return {"key": finished.key, "parameters": round(size), **asdict(finished.scores)}


def settings_of(params: Params, knobs: Iterable[Knob]) -> dict[str, Any]:
    """What of params.yaml determines a trial's value beside the knobs, section by section."""
    drawn = {knob.name for knob in knobs}
    settings: dict[str, Any] = {
        "seed": params.seed,
        "folds": params.folds,
        "seeds": [params.seeds[0]],  # the others only say how much a seed matters
        "features": asdict(params.features),
    }
    for section in CONFIGS:
        values = asdict(getattr(params, section))
        settings[section] = {name: value for name, value in values.items() if name not in drawn}
    return settings
