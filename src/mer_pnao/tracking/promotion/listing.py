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
        truths = {profile: _truth(project, profile) for profile in set(map(_profile, versions))}
        rows = []
        for version in versions:
            metrics = dict(store.client.get_run(version.run_id).data.metrics) if version.run_id else {}
            interval = _interval(store, version, metrics, truths[_profile(version)], params)
            rows.append(_row(version, sorted(aliases[int(version.version)]), metrics, interval))
        return rows, repaired


def _row(
    version: ModelVersion, aliases: list[str], metrics: dict[str, float], interval: tuple[float, float] | None
) -> Row:
    tags, (low, high) = version.tags, interval or (None, None)
    parameters = metrics.get("parameters")
    return Row(
        version=int(version.version),
        aliases=tuple(aliases),
        system=tags.get("system"),
        round=int(tags["round"]) if tags.get("round", "").isdecimal() else None,
        trainval_com=metrics.get("trainval_com"),
        test_com=metrics.get("test_com"),
        com_low=low,
        com_high=high,
        parameters=None if parameters is None else int(parameters),
        latency_ms=metrics.get("latency_ms"),
        registered=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        profile=tags.get("profile"),
        data_digest=tags.get("data_digest"),
        gates=tags.get(GATES),
        promoted=tags.get(PROMOTED),
        rolled_back=tags.get(ROLLED_BACK),
        forced=tags.get(FORCED),
    )


def _interval(
    store: Store, version: ModelVersion, metrics: dict[str, float], truth: pd.DataFrame | None, params: Params
) -> tuple[float, float] | None:
    """The interval of a version's test Com, where the checkout's labels give that very Com."""
    recorded = recorded_predictions(store, version.run_id, f"version {version.version}")
    if truth is None or isinstance(recorded, Unknown):
        return None
    test = recorded.table[recorded.table["split"] == "test"]
    if test.empty or not set(test["name"]) <= set(truth.index):
        return None
    here, predicted = truth.loc[list(test["name"])], {NAME: Predicted(test["discrete"], test["valence"])}
    resamples, seed = params.evaluation.resamples, params.seed
    try:
        found = paired_bootstrap(here["discrete"], here["valence"], predicted, None, resamples, seed)[NAME]
    except ValueError:  # a valence that was not recorded
        return None
    # The labels may have changed since; then this is another quantity.
    same = np.isclose(found.scores.com, metrics.get("test_com", np.nan), atol=1e-6)
    return (found.com_low, found.com_high) if same else None


def _profile(version: ModelVersion) -> str:
    return str(version.tags.get("profile", ""))


def _truth(project: Path, profile: str) -> pd.DataFrame | None:
    try:
        bare_name("the tag 'profile'", profile)
        return read_manifest(project / "data" / profile / "manifest.csv").set_index("name")
    except (InputError, ValueError):
        return None
