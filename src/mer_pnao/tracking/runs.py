"""Runs: a parent for each system and seed, a nested run for each round.

Everything can be repeated: a run is found again by its identity, and a metric that is logged twice with the
same step and time (the run's start) is one point in MLflow.
"""

import json
from collections.abc import Callable, Container, Mapping
from contextlib import suppress
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, Run

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.finished import Finished, read_finished
from mer_pnao.outs.names import (
    BRANCHES,
    CONFIG,
    CURVES,
    PREDICTIONS,
    RECORD,
    REGISTERED,
    SYSTEMS,
    WEIGHTS,
    further_seeds,
)
from mer_pnao.outs.record import record_folders, round_directories
from mer_pnao.tracking.connection import Store, opened, reached
from mer_pnao.tracking.follow import set_candidate
from mer_pnao.tracking.known import FINISHED, SOURCE, find_or_create_run, find_run, log_changed, rounds_of, set_tags
from mer_pnao.tracking.lineage import Lineage, read_lineage
from mer_pnao.tracking.naming import training_name
from mer_pnao.tracking.registration import register_round
from mer_pnao.tracking.views import BY_ROUND, write_views

_BATCH = 1000  # metrics in one request; MLflow takes no more
_FILES = (CONFIG, CURVES, WEIGHTS, PREDICTIONS, BRANCHES)
_FIGURES = ("confusion", "rounds", "weights")  # those of one system


def log_round(directory: Path, lineage: Lineage) -> None:
    """Log `models/<system>/round-NN/` as a nested run, made if it is not there yet, and register its model.

    Raises InputError for a folder that is no finished round, one of `FAILURES` when MLflow fails.
    """
    finished = read_finished(directory)
    with opened(lineage.project) as store:
        _log_round(store, finished, lineage)


def finish_system(directory: Path, lineage: Lineage) -> None:
    """Log what of `models/<system>/` is not logged yet, and close each seed's parent with its best round's scores.

    The alias `candidate` goes to the best round of this and its sibling folders. Raises what log_round does.
    """
    with opened(lineage.project) as store:
        _finish_system(store, directory.resolve(), lineage)
        write_views(store, lineage.project)


def track_total(project: Path) -> int:
    """How many rounds and systems without rounds `track` tells its progress of."""
    models = project.resolve() / "models"
    return sum(len(record_folders(folder)) for name in SYSTEMS for folder in _trainings(models / name))


def track(project: Path, progress: Callable[[int], None] = lambda _: None) -> None:
    """Rebuild runs, versions and alias from the outs in `models/`; a second time changes nothing.

    Progress counts up to `track_total`. Raises InputError when there is nothing to track or MLflow cannot be used.
    """
    models = project.resolve() / "models"
    if not track_total(project):
        raise InputError(f"{models} holds no finished system: run `make run` or `dvc pull` first")
    with reached(project) as store:
        _close_abandoned(store, log_models(store, project.resolve(), progress))


def log_models(store: Store, project: Path, progress: Callable[[int], None] = lambda _: None) -> set[str]:
    """Log everything in `models/`, within `opened`; returns the runs' ids."""
    lineage, models, present = read_lineage(project), project / "models", set[str]()
    lock = {} if lineage.dvc_lock is None else {"dvc_lock": lineage.dvc_lock}  # that of these outs, unlike a stage's
    for name in SYSTEMS:
        if not _trainings(models / name):
            continue
        runs = _finish_system(store, models / name, lineage, progress)
        present |= {run.info.run_id for run in runs}
        for run in runs:
            set_tags(store, run, lock)
        for kind in _FIGURES:  # drawn from the first seed's rounds
            _log_artifact(store, runs[0], project / f"reports/figures/{kind}_{name}.png", "figures")
    write_views(store, project)
    return present


def _trainings(system: Path) -> list[Path]:
    """A system's own folder and its further seeds', those of them that hold anything finished."""
    return [folder for folder in (system, *further_seeds(system).values()) if record_folders(folder)]


def _log_round(store: Store, finished: Finished, lineage: Lineage) -> Run:
    of_round = finished.record.round
    assert of_round is not None
    parent = _training_run(store, finished, lineage)
    tags = {
        **_system_tags(finished, lineage),
        "mlflow.parentRunId": parent.info.run_id,
        "round": str(of_round.number),
        "round_key": of_round.key,
    }
    identity, name = finished.identity(), f"{parent.info.run_name} round {of_round.number:02d}"
    run = find_or_create_run(store, identity, name, tags)
    moved = run.data.tags.get("mlflow.parentRunId") != parent.info.run_id  # the former parent has been deleted
    if moved:
        set_tags(store, run, {"mlflow.parentRunId": parent.info.run_id})
    if moved or run.info.status != FINISHED:
        _log_series(store, parent, finished)
    _fill(store, run, finished, {**finished.settings(), "round": str(of_round.number)})
    if finished.record.system in REGISTERED and finished.of_record:
        register_round(store, run, finished, lineage)
    return run


def _finish_system(
    store: Store, directory: Path, lineage: Lineage, progress: Callable[[int], None] = lambda _: None
) -> list[Run]:
    """Returns the runs of every seed, the first seed's parent first."""
    trainings = _trainings(directory) or [directory]
    return [run for folder in trainings for run in _finish_training(store, folder, lineage, progress)]


