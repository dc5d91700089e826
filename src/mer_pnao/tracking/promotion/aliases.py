"""Who is candidate, champion and previous, and how the champion changes.

A change is several requests to MLflow, and a process may be killed between any two. So what is about to happen is
written down first, as the tag `change` of the registered model; then `previous` moves, then `champion`, then the
versions are tagged, and the tag `change` goes. Every step may be taken twice: whoever calls next finishes a change
that it finds. Meanwhile there is exactly one champion, the old or the new one.
"""

import json
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Literal

from mlflow.entities.model_registry import ModelVersion

from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import CHAMPION, PREVIOUS, find_number, standing

PROMOTED, ROLLED_BACK, FORCED = "promoted", "rolled_back", "forced"  # tags of a version: when, when, and why
GATES, GATES_REPORT = "gates", "gates_report"  # the last verdict, and where its report is among the run's artifacts
JUDGED_ON = "judged_on_"  # and a split's name, tag of a version: how often the split has judged it, passed or not
CHANGE = "change"  # tag of the registered model while the champion changes


@dataclass(frozen=True)
class Change:
    """The champion goes from one version to another, and `previous` follows."""

    kind: Literal["promotion", "rollback"]
    new: int
    old: int | None  # the champion before
    previous: int | None  # the previous one before
    when: str  # UTC, ISO 8601
    reason: str | None = None  # of one that was forced


@dataclass(frozen=True)
class Repair:
    """What was done about a change that had been cut short."""

    sentence: str
    finished: Change | None = None  # the change, where it is done now


def title_of(version: ModelVersion) -> str:
    """System and round, for people."""
    tags = version.tags
    return f"{tags['system']}, round {tags['round']}" if {"system", "round"} <= tags.keys() else "registered by hand"


def utc_now() -> str:
    """Now, in ISO 8601 to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def change_champion(store: Store, change: Change) -> None:
    """Make the new version champion and the old one previous."""
    store.client.set_registered_model_tag(NAME, CHANGE, json.dumps(asdict(change)))
    _carry_out(store, change)


def repair(store: Store) -> Repair | None:
    """Finish a change that was cut short, or take it back where its new champion has been deleted; None without one."""
    written = store.client.get_registered_model(NAME).tags.get(CHANGE)
    if written is None:
        return None
    try:
        change = Change(**json.loads(written))
    except (TypeError, ValueError):  # not written by us: it says nothing that could be done
        store.client.delete_registered_model_tag(NAME, CHANGE)
        return Repair(f"removed the tag {CHANGE!r} of {NAME}, which is not readable")
    what = f"a {change.kind} that was cut short at {change.when}"
    champion = standing(store).champion
    if champion not in (change.old, change.new, None):
        store.client.delete_registered_model_tag(NAME, CHANGE)
        return Repair(f"gave up {what}: version {champion} has been made champion since, by other means")
    if find_number(store, change.new) is not None:
        _carry_out(store, change)
        return Repair(f"finished {what}: version {change.new} is champion", change)
    _point(store, CHAMPION, change.old)
    _point(store, PREVIOUS, change.previous)
    store.client.delete_registered_model_tag(NAME, CHANGE)
    return Repair(f"took back {what}: version {change.new} has been deleted since")


def _carry_out(store: Store, change: Change) -> None:
    """Every step of a change, in an order in which any of them may be the last one for now."""
    before = change.previous if change.old is None else change.old
    _point(store, PREVIOUS, None if before == change.new else before)
    _point(store, CHAMPION, change.new)
    if change.kind == "promotion":
        _tag(store, change.new, PROMOTED, change.when)
        _tag(store, change.new, FORCED, change.reason)
    elif change.old is not None:
        _tag(store, change.old, ROLLED_BACK, change.when)
    _tag(store, change.new, ROLLED_BACK, None)
    store.client.delete_registered_model_tag(NAME, CHANGE)


def _point(store: Store, alias: str, number: int | None) -> None:
    """Move an alias; take it away for no version and for one that is gone, which MLflow would not point to."""
    if number is not None and find_number(store, number) is not None:
        store.client.set_registered_model_alias(NAME, alias, str(number))
    else:
        store.client.delete_registered_model_alias(NAME, alias)


def _tag(store: Store, number: int, name: str, value: str | None) -> None:
    version = find_number(store, number)
    if version is None:
        return
    if value is not None:
        store.client.set_model_version_tag(NAME, str(number), name, value)
    elif name in version.tags:
        store.client.delete_model_version_tag(NAME, str(number), name)
