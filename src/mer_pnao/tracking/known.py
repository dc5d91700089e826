"""What MLflow knows already, aliases, runs and versions, and what is told it once. Imports MLflow and nothing slow."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities import Metric, Run, RunTag
from mlflow.entities.model_registry import ModelVersion
from mlflow.protos.databricks_pb2 import RESOURCE_DOES_NOT_EXIST

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import NAME, Store, passed_over

if TYPE_CHECKING:
    from mer_pnao.outs.finished import Finished

CANDIDATE, CHAMPION, PREVIOUS = "candidate", "champion", "previous"  # aliases of versions
VERSION = "registered_version"  # tag of a round's run: the version of its networks
FINISHED = "FINISHED"  # status of a run that holds everything
SOURCE = {"mlflow.source.name": "mer-pnao", "mlflow.source.type": "LOCAL"}  # tags of every run


@dataclass(frozen=True)
class Standing:
    """The versions that hold the three aliases."""

    candidate: int | None
    champion: int | None
    previous: int | None


def standing(store: Store) -> Standing:
    """Who holds the aliases now."""
    aliases = store.client.get_registered_model(NAME).aliases
    return Standing(*(int(aliases[name]) if name in aliases else None for name in (CANDIDATE, CHAMPION, PREVIOUS)))


def find_run(store: Store, identity: str) -> Run | None:
    """The run with that tag `identity`; None when there is none."""
    found = store.client.search_runs([store.experiment], f"tags.identity = '{identity}'", max_results=1)
    return found[0] if found else None


def find_or_create_run(
    store: Store, identity: str, name: str, tags: Mapping[str, str], start: int | None = None
) -> Run:
    """The run with that tag `identity`, made with these tags where there is none; start: in ms, None: now."""
    tags = {**tags, "identity": identity}
    return find_run(store, identity) or store.client.create_run(store.experiment, start, tags, name)


def set_tags(store: Store, run: Run, tags: Mapping[str, str]) -> None:
    """Set the tags of a run that differ."""
    changed = [RunTag(name, value) for name, value in tags.items() if run.data.tags.get(name) != value]
    if changed:
        store.client.log_batch(run.info.run_id, tags=changed)


def log_changed(store: Store, run: Run, metrics: Mapping[str, float], step: int) -> bool:
    """Log the metrics of a run that differ, and tell whether any did.

    Of a metric's values at a step MLflow takes the one with the latest time for the current one. So they are later than
    those before by more than what the clock says, which may have been set back since.
    """
    changed = {name: value for name, value in metrics.items() if run.data.metrics.get(name) != value}
    if not changed:
        return False
    before = [each.timestamp for name in changed for each in store.client.get_metric_history(run.info.run_id, name)]
    now = max(time.time_ns() // 1_000_000, 1 + max(before, default=0))
    store.client.log_batch(run.info.run_id, [Metric(name, value, now, step) for name, value in changed.items()])
    return True


def find_run_of(store: Store, version: ModelVersion) -> Run | None:
    """The run of a version; None where it has none, or none any more."""
    with passed_over(RESOURCE_DOES_NOT_EXIST):
        return store.client.get_run(version.run_id) if version.run_id else None
    return None


def find_number(store: Store, number: int) -> ModelVersion | None:
    """The version of that number; None when there is none, or none any more."""
    with passed_over(RESOURCE_DOES_NOT_EXIST):
        return store.client.get_model_version(NAME, str(number))
    return None


def get_number(store: Store, number: int) -> ModelVersion:
    """The version of that number. Raises InputError when there is none."""
    if found := find_number(store, number):
        return found
    raise InputError(f"{NAME} has no version {number}: `mer registry --all` lists them")


def rounds_of(store: Store, parent: Run) -> list[Run]:
    """The runs of a training's rounds."""
    nested = f"tags.`mlflow.parentRunId` = '{parent.info.run_id}'"
    return list(store.client.search_runs([store.experiment], nested))


def find_version(store: Store, finished: "Finished") -> ModelVersion | None:
    """The version of a round's networks, whichever training registered them; None when they have none.

    Trainings with one alpha share the sparse one, and those with one NAOR all rounds that both have. On another kind
    of processor the same round has other last digits, and another version.
    """
    record = finished.record
    assert record.round is not None
    facts = {"system": record.system, "data_digest": record.data_digest, "round_key": record.round.key}
    same = " AND ".join(f"tags.{name} = '{value}'" for name, value in facts.items())
    found_runs = store.client.search_runs([store.experiment], same, order_by=["attributes.start_time ASC"])
    runs = [run for run in found_runs if run.data.metrics.get("trainval_com") == record.com]
    for run in runs:
        if VERSION in run.data.tags and (found := find_number(store, int(run.data.tags[VERSION]))):
            return found
    for run in runs:  # a kill may have come between the version and the tag
        if made := store.client.search_model_versions(f"name = '{NAME}' AND run_id = '{run.info.run_id}'"):
            return made[0]
    return None
