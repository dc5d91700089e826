"""A study: its name, what it is made of, who takes its next trial, and what becomes of a trial whose worker is gone."""

import warnings
from dataclasses import asdict
from typing import Any

import optuna
from optuna import Study, Trial
from optuna.exceptions import ExperimentalWarning, UpdateFinishedTrialError
from optuna.pruners import NopPruner, PercentilePruner
from optuna.storages import BaseStorage
from optuna.study import StudyDirection
from optuna.trial import FrozenTrial, TrialState

from mer_pnao.outs.finished import flat
from mer_pnao.pruning.keys import hash_of
from mer_pnao.pruning.pnao import algorithm_version
from mer_pnao.search.sampler import DIVERGED, OnGrid, has_diverged, on_grid, values_of
from mer_pnao.search.storage import WorkerRegistry
from mer_pnao.search.trial import COM, PARAMETERS, Task, draw, settings_of

OBJECTIVES = {COM: (COM,), f"{COM},{PARAMETERS}": (COM, PARAMETERS)}
FINISHED = (TrialState.COMPLETE, TrialState.PRUNED)
WORKER, REPLACES, ERROR, OWN = "worker", "replaces", "error", "own"  # a trial's user attributes
_MADE_OF = "made_of"  # a study's
_AXES = {COM: "Com", PARAMETERS: "parameters"}  # as optuna-dashboard calls them
_DIRECTIONS = {COM: StudyDirection.MAXIMIZE, PARAMETERS: StudyDirection.MINIMIZE}

# The worst third is given up, and not before round 2: the rounds' Com is noisy, and grows in some trials late.
_LENIENT = PercentilePruner(67.0, n_startup_trials=5, n_warmup_steps=2, n_min_trials=4)

optuna.logging.set_verbosity(optuna.logging.ERROR)  # it warns of a server that fails with a page of SQL


def _made_of(task: Task) -> dict[str, Any]:
    space = {name: value for name, value in asdict(task.params.search).items() if name != "trials"}
    settings = {**settings_of(task.params, task.knobs), "search": space, "objectives": list(task.objectives)}
    code = algorithm_version()
    return {"settings": settings, "training data": task.train.digest(), "code of the science": code}


def study_name(task: Task) -> str:
    """The same for the same space, training clips, settings and code: all that determines the trials' values."""
    return f"{_family(task)}-{hash_of(_made_of(task))[:12]}"


def _family(task: Task) -> str:
    return f"{task.params.profile}-{'-'.join(task.objectives)}"


def open_study(storage: BaseStorage, task: Task) -> Study:
    """The task's study as a worker sees it. Raises KeyError when there is none."""
    sampler = OnGrid(task.drawn, task.params.seed)
    pruner = NopPruner() if task.pareto else _LENIENT
    return optuna.load_study(study_name=study_name(task), storage=storage, sampler=sampler, pruner=pruner)


def find_or_create(storage: BaseStorage, registry: WorkerRegistry, task: Task) -> tuple[Study, bool]:
    """The task's study, and whether it is new.

    A new one begins with the profile's own values, if its space holds them, so that its best trial is never below them.
    """
    name = study_name(task)
    with registry.exclusive():
        if name in optuna.get_all_study_names(storage):
            return open_study(storage, task), False
        optuna.create_study(
            study_name=name, storage=storage, directions=[_DIRECTIONS[each] for each in task.objectives]
        )
        study = open_study(storage, task)
        study.set_user_attr(_MADE_OF, _made_of(task))
        with warnings.catch_warnings(action="ignore", category=ExperimentalWarning):
            study.set_metric_names([_AXES[each] for each in task.objectives])
        own = {knob.name: getattr(getattr(task.params, knob.section), knob.name) for knob in task.knobs}
        if all(knob.holds(own[knob.name]) for knob in task.knobs):
            study.enqueue_trial({knob.name: own[knob.name] for knob in task.drawn}, user_attrs={OWN: True})
        return study, True


