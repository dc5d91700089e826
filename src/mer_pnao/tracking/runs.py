"""Runs: a parent for each system, a nested run for each round.

Everything can be repeated: a run is found again by its identity, and a metric that is logged twice with the
same step and time (the run's start) is one point in MLflow.
"""

import json
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run, RunTag
from mlflow.exceptions import MlflowException

from mer_pnao.errors import InputError
from mer_pnao.model_store import SYSTEMS, round_directories
from mer_pnao.tracking.lineage import Lineage, read_lineage
from mer_pnao.tracking.outs import Finished, read_finished
from mer_pnao.tracking.registry import REGISTERED, register_round, set_candidate
from mer_pnao.tracking.store import Store, one_line, opened

_FINISHED = "FINISHED"
_BATCH = 1000  # metrics in one request; MLflow takes no more
_FILES = ("record.json", "config.json", "curves.csv", "weights.csv", "predictions.csv")
_FIGURES = ("confusion", "rounds", "weights")  # those of one system


def log_round(directory: Path, lineage: Lineage) -> None:
    """Log `models/<system>/round-NN/` as a nested run, made if it is not there yet, and register its model.

    Raises InputError for a folder that is no finished round, MlflowException or OSError when MLflow fails.
    """
    finished = read_finished(directory)
    with opened(lineage.project) as store:
        _log_round(store, finished, lineage)


def finish_system(directory: Path, lineage: Lineage) -> None:
    """Log what of `models/<system>/` is not logged yet, and close the parent with the best round's scores.

    The alias `candidate` goes to the best round of this and its sibling folders. Raises what log_round does.
    """
    with opened(lineage.project) as store:
        _finish_system(store, directory.resolve(), lineage)


def track(project: Path, progress: Callable[[int], None] = lambda _: None) -> None:
    """Rebuild runs, versions and alias from the outs in `models/`; a second time changes nothing.

    Progress counts systems. Raises InputError when there is nothing to track or MLflow cannot be reached.
    """
    models = project.resolve() / "models"
    found = [name for name in SYSTEMS if (models / name / "record.json").is_file() or round_directories(models / name)]
    if not found:
        raise InputError(f"{models} holds no finished system: run `make run` or `dvc pull` first")
    lineage, figures = read_lineage(project), project.resolve() / "reports/figures"
    try:
        with opened(project) as store:
            for name in found:
                run = _finish_system(store, models / name, lineage)
                if lineage.dvc_lock is not None:  # while a stage runs, dvc.lock does not know its outs yet
                    _set_tags(store, run, {"dvc_lock": lineage.dvc_lock})
                for kind in _FIGURES:
                    _log_artifact(store, run, figures / f"{kind}_{name}.png", "figures")
                progress(1)
    except (MlflowException, OSError) as error:
        raise InputError(f"MLflow cannot be reached: {one_line(error)}") from error


def _log_round(store: Store, finished: Finished, lineage: Lineage) -> Run:
    parent = _find_or_create(store, finished.system_identity(), finished.system, _system_tags(finished, lineage))
    tags = {
        **_system_tags(finished, lineage),
        "mlflow.parentRunId": parent.info.run_id,
        "round": str(finished.number),
        "round_key": str(finished.record["key"]),
    }
    run = _find_or_create(store, finished.identity(), f"{finished.system} round {finished.number:02d}", tags)
    _fill(store, run, finished, {**finished.settings(), "round": str(finished.number)}, lineage)
    if finished.system in REGISTERED:
        register_round(store, run.info.run_id, finished, lineage)
    return run


def _finish_system(store: Store, directory: Path, lineage: Lineage) -> Run:
    rounds = [read_finished(folder) for folder in round_directories(directory)]
    if not rounds:
        alone = read_finished(directory)
        run = _find_or_create(store, alone.identity(), alone.system, _system_tags(alone, lineage))
        _fill(store, run, alone, alone.settings(), lineage)
        return run
    runs = [_log_round(store, finished, lineage) for finished in rounds]
    parent = _find(store, rounds[0].system_identity())
    assert parent is not None
    best = next((finished for finished in rounds if finished.record["best"]), None)
    if best is None:  # the training has not ended
        return parent
    for finished, run in zip(rounds, runs, strict=True):
        _set_tags(store, run, {"best": str(finished is best).lower()})
    _set_tags(store, parent, {"best_round": str(best.number), "rounds": str(len(rounds))})
    # Another round may have become the best since: what has changed is one more point.
    changed = {name: value for name, value in best.metrics().items() if parent.data.metrics.get(name) != value}
    if changed or parent.info.status != _FINISHED:
        now = time.time_ns() // 1_000_000
        metrics = [Metric(name, value, now, 0) for name, value in changed.items()]
        store.client.log_batch(parent.info.run_id, metrics, _params(best.settings()))
        store.client.log_inputs(parent.info.run_id, [_dataset(best, lineage)])
        store.client.set_terminated(parent.info.run_id, _FINISHED)
    if best.system in REGISTERED:
        set_candidate(store, directory.parent)
    return parent


def _system_tags(finished: Finished, lineage: Lineage) -> dict[str, str]:
    source = {"mlflow.source.name": "mer-pnao", "mlflow.source.type": "LOCAL"}
    return {**lineage.tags(), **source, "system": finished.system, "data_digest": finished.data_digest}


def _find(store: Store, identity: str) -> Run | None:
    found = store.client.search_runs([store.experiment], f"tags.identity = '{identity}'", max_results=1)
    return found[0] if found else None


def _find_or_create(store: Store, identity: str, name: str, tags: Mapping[str, str]) -> Run:
    known = _find(store, identity)
    if known is not None:
        return known
    return store.client.create_run(store.experiment, tags={**tags, "identity": identity}, run_name=name)


def _fill(store: Store, run: Run, finished: Finished, settings: Mapping[str, str], lineage: Lineage) -> None:
    """Log everything into a run that is not finished, and finish it."""
    if run.info.status == _FINISHED:
        return
    client, identity, start = store.client, run.info.run_id, run.info.start_time
    try:
        metrics = [Metric(name, value, start, 0) for name, value in finished.metrics().items()]
        metrics += [Metric(point.name, point.value, start, point.epoch) for point in finished.curves()]
        client.log_batch(identity, params=_params(settings))
        for first in range(0, len(metrics), _BATCH):
            client.log_batch(identity, metrics[first : first + _BATCH])
        client.log_inputs(identity, [_dataset(finished, lineage)])
        for name in _FILES:
            _log_artifact(store, run, finished.directory / name)
    except Exception:
        with suppress(Exception):  # the first failure is the one to tell
            client.set_terminated(identity, "FAILED")
        raise
    client.set_terminated(identity, _FINISHED)


def _log_artifact(store: Store, run: Run, path: Path, folder: str | None = None) -> None:
    """Log the file where there is one."""
    if path.is_file():
        store.client.log_artifact(run.info.run_id, str(path), folder)


def _params(settings: Mapping[str, str]) -> list[Param]:
    return [Param(name, value) for name, value in settings.items()]


def _dataset(finished: Finished, lineage: Lineage) -> DatasetInput:
    """The data set as MLflow lists it, which has room for half a digest; the tag `data_digest` is whole."""
    source = json.dumps({"uri": f"data/{lineage.profile}"})
    dataset = Dataset(lineage.profile, finished.data_digest[:16], "local", source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])


def _set_tags(store: Store, run: Run, tags: Mapping[str, str]) -> None:
    """Set the tags that differ."""
    changed = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    if changed:
        store.client.log_batch(run.info.run_id, tags=changed)
