"""A search in MLflow: a parent run a study, a nested run a trial. Derived from the study, and repeatable."""

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Metric, Param, Run, RunTag

from mer_pnao.params.search_space import SECTIONS
from mer_pnao.search.record import StudyRecord, TrialRecord
from mer_pnao.tracking.connection import NAME, UNREACHABLE, Store, one_line, opened
from mer_pnao.tracking.lineage import read_lineage

_FINISHED = "FINISHED"


@dataclass(frozen=True)
class TrackedTrial:
    """What a trial's run holds."""

    number: int
    params: Mapping[str, str]
    metrics: Mapping[str, float]
    curves: Mapping[str, Sequence[float]]  # a value a round
    tags: Mapping[str, str]
    round_key: str  # of its best round: a registered round with the same key is the same model
    started: float  # in seconds since 1970
    seconds: float


def track_study(
    project: Path,
    name: str,
    params: Mapping[str, str],
    tags: Mapping[str, str],
    metrics: Mapping[str, float],
    trials: Sequence[TrackedTrial],
) -> None:
    """Log a study and its trials that are not logged yet; the study's own metrics get a point where they have changed.

    A failure of MLflow is one sentence on stderr: Optuna holds the study, and the next `mer search` catches up.
    """
    try:
        lineage = read_lineage(project)  # before `opened` leaves the working directory
        with opened(project) as store:
            shared = {**lineage.tags(), **tags, "study": name}
            source = {"mlflow.source.name": "mer-pnao", "mlflow.source.type": "LOCAL"}
            start, end = _span(trials)
            parent = _find_or_create(store, f"study {name}", f"search {name}", {**shared, **source}, start)
            run = parent.info.run_id
            nested = {**shared, **source, "mlflow.parentRunId": run}
            versions = _versions(store)
            for trial in trials:
                _log_trial(store, name, trial, nested, versions.get(trial.round_key))
            changed = {key: value for key, value in metrics.items() if parent.data.metrics.get(key) != value}
            now = time.time_ns() // 1_000_000
            known = parent.data.params
            store.client.log_batch(
                run,
                [Metric(key, value, now, len(trials)) for key, value in changed.items()],
                [Param(key, value) for key, value in params.items() if key not in known],
            )
            store.client.set_terminated(run, _FINISHED, end)
    except UNREACHABLE as error:
        sentence = "the study is kept, and the next `mer search` catches up"
        print(f"MLflow is not reachable ({one_line(error)}): {sentence}", file=sys.stderr)


def _log_trial(store: Store, study: str, trial: TrackedTrial, tags: Mapping[str, str], version: str | None) -> None:
    start, end = _span([trial])
    run = _find_or_create(store, f"study {study} trial {trial.number}", f"trial {trial.number:03d}", tags, start)
    wanted = dict(trial.tags) | ({} if version is None else {"registered_version": version})
    fresh = [RunTag(key, value) for key, value in wanted.items() if run.data.tags.get(key) != value]
    if run.info.status == _FINISHED:  # a version may have been registered since, and another trial chosen
        if fresh:
            store.client.log_batch(run.info.run_id, tags=fresh)
        return
    points = [Metric(key, value, start, 0) for key, value in trial.metrics.items()]
    points += [Metric(key, value, start, i) for key, values in trial.curves.items() for i, value in enumerate(values)]
    store.client.log_batch(run.info.run_id, points, [Param(key, value) for key, value in trial.params.items()], fresh)
    store.client.set_terminated(run.info.run_id, _FINISHED, end)


def _span(trials: Sequence[TrackedTrial]) -> tuple[int, int]:
    """When the first of them began and the last one ended, as MLflow counts time: it is told of them later."""
    ends = [each.started + each.seconds for each in trials]
    return round(1000 * min(each.started for each in trials)), round(1000 * max(ends))


def _versions(store: Store) -> dict[str, str]:
    """Round key -> the registered version of that round."""
    runs = {version.run_id: version.version for version in store.client.search_model_versions(f"name = '{NAME}'")}
    keys = {run: store.client.get_run(run).data.tags.get("round_key") for run in runs if run}
    return {key: str(runs[run]) for run, key in keys.items() if key}


def _find_or_create(store: Store, identity: str, name: str, tags: Mapping[str, str], start: int) -> Run:
    found = store.client.search_runs([store.experiment], f"tags.identity = '{identity}'", max_results=1)
    return found[0] if found else store.client.create_run(store.experiment, start, {**tags, "identity": identity}, name)


def track_search(record: StudyRecord, project: Path = Path()) -> None:
    """Log a study and its trials; see `track_study`."""
    chosen = record.chosen
    space = {f"search.{knob.name}": ", ".join(map(str, knob.grid)) for knob in record.knobs}
    metrics = {"trials": float(len(record.trials)), "hit_rate": record.hit_rate}
    if chosen is not None:
        metrics |= {"trainval_com": chosen.best.com, "parameters": float(chosen.best.parameters)}
    track_study(
        project,
        record.name,
        {**space, "objectives": ",".join(record.objectives)},
        {"profile": record.profile, "data_digest": record.data_digest, "kind": "search"},
        metrics,
        [_tracked(trial, trial == chosen) for trial in record.trials],
    )


def _tracked(trial: TrialRecord, chosen: bool) -> TrackedTrial:
    best = trial.best
    metrics = {
        "trainval_com": best.com,
        "trainval_dis": best.dis,
        "parameters": float(best.parameters),
        "parameters_ratio": trial.parameters_ratio,
        "best_round": float(trial.best_round),
        "hit_rate": trial.hit_rate,
        "seconds": trial.seconds,
    }
    if best.dim is not None:
        metrics["trainval_dim"] = best.dim
    tags = {"state": "complete" if trial.complete else "pruned", "chosen": str(chosen).lower()}
    if trial.replaces is not None:
        tags["replaces"] = str(trial.replaces)
    return TrackedTrial(
        trial.number,
        {f"{SECTIONS[name]}.{name}": str(value) for name, value in trial.values.items()},
        metrics,
        {
            "round_com": [each.com for each in trial.rounds],
            "round_parameters": [float(each.parameters) for each in trial.rounds],
        },
        tags,
        best.key,
        trial.started,
        trial.seconds,
    )
