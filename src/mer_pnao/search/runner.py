"""Running a search: workers are started, watched, started again when they are killed, and ended with Ctrl-C."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from optuna import Study

from mer_pnao.foundations.errors import InputError
from mer_pnao.search import worker
from mer_pnao.search.reading import read_trial
from mer_pnao.search.record import TrialRecord
from mer_pnao.search.storage import WorkerRegistry, open_storage
from mer_pnao.search.storage_errors import shown
from mer_pnao.search.study import FINISHED, differences, find_or_create, finished_trials, requeue_lost, wanted_trials
from mer_pnao.search.trial import OUTCOME, Task

_POLL = 0.2  # seconds between two polls of the workers and the study
_PATIENCE = 30.0  # seconds for the workers to end by themselves
_STRIKES = 3  # workers killed without a finished round in between: then something kills them all


@dataclass(frozen=True)
class Search:
    """An opened study and what works on it."""

    study: Study
    registry: WorkerRegistry
    task: Task
    url: str | None
    budget: int  # of trials, over all workers

    @property
    def trials(self) -> int:
        """How many trials shall count in the end: the budget, or all that a smaller space holds."""
        return wanted_trials(self.study, self.task, self.budget)

    @property
    def finished(self) -> int:
        """How many trials count by now."""
        return finished_trials(self.study)


def open_search(
    project: Path, task: Task, url: str | None, budget: int, resume: bool, say: Callable[[str], None]
) -> Search:
    """Find the task's study or make it.

    Raises InputError when the storage cannot be used, and for a begun study that is not to be resumed.
    """
    storage, registry = open_storage(project, url)
    other = differences(storage, task)
    study, new = find_or_create(storage, registry, task)
    search = Search(study, registry, task, url, budget)
    trials = search.trials
    if new and other:
        name, changed = other
        say(f"A new study, {study.study_name}, for this has changed since {name}: {', '.join(changed)}.")
    elif new:
        say(f"A new study, {study.study_name}, in {shown(url)}.")
    elif search.finished < trials and not resume:
        raise InputError(
            f"the study {study.study_name} has {search.finished} of {trials} trials: `mer search --resume` goes on "
            "with it, also beside workers that are at it"
        )
    else:
        say(f"The study {study.study_name} has {search.finished} of {trials} trials.")
    if trials < budget:
        say(f"Its space holds {trials} distinct trainings, and the search ends with them.")
    return search


def run_workers(search: Search, workers: int, finished: Callable[[TrialRecord], None]) -> None:
    """Run workers until the budget is spent; calls `finished` with each trial that comes to its end meanwhile.

    Raises KeyboardInterrupt on Ctrl-C and SIGTERM, after the workers have ended and their trials are queued again, and
    InputError when a worker fails.
    """
    reported = {trial.number for trial in search.study.get_trials(deepcopy=False, states=FINISHED)}

    def report() -> None:
        for trial in search.study.get_trials(deepcopy=False, states=FINISHED):
            if trial.number not in reported:
                reported.add(trial.number)
                finished(read_trial(trial))

    with _terminated_as_interrupted():
        try:
            _watch(search, workers, report)
        finally:
            requeue_lost(search.study, search.registry)
    report()
    if search.finished < search.trials:
        raise InputError(
            f"every worker was killed, {_STRIKES} times before it had finished a round: is there too little memory? "
            f"{search.finished} of {search.trials} trials are finished, and `mer search --resume` goes on"
        )


def _watch(search: Search, workers: int, report: Callable[[], None]) -> None:
    running: list[subprocess.Popen[bytes]] = []
    strikes, rounds = 0, _rounds(search.study)
    try:
        running.extend(_start(search) for _ in range(min(workers, search.trials - search.finished)))
        while running:
            time.sleep(_POLL)
            report()
            for process in [each for each in running if each.poll() is not None]:
                running.remove(process)
                process.communicate()  # closes its input
                if process.returncode > 0:
                    raise InputError(
                        f"a worker failed, as it says above; {search.finished} of {search.trials} trials are finished, "
                        "and `mer search --resume` goes on"
                    )
                if process.returncode < 0:
                    before, rounds = rounds, _rounds(search.study)
                    strikes = strikes + 1 if rounds == before else 0
                    if strikes < _STRIKES and search.finished < search.trials:
                        running.append(_start(search))
    finally:
        _end(running)


def _start(search: Search) -> subprocess.Popen[bytes]:
    """A worker in a session of its own, so that Ctrl-C reaches this process alone."""
    wanted = [search.study.study_name, ",".join(search.task.objectives), str(search.trials)]
    command = [sys.executable, "-m", worker.__name__, *wanted]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", worker.STORAGE: search.url or ""}
    return subprocess.Popen(command, stdin=subprocess.PIPE, env=environment, start_new_session=True)


def _end(processes: Sequence[subprocess.Popen[bytes]]) -> None:
    """Let them end by themselves, and kill those that take too long: their trials are queued again all the same."""
    for process in processes:
        assert process.stdin is not None
        process.stdin.close()
    deadline = time.monotonic() + _PATIENCE
    try:
        with suppress(subprocess.TimeoutExpired):
            for process in processes:
                process.wait(max(0.0, deadline - time.monotonic()))
    finally:
        for process in processes:
            process.kill()
            process.wait()


def _rounds(study: Study) -> int:
    """How many rounds all trials have finished."""
    outcomes = (trial.user_attrs.get(OUTCOME) for trial in study.get_trials(deepcopy=False))
    return sum(len(outcome["rounds"]) for outcome in outcomes if outcome)


@contextmanager
def _terminated_as_interrupted() -> Iterator[None]:
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
