"""The record follows `models/`.

DVC restores outputs without running a stage (`dvc exp apply`, `dvc checkout`, `dvc pull`, a cached stage), and then
nobody tells MLflow that `models/` holds another training.
"""

import sys
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.finished import read_finished
from mer_pnao.outs.names import REGISTERED, SYSTEMS, further_seeds
from mer_pnao.outs.record import Record, record_folders, round_directories
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import CANDIDATE, VERSION, find_run, find_version, rounds_of, standing
from mer_pnao.tracking.stage import tracking_wanted


def follow_models(store: Store, project: Path) -> None:
    """Log what of `models/` is not on record and point `candidate` at its best round; says on stderr what it did.

    Nothing where tracking is off, or a training has not ended, or a record cannot be read. Within `opened`.
    """
    try:
        _follow(store, project)
    except InputError as error:
        print(f"{error}: the record stays as it is", file=sys.stderr)


def _follow(store: Store, project: Path) -> None:
    models = project.resolve() / "models"
    if not tracking_wanted() or not all(_ended(models / system) for system in REGISTERED):
        return
    before = standing(store).candidate
    if missing := [system for system in SYSTEMS if not _on_record(store, models / system)]:
        from mer_pnao.tracking.runs import log_models  # torch and more, which most calls do not need

        print(f"models/ holds a training of {', '.join(missing)} that is not on record: tracking it", file=sys.stderr)
        log_models(store, project)
    version = set_candidate(store, models)
    if version is not None and int(version.version) != before:
        naor = f", naor {version.tags['naor']}" if "naor" in version.tags else ""
        what = f"{version.tags['system']}, round {version.tags['round']}{naor}"
        said = f"candidate is version {version.version} now ({what}), the best registered round of models/"
        print(said, file=sys.stderr)


def set_candidate(store: Store, models: Path) -> ModelVersion | None:
    """Point `candidate` at the version of the best round that has one, and return it; None where none has.

    The best has the highest Train&Val Com, and the fewer parameters at a tie.
    """
    rounds = [read_finished(folder) for system in REGISTERED for folder in round_directories(models / system)]
    best_first = sorted(rounds, key=lambda finished: (-finished.record.com, finished.record.parameters))
    version = next(filter(None, (find_version(store, finished) for finished in best_first)), None)
    if version is not None and standing(store).candidate != int(version.version):
        store.client.set_registered_model_alias(NAME, CANDIDATE, version.version)
    return version


def _ended(training: Path) -> bool:
    """Whether one of its rounds is marked as the best, which happens after the last one."""
    records = [Record.read(folder).round for folder in record_folders(training)]
    return any(each and each.best for each in records)


def _on_record(store: Store, system: Path) -> bool:
    """Whether every finished training of the system has its run, closed, and every registered round a version."""
    for training in (system, *further_seeds(system).values()):
        rounds = [read_finished(folder) for folder in record_folders(training)]
        if not rounds or not (rounds[0].record.round is None or _ended(training)):
            continue
        run = find_run(store, rounds[0].training_identity())
        if run is None or run.info.status != "FINISHED":
            return False
        if rounds[0].record.system in REGISTERED and rounds[0].of_record:
            known = {each.data.tags.get("round") for each in rounds_of(store, run) if VERSION in each.data.tags}
            if not known >= {str(each.record.number) for each in rounds}:
                return False
    return True