def _finish_training(store: Store, directory: Path, lineage: Lineage, progress: Callable[[int], None]) -> list[Run]:
    """Returns the parent and the runs of the rounds."""
    rounds = [read_finished(folder) for folder in round_directories(directory)]
    if not rounds:
        alone = read_finished(directory)
        run = _training_run(store, alone, lineage)
        _fill(store, run, alone, alone.settings())
        progress(1)
        return [run]
    runs = []
    for finished in rounds:
        runs.append(_log_round(store, finished, lineage))
        progress(1)
    parent = find_run(store, rounds[0].training_identity())
    assert parent is not None
    best = next((each for each in rounds if each.record.round and each.record.round.best), None)
    if best is None:  # the training has not ended
        return [parent, *runs]
    best_run = runs[rounds.index(best)].info.run_id
    for run in rounds_of(store, parent):  # which one is the best is known after the last one
        set_tags(store, run, {"best": str(run.info.run_id == best_run).lower()})
    set_tags(store, parent, {"best_round": str(best.record.number), "rounds": str(len(rounds))})
    # Another round may have become the best since: what has changed is one more point.
    whole = {name: value for name, value in best.metrics().items() if "/" not in name}  # not layer by layer
    if log_changed(store, parent, whole, step=0) or parent.info.status != FINISHED:
        store.client.log_inputs(parent.info.run_id, [_dataset(best)])
        ended = parent.info.end_time if parent.info.status == FINISHED else None  # None: now
        store.client.set_terminated(parent.info.run_id, FINISHED, ended)
    if best.record.system in REGISTERED and best.of_record:
        set_candidate(store, directory.parent)
    return [parent, *runs]


def _log_series(store: Store, parent: Run, finished: Finished) -> None:
    """Log a round's figures into its parent, too, with the round as the step: the parent's charts show the rounds."""
    figures, start, step = finished.metrics(), parent.info.start_time, finished.record.number
    metrics = [Metric(there, figures[here], start, step) for here, there in BY_ROUND.items() if here in figures]
    store.client.log_batch(parent.info.run_id, metrics, _params(finished.settings()))


def _close_abandoned(store: Store, present: Container[str]) -> None:
    """Nobody finishes a run that a kill left running and whose outs another training has replaced.

    The same training, should it ever be repeated, finds its run by its identity and finishes it.
    """
    for run in store.client.search_runs([store.experiment], "attributes.status = 'RUNNING'"):
        if "identity" in run.data.tags and run.info.run_id not in present:
            store.client.set_terminated(run.info.run_id, "KILLED")


def _system_tags(finished: Finished, lineage: Lineage) -> dict[str, str]:
    record = finished.record
    facts = {"system": record.system, "data_digest": record.data_digest, "profile": record.settings.profile}
    facts |= {} if record.settings.seed is None else {"seed": str(record.settings.seed)}  # the linear probe has none
    return {**lineage.tags(), **SOURCE, **facts}


def _training_run(store: Store, finished: Finished, lineage: Lineage) -> Run:
    """The parent of a training's rounds, or the run of a system without rounds."""
    identity = finished.training_identity()
    if known := find_run(store, identity):  # without looking for a name, which takes all trainings
        return known
    return find_or_create_run(store, identity, training_name(store, finished), _system_tags(finished, lineage))


def _fill(store: Store, run: Run, finished: Finished, settings: Mapping[str, str]) -> None:
    """Log everything into a run that is not complete, and finish it."""
    if run.info.status == FINISHED:
        return
    client, identity, start = store.client, run.info.run_id, run.info.start_time
    try:
        metrics = [Metric(name, value, start, 0) for name, value in finished.metrics().items()]
        metrics += [Metric(point.name, point.value, start, point.epoch) for point in finished.curves()]
        client.log_batch(identity, params=_params(settings))
        for first in range(0, len(metrics), _BATCH):
            client.log_batch(identity, metrics[first : first + _BATCH])
        client.log_inputs(identity, [_dataset(finished)])
        # Which round is the best is known after the last one and may change with more: the tag tells, not the file.
        settled = {name: value for name, value in finished.record.flat().items() if name != "best"}
        client.log_dict(identity, settled, RECORD)
        for name in _FILES:
            _log_artifact(store, run, finished.directory / name)
    except Exception:
        with suppress(Exception):  # the first failure is the one to tell
            client.set_terminated(identity, "FAILED")
        raise
    client.set_terminated(identity, FINISHED)


def _log_artifact(store: Store, run: Run, path: Path, folder: str | None = None) -> None:
    if path.is_file():
        store.client.log_artifact(run.info.run_id, str(path), folder)


def _params(settings: Mapping[str, str]) -> list[Param]:
    return [Param(name, value) for name, value in settings.items()]


def _dataset(finished: Finished) -> DatasetInput:
    """The data set as MLflow lists it, which has room for half a digest; the tag `data_digest` is whole."""
    profile = finished.record.settings.profile
    source = json.dumps({"uri": f"data/{profile}"})
    dataset = Dataset(profile, finished.record.data_digest[:16], "local", source)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", "training")])
