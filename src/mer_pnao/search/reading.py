"""A study of Optuna's as the project's own record."""

import warnings
from typing import cast

from optuna import Study
from optuna.importance import PedAnovaImportanceEvaluator, get_param_importances
from optuna.trial import FrozenTrial, TrialState

from mer_pnao.params.search_space import SECTIONS
from mer_pnao.search.record import RoundRecord, StudyRecord, TrialRecord
from mer_pnao.search.sampler import has_diverged
from mer_pnao.search.study import FINISHED, OWN, REPLACES
from mer_pnao.search.trial import OUTCOME, Task, settings_of

_ENOUGH = 10  # complete trials for importances that mean something


def read_record(study: Study, task: Task) -> StudyRecord:
    """What the study holds now."""
    trials = study.get_trials(deepcopy=False)
    finished = [trial for trial in trials if trial.state in FINISHED]
    starts = [trial.datetime_start for trial in finished if trial.datetime_start]
    ends = [trial.datetime_complete for trial in finished if trial.datetime_complete]
    return StudyRecord(
        name=study.study_name,
        profile=task.params.profile,
        objectives=task.objectives,
        com_at_least=task.params.search.com_at_least,
        knobs=task.knobs,
        settings=settings_of(task.params, task.knobs),
        data_digest=task.train.digest(),
        trials=tuple(read_trial(trial) for trial in finished),
        importances=_importances(study),
        lost=sum(REPLACES in trial.user_attrs for trial in trials),
        diverged=sum(map(has_diverged, trials)),
        seconds=(max(ends) - min(starts)).total_seconds() if finished else 0.0,
    )


def read_trial(trial: FrozenTrial) -> TrialRecord:
    """A finished trial."""
    outcome, start, end = trial.user_attrs[OUTCOME], trial.datetime_start, trial.datetime_complete
    assert start
    assert end
    values = {**trial.params, "rounds": outcome["best"]}
    return TrialRecord(
        number=trial.number,
        complete=trial.state == TrialState.COMPLETE,
        values={name: values[name] for name in SECTIONS if name in values},
        rounds=tuple(RoundRecord(**each) for each in outcome["rounds"]),
        dense=outcome["dense"],
        hits=outcome["hits"],
        misses=outcome["misses"],
        started=start.timestamp(),
        seconds=(end - start).total_seconds(),
        replaces=trial.user_attrs.get(REPLACES),
        own=OWN in trial.user_attrs,
    )


def _importances(study: Study) -> dict[str, float]:
    def com(trial: FrozenTrial) -> float:
        return cast(list[float], trial.values)[0]

    if len(set(map(com, study.get_trials(deepcopy=False, states=(TrialState.COMPLETE,))))) < _ENOUGH:
        return {}
    with warnings.catch_warnings(action="ignore"):  # about what Optuna may change one day
        return get_param_importances(study, evaluator=PedAnovaImportanceEvaluator(), target=com)
