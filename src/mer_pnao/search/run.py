"""A search of a profile from its study to `best_params.yaml`."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from mer_pnao.params.profile import Params
from mer_pnao.search.best_params import BEST, write_best
from mer_pnao.search.reading import read_record
from mer_pnao.search.record import StudyRecord, TrialRecord
from mer_pnao.search.runner import open_search, run_workers
from mer_pnao.search.storage_errors import failures_named
from mer_pnao.search.trial import load_task


@dataclass(frozen=True)
class Budget:
    """What a search may spend, and on which study."""

    trials: int  # to end with, over all workers; a space with fewer trainings ends with all of them
    workers: int  # processes of one thread
    resume: bool = True  # go on with a study that was begun
    storage: str | None = None  # a PostgreSQL URL; None: the project's journal


def search_profile(
    params: Params,
    objectives: tuple[str, ...],
    budget: Budget,
    *,
    say: Callable[[str], None] = lambda _: None,
    finished: Callable[[TrialRecord], None] = lambda _: None,
    known: Callable[[int], None] = lambda _: None,
    found: Callable[[StudyRecord], None] = lambda _: None,
) -> StudyRecord:
    """Search until so many trials of the profile are finished, and write the chosen values to `best_params.yaml`.

    `known` gets how many trials were finished already, `finished` each that gets finished, and `found` what the
    study holds at the end, also when the search fails or is interrupted after a trial. Raises InputError for wrong
    input, and KeyboardInterrupt on Ctrl-C.
    """
    project = Path()
    task = load_task(params, objectives)
    with failures_named(budget.storage):
        search = open_search(project, task, budget.storage, budget.trials, budget.resume, say)
        known(min(search.finished, search.trials))
        try:
            if search.finished < search.trials:
                run_workers(search, budget.workers, finished)
        finally:
            record = read_record(search.study, task)
            if record.trials:
                found(record)
    write_best(record, project / BEST)
    return record
