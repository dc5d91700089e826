"""`mer register`: versions of the finished rounds below models/ that have none."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.finished import Finished, read_finished
from mer_pnao.outs.names import CONFIG, REGISTERED
from mer_pnao.outs.record import round_directories
from mer_pnao.tracking.connection import failures_named, reached
from mer_pnao.tracking.follow import set_candidate
from mer_pnao.tracking.known import find_version, standing
from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.promotion.aliases import repair
from mer_pnao.tracking.runs import log_round


@dataclass(frozen=True)
class Registration:
    made: tuple[tuple[int, Finished], ...]  # version and round
    known: int  # rounds that had a version
    candidate: int | None


def rounds_to_register(project: Path, directories: Sequence[Path] = ()) -> list[Finished]:
    """The rounds that become versions: those of the folders, which are rounds or systems, or all below models/.

    Raises InputError when a folder is no such thing, or none is there.
    """
    models = project.resolve() / "models"
    folders = [folder.resolve() for folder in directories] or [models / system for system in REGISTERED]
    paths: dict[Path, None] = {}  # each once, in order
    for folder in folders:
        inside = [folder] if (folder / CONFIG).is_file() else round_directories(folder)
        if directories and not inside:
            raise InputError(f"{folder} is neither a finished round nor a system with finished rounds")
        paths |= dict.fromkeys(inside)
    found = [read_finished(path) for path in paths]
    for each in found:
        if each.record.system not in REGISTERED or each.record.round is None:
            raise InputError(
                f"{each.directory} is of the system {each.record.system}; versions are of {' and '.join(REGISTERED)}"
            )
        if not each.of_record:
            raise InputError(f"{each.directory} is of a further seed; only the first seed's models get versions")
    if not found:
        raise InputError(f"{models} holds no finished round of {' or '.join(REGISTERED)}: run `make run` first")
    return found


def register(
    project: Path, rounds: Sequence[Finished], progress: Callable[[int], None] = lambda _: None
) -> Registration:
    """Make the versions that are missing, and set `candidate`; a second time changes nothing.

    Raises InputError when MLflow cannot be used.
    """
    lineage, models = read_lineage(project), project.resolve() / "models"
    with reached(project) as store:
        repair(store)
        missing = [each for each in rounds if find_version(store, each) is None]
    progress(len(rounds) - len(missing))
    for each in missing:  # each takes the lock of its own, so that a training beside this does not wait for long
        with failures_named(project):
            log_round(each.directory, lineage)
        progress(1)
    with reached(project) as store:
        set_candidate(store, models)
        made = [(version, each) for each in missing if (version := find_version(store, each)) is not None]
        return Registration(
            tuple((int(version.version), each) for version, each in made),
            len(rounds) - len(missing),
            standing(store).candidate,
        )
