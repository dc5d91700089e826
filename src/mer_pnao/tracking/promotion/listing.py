"""`mer registry`: the registered versions with aliases, scores and cost."""

from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from mlflow.entities import Run
from mlflow.entities.model_registry import ModelVersion

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.finished import read_finished
from mer_pnao.outs.names import REGISTERED
from mer_pnao.outs.record import round_directories
from mer_pnao.tracking.connection import NAME, Store, reached
from mer_pnao.tracking.follow import follow_models
from mer_pnao.tracking.known import VERSION, find_run, find_run_of, get_number, rounds_of
from mer_pnao.tracking.promotion.aliases import FORCED, GATES, PROMOTED, ROLLED_BACK, Repair, repair


@dataclass(frozen=True)
class Row:
    """One version; what the registry does not tell is None."""

    version: int
    aliases: tuple[str, ...]
    last: bool  # a round of its system's training in models/, or else of the latest one
    system: str | None
    round: int | None
    naor: float | None  # None for round 0, which every NAOR shares
    alpha: float | None
    trainval_com: float | None
    test_com: float | None
    com_low: float | None  # of the 95 % bootstrap interval of test_com
    com_high: float | None
    parameters: int | None
    registered: str  # UTC, ISO 8601
    profile: str | None
    drawn: bool  # it has learnt from the demo's clips, and knows nothing about people
    data_digest: str | None
    gates: str | None  # the last verdict: "passed", or "refused: " and the gates
    promoted: str | None
    rolled_back: str | None
    forced: str | None  # the reason


def list_versions(project: Path) -> tuple[list[Row], Repair | None]:
    """Every version, the newest first, and what an earlier promotion had left to repair.

    Raises InputError when MLflow cannot be used.
    """
    with reached(project) as store:
        repaired = repair(store)
        follow_models(store, project)
        aliases = defaultdict(list)
        for alias, number in store.client.get_registered_model(NAME).aliases.items():
            aliases[int(number)].append(alias)
        versions = sorted(store.client.search_model_versions(f"name = '{NAME}'"), key=lambda each: -int(each.version))
        last = _last_trainings(store, project / "models")
        # Asked for at once; one that is deleted or elsewhere is not among them.
        tagged = store.client.search_runs([store.experiment], f"tags.{VERSION} IS NOT NULL")
        runs = {run.info.run_id: run for run in tagged}
        return [
            _row(each, aliases[int(each.version)], runs.get(each.run_id or "") or find_run_of(store, each), last)
            for each in versions
        ], repaired


def read_card(project: Path, version: int) -> str:
    """The card of a version, its description in Markdown. Raises InputError when there is none, or no MLflow."""
    with reached(project) as store:
        return get_number(store, version).description or f"Version {version} was registered without a card."


def _last_trainings(store: Store, models: Path) -> set[int]:
    """The versions of the rounds of each system's training in `models/`, or else of its latest one."""
    numbers = set()
    for system in REGISTERED:
        latest = store.client.search_runs(
            [store.experiment],
            f"tags.system = '{system}' AND tags.round IS NULL",
            order_by=["attributes.start_time DESC"],
        )
        with suppress(InputError):  # a record that cannot be read, as `follow_models` has said
            for first in round_directories(models / system)[:1]:
                present = find_run(store, read_finished(first).training_identity())
                latest = ([present] if present else []) + latest
        for parent in latest:  # a further seed's rounds have no versions
            if rounds := [run.data.tags[VERSION] for run in rounds_of(store, parent) if VERSION in run.data.tags]:
                numbers |= set(map(int, rounds))
                break
    return numbers


def _row(version: ModelVersion, aliases: list[str], run: Run | None, last: set[int]) -> Row:
    tags, number = version.tags, int(version.version)
    metrics = dict(run.data.metrics) if run else {}
    parameters = metrics.get("parameters")
    return Row(
        version=number,
        aliases=tuple(sorted(aliases)),
        last=number in last,
        system=tags.get("system"),
        round=int(tags["round"]) if tags.get("round", "").isdecimal() else None,
        naor=_number(tags.get("naor")),
        alpha=_number(tags.get("alpha")),
        trainval_com=metrics.get("trainval_com"),
        test_com=metrics.get("test_com"),
        com_low=metrics.get("test_com_low"),
        com_high=metrics.get("test_com_high"),
        parameters=None if parameters is None else int(parameters),
        registered=datetime.fromtimestamp(version.creation_timestamp / 1000, UTC).isoformat(timespec="seconds"),
        profile=tags.get("profile"),
        drawn="drawn" in tags,
        data_digest=run.data.tags.get("data_digest") if run else None,
        gates=tags.get(GATES),
        promoted=tags.get(PROMOTED),
        rolled_back=tags.get(ROLLED_BACK),
        forced=tags.get(FORCED),
    )


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:  # somebody else's tag
        return None
