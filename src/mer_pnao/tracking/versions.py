"""One registered version a round of the models of record, which are the first seed's, and the alias of the best."""

from collections.abc import Container, Mapping
from pathlib import Path

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.outs.finished import Finished, read_finished
from mer_pnao.outs.names import REGISTERED
from mer_pnao.outs.record import round_directories
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.lineage import Lineage
from mer_pnao.tracking.model_logging import log_packaged_model


def register_round(store: Store, run: str, finished: Finished, lineage: Lineage) -> None:
    """Make the round's run, which holds its packaged model, a version of the registered model, once."""
    if find_version(store, finished) is not None:
        return
    record, settings = finished.record, finished.settings()
    assert record.round is not None
    model = log_packaged_model(store, run, finished)
    tags = {
        "system": record.system,
        "round": str(record.round.number),
        "round_key": record.round.key,
        "seed": settings["seed"],
        "naor": settings.get("naor", ""),
        "alpha": settings["alpha"],
        "com": repr(record.com),
        "parameters": str(record.parameters),
        "data_digest": record.data_digest,
        "profile": record.settings.profile,
        **lineage.tags(),
        "identity": finished.identity(),
    }
    description = (
        f"{record.system}, round {record.round.number}: Com {record.com:.4f} on Train&Val, "
        f"{record.parameters:,} parameters."
    )
    store.client.create_model_version(NAME, f"models:/{model}", run, tags, description=description, model_id=model)


def find_version(store: Store, finished: Finished) -> ModelVersion | None:
    """The version of a round; None when it has none."""
    found = store.client.search_model_versions(f"name = '{NAME}' AND tags.identity = '{finished.identity()}'")
    return found[0] if found else None


def tag_versions(store: Store, runs: Container[str], tags: Mapping[str, str]) -> None:
    """Set the tags that differ on the versions of these runs."""
    for version in store.client.search_model_versions(f"name = '{NAME}'"):
        if version.run_id in runs:
            for name in (name for name, value in tags.items() if version.tags.get(name) != value):
                store.client.set_model_version_tag(NAME, version.version, name, tags[name])


def set_candidate(store: Store, models: Path) -> None:
    """Point `candidate` at the registered round of the highest Train&Val Com, the smaller one at a tie."""
    rounds = [read_finished(folder) for system in REGISTERED for folder in round_directories(models / system)]
    best_first = sorted(rounds, key=lambda finished: (-finished.record.com, finished.record.parameters))
    version = next(filter(None, (find_version(store, finished) for finished in best_first)), None)
    if version is not None and CANDIDATE not in version.aliases:
        store.client.set_registered_model_alias(NAME, CANDIDATE, version.version)


CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"
