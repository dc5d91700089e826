"""A search in MLflow: a parent run a study, a nested run a trial. Derived from the study, and repeatable."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from mlflow.entities import Metric, Param

from mer_pnao.params.search_space import SECTIONS
from mer_pnao.search.record import StudyRecord, TrialRecord
from mer_pnao.tracking.connection import FAILURES, NAME, Store, one_line, opened
from mer_pnao.tracking.known import FINISHED, SOURCE, VERSION, find_or_create_run, log_changed, set_tags
from mer_pnao.tracking.lineage import Lineage, read_lineage
from mer_pnao.tracking.stage import tracking_wanted


def search_tracker() -> Callable[[StudyRecord], None]:
    """`track_search`, or nothing when tracking is off. Raises InputError when MER_TRACKING is wrong."""
    return track_search if tracking_wanted() else lambda _: None


def track_search(record: StudyRecord, project: Path = Path()) -> None:
    """Log a study and its trials that are not logged yet; the study's own metrics get a point where they have changed.

    A failure of MLflow is one sentence on stderr: Optuna holds the study, and the next `mer search` catches up.
    """
    try:
        lineage = read_lineage(project)  # before `opened` leaves the working directory
        with opened(project) as store:
            _log_study(store, record, lineage)
    except FAILURES as error:
        sentence = "the study is kept, and the next `mer search` catches up"
        print(f"MLflow could not be told ({one_line(error)}): {sentence}", file=sys.stderr)


def _log_study(store: Store, record: StudyRecord, lineage: Lineage) -> None:
    chosen = record.chosen
    facts = {"profile": record.profile, "data_digest": record.data_digest, "kind": "search", "study": record.name}
    tags = {**lineage.tags(), **SOURCE, **facts}
    start = min(_start(trial) for trial in record.trials)
    parent = find_or_create_run(store, f"study {record.name}", f"search {record.name}", tags, start)
    run, versions = parent.info.run_id, _versions(store)
    for trial in record.trials:
        state = {"state": "complete" if trial.complete else "pruned", "chosen": str(trial == chosen).lower()}
        if trial.replaces is not None:
            state["replaces"] = str(trial.replaces)
        if trial.best.key in versions:  # a registered round with the same key is the same model
            state[VERSION] = versions[trial.best.key]
        _log_trial(store, record.name, trial, {**tags, "mlflow.parentRunId": run}, state)
    params = {f"search.{knob.name}": ", ".join(map(str, knob.grid)) for knob in record.knobs}
    params["objectives"] = ",".join(record.objectives)
    metrics = {"trials": float(len(record.trials)), "hit_rate": record.hit_rate}
    if chosen is not None:
        metrics |= {"trainval_com": chosen.best.com, "parameters": float(chosen.best.parameters)}
    log_changed(store, parent, metrics, step=len(record.trials))
    fresh = [Param(key, value) for key, value in params.items() if key not in parent.data.params]
    store.client.log_batch(run, params=fresh)
    store.client.set_terminated(run, FINISHED, max(_end(trial) for trial in record.trials))


def _log_trial(store: Store, study: str, trial: TrialRecord, tags: Mapping[str, str], state: Mapping[str, str]) -> None:
    start, best = _start(trial), trial.best
    run = find_or_create_run(store, f"study {study} trial {trial.number}", f"trial {trial.number:03d}", tags, start)
    set_tags(store, run, state)  # a version may have been registered since, and another trial chosen
    if run.info.status == FINISHED:
        return
    metrics = {
        "trainval_com": best.com,
        "trainval_dis": best.dis,
        "trainval_dim": best.dim,
        "parameters": best.parameters,
        "parameters_ratio": trial.parameters_ratio,
        "hit_rate": trial.hit_rate,
        "seconds": trial.seconds,
    }
    points = [Metric(key, float(value), start, 0) for key, value in metrics.items() if value is not None]
    for number, each in enumerate(trial.rounds):
        points.append(Metric("round_com", each.com, start, number))
        points.append(Metric("round_parameters", float(each.parameters), start, number))
    params = [Param(f"{SECTIONS[name]}.{name}", str(value)) for name, value in trial.values.items()]
    store.client.log_batch(run.info.run_id, points, params)
    store.client.set_terminated(run.info.run_id, FINISHED, _end(trial))


def _start(trial: TrialRecord) -> int:
    """When it began, in ms as MLflow counts time, which hears of it later."""
    return round(1000 * trial.started)


def _end(trial: TrialRecord) -> int:
    return round(1000 * (trial.started + trial.seconds))


def _versions(store: Store) -> dict[str, str]:
    """Round key -> the registered version of that round."""
    runs = {version.run_id: version.version for version in store.client.search_model_versions(f"name = '{NAME}'")}
    keys = {run: store.client.get_run(run).data.tags.get("round_key") for run in runs if run}
    return {key: str(runs[run]) for run, key in keys.items() if key}
