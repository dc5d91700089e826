"""Which version is the candidate."""

from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.outs.finished import read_finished
from mer_pnao.outs.names import REGISTERED
from mer_pnao.outs.record import round_directories
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import CANDIDATE, find_version, held


def set_candidate(store: Store, models: Path) -> ModelVersion | None:
    """Point `candidate` at the version of the best round that has one, and return it; None where none has.

    The best has the highest Train&Val Com, and the fewer parameters at a tie.
    """
    rounds = [read_finished(folder) for system in REGISTERED for folder in round_directories(models / system)]
    best_first = sorted(rounds, key=lambda finished: (-finished.record.com, finished.record.parameters))
    version = next(filter(None, (find_version(store, finished) for finished in best_first)), None)
    if version is not None and held(store, CANDIDATE) != int(version.version):
        store.client.set_registered_model_alias(NAME, CANDIDATE, version.version)
    return version
