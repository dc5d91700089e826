"""`mer registry`: every version with its aliases, scores and cost."""

from collections import defaultdict
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion

from mer_pnao.corpus.manifest import read_manifest
from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.foundations.checks import bare_name
from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import Params, load_params
from mer_pnao.tracking.connection import NAME, Store, reached
from mer_pnao.tracking.promotion.aliases import FORCED, PROMOTED, ROLLED_BACK, Repair, repair
from mer_pnao.tracking.promotion.gates import Unknown
from mer_pnao.tracking.promotion.measure import recorded_predictions
from mer_pnao.tracking.promotion.promote import GATES


@dataclass(frozen=True)
class Row:
    """One version; what the registry does not tell is None."""

    version: int
    aliases: tuple[str, ...]
    system: str | None
    round: int | None
    trainval_com: float | None
    test_com: float | None
    com_low: float | None  # of the 95 % bootstrap interval of test_com
    com_high: float | None
    parameters: int | None
    latency_ms: float | None  # as recorded: the networks alone, on the machine that trained them
    registered: str  # UTC, ISO 8601
    profile: str | None
    data_digest: str | None
    gates: str | None  # the last verdict: "passed", or "refused: " and the gates
    promoted: str | None
    rolled_back: str | None
    forced: str | None  # the reason


def list_versions(project: Path) -> tuple[list[Row], Repair | None]:
    """Every version, the oldest first, and what an earlier promotion had left to repair.

    Raises InputError when MLflow cannot be reached.
    """
    params = load_params(project / "params.yaml")
    with reached(project) as store:
        repaired = repair(store)
        aliases = defaultdict(list)
        for alias, number in store.client.get_registered_model(NAME).aliases.items():
            aliases[int(number)].append(alias)
        versions = sorted(store.client.search_model_versions(f"name = '{NAME}'"), key=lambda each: int(each.version))
        metrics = {int(version.version): _metrics(store, version) for version in versions}
        intervals = _intervals(store, versions, metrics, params, project)
        rows = [
            _row(version, sorted(aliases[int(version.version)]), metrics[int(version.version)], intervals)
            for version in versions
        ]
        return rows, repaired


def _row(
    version: ModelVersion,
    aliases: list[str],
    metrics: dict[str, float],
    intervals: dict[int, tuple[float, float]],
) -> Row:
    tags, number = version.tags, int(version.version)
    low, high = intervals.get(number, (None, None))
    parameters, latency = metrics.get("parameters"), metrics.get("latency_ms")
    return Row(
        number,
        tuple(aliases),
        tags.get("system"),
        int(tags["round"]) if tags.get("round", "").isdecimal() else None,
        metrics.get("trainval_com"),
        metrics.get("test_com"),
        low,
        high,
        None if parameters is None else int(parameters),
        latency,
        datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        tags.get("profile"),
        tags.get("data_digest"),
        tags.get(GATES),
        tags.get(PROMOTED),
        tags.get(ROLLED_BACK),
        tags.get(FORCED),
    )


def _metrics(store: Store, version: ModelVersion) -> dict[str, float]:
    return dict(store.client.get_run(version.run_id).data.metrics) if version.run_id else {}


def _intervals(
    store: Store,
    versions: list[ModelVersion],
    metrics: dict[int, dict[str, float]],
    params: Params,
    project: Path,
) -> dict[int, tuple[float, float]]:
    """The interval of each version's test Com, where the checkout's labels give that very Com."""
    profiles = {version.tags.get("profile", "") for version in versions}
    truths = {profile: _truth(project, profile) for profile in profiles}
    groups: dict[tuple[str, tuple[str, ...]], dict[str, Predicted]] = defaultdict(dict)
    for version in versions:
        profile = version.tags.get("profile", "")
        truth, recorded = truths[profile], recorded_predictions(store, version.run_id, f"version {version.version}")
        if truth is None or isinstance(recorded, Unknown):
            continue
        test = recorded.table[recorded.table["split"] == "test"]
        if len(test) and set(test["name"]) <= set(truth.index):
            clips = (profile, tuple(test["name"]))
            groups[clips][str(version.version)] = Predicted(test["discrete"], test["valence"])
    found: dict[int, tuple[float, float]] = {}
    for (profile, names), systems in groups.items():
        truth = truths[profile]
        assert truth is not None
        here = truth.loc[list(names)]
        try:
            compared = paired_bootstrap(
                here["discrete"], here["valence"], systems, None, params.evaluation.resamples, params.seed
            )
        except ValueError:  # a valence that was not recorded
            continue
        for number, each in compared.items():
            # The labels may have changed since; then this is another quantity.
            if np.isclose(each.scores.com, metrics[int(number)].get("test_com", np.nan), atol=1e-6):
                found[int(number)] = (each.com_low, each.com_high)
    return found


def _truth(project: Path, profile: str) -> pd.DataFrame | None:
    try:
        bare_name("the tag 'profile'", profile)
        return read_manifest(project / "data" / profile / "manifest.csv").set_index("name")
    except (InputError, ValueError):
        return None
