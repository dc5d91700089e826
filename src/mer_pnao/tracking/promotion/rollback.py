"""`mer rollback`: champion and previous change places. It must work when something burns, so it imports little."""

from dataclasses import dataclass
from pathlib import Path

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import NAME, reached
from mer_pnao.tracking.known import find_number, standing
from mer_pnao.tracking.promotion.aliases import Change, Repair, change_champion, repair, title_of, utc_now


@dataclass(frozen=True)
class Rollback:
    champion: int
    title: str
    previous: int | None
    repaired: Repair | None


def roll_back(project: Path) -> Rollback:
    """Let champion and previous change places, without gates: the previous one has passed them.

    So a second call takes back the first; but where the first was cut short, it only finishes that one, since whoever
    calls again wants what the first did not bring. Raises InputError when there is no previous one, or no MLflow.
    """
    with reached(project) as store:
        repaired = repair(store)
        held = standing(store)
        if repaired and repaired.finished and repaired.finished.kind == "rollback":
            champion = find_number(store, repaired.finished.new)
            assert champion is not None
            return Rollback(int(champion.version), title_of(champion), held.previous, repaired)
        before = None if held.previous is None else find_number(store, held.previous)
        if before is None:
            raise InputError(f"{NAME} has no previous champion to go back to; `mer registry` lists the versions")
        number = int(before.version)
        change_champion(store, Change("rollback", number, held.champion, held.previous, utc_now()))
        return Rollback(number, title_of(before), held.champion, repaired)