def differences(storage: BaseStorage, task: Task) -> tuple[str, list[str]] | None:
    """The latest other study of the profile and these objectives, and what it was made of that has changed."""
    name, now = study_name(task), _made_of(task)
    others = [
        each
        for each in optuna.get_all_study_summaries(storage, include_best_trial=False)
        if each.study_name.rpartition("-")[0] == _family(task) and each.study_name != name
    ]
    if not others:
        return None
    latest = max(others, key=lambda each: each._study_id)
    before = dict(flat(latest.user_attrs.get(_MADE_OF, {})))
    after = dict(flat(now))
    changed = sorted(key for key in before.keys() | after.keys() if before.get(key) != after.get(key))
    return latest.study_name, [key.removeprefix("settings.") for key in changed]


def finished_trials(study: Study) -> int:
    """How many trials count: those that ran to their end, those that were given up, and those that diverged."""
    return sum(map(_counts, study.get_trials(deepcopy=False)))


def _counts(trial: FrozenTrial) -> bool:
    return trial.state in FINISHED or has_diverged(trial)


def wanted_trials(study: Study, task: Task, budget: int) -> int:
    """How many trials shall count in the end: the budget, or all that a smaller space holds.

    The profile's own values are one more where they lie between the grid's points, unless they failed by themselves.
    """
    own = [trial for trial in study.get_trials(deepcopy=False) if OWN in trial.user_attrs][-1:]
    between = sum(ERROR not in trial.user_attrs and not on_grid(values_of(trial), task.drawn) for trial in own)
    return min(budget, task.params.search.points + between)


def claim(study: Study, registry: WorkerRegistry, worker: str, budget: int, task: Task) -> Trial | None:
    """Take the next trial and draw its values; None where as many as shall count are finished or running.

    Trials of workers that are gone are queued again first, so that they come first.
    """
    with registry.exclusive():
        _requeue_lost(study, registry)
        trials = study.get_trials(deepcopy=False)  # of one moment, for a running one may finish any time
        taken = sum(_counts(trial) or trial.state == TrialState.RUNNING for trial in trials)
        if taken >= wanted_trials(study, task, budget):
            return None
        trial = study.ask()
        draw(trial, task.drawn)  # in here, so that nobody draws the same
        trial.set_user_attr(WORKER, worker)
        return trial


def requeue_lost(study: Study, registry: WorkerRegistry) -> int:
    """Close the trials whose workers are gone and enqueue them again with their values; returns how many."""
    with registry.exclusive():
        return _requeue_lost(study, registry)


def _requeue_lost(study: Study, registry: WorkerRegistry) -> int:
    """Inside the exclusive block. Each step can be repeated, so that a kill between two of them loses no trial."""
    for trial in study.get_trials(deepcopy=False, states=(TrialState.RUNNING,)):
        worker = trial.user_attrs.get(WORKER)  # one that never signed was killed in its own exclusive block
        if worker is None or not registry.is_alive(worker):
            tell(study, trial.number, TrialState.FAIL)
    trials = study.get_trials(deepcopy=False)
    replaced = {trial.user_attrs.get(REPLACES) for trial in trials}
    lost = [
        trial
        for trial in trials
        if trial.state == TrialState.FAIL
        and not {ERROR, DIVERGED} & trial.user_attrs.keys()
        and trial.number not in replaced
    ]
    for trial in lost:
        # One that never signed may have drawn a part, which need not lead to a free point.
        values = values_of(trial) if WORKER in trial.user_attrs else trial.system_attrs.get("fixed_params", {})
        inherited = {OWN: True} if OWN in trial.user_attrs else {}
        study.enqueue_trial(values, user_attrs={REPLACES: trial.number, **inherited})
    return len(lost)


def tell(study: Study, number: int, state: TrialState, values: tuple[float, ...] | None = None) -> None:
    """Finish a trial, unless somebody else has: a worker that was cut off from the server may have been replaced."""
    try:
        study.tell(number, values, state, skip_if_finished=True)
    except UpdateFinishedTrialError:
        return
