"""The aliases of the registered model's versions, and which version is the candidate."""

from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.outs.finished import Finished, read_finished
from mer_pnao.outs.names import REGISTERED
from mer_pnao.outs.record import round_directories
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import find_version

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"


def best_first(models: Path) -> list[Finished]:
    """The finished rounds of the systems that are registered: by Train&Val Com, the smaller one first at a tie."""
    rounds = [read_finished(folder) for system in REGISTERED for folder in round_directories(models / system)]
    return sorted(rounds, key=lambda finished: (-finished.record.com, finished.record.parameters))


def set_candidate(store: Store, models: Path) -> ModelVersion | None:
    """Point `candidate` at the version of the best round that has one, and return it; None where none has."""
    version = next(filter(None, (find_version(store, finished) for finished in best_first(models))), None)
    if version is not None and held(store, CANDIDATE) != int(version.version):
        store.client.set_registered_model_alias(NAME, CANDIDATE, version.version)
    return version


def held(store: Store, alias: str) -> int | None:
    """The version that holds an alias; None where none does."""
    aliases = store.client.get_registered_model(NAME).aliases
    return int(aliases[alias]) if alias in aliases else None
