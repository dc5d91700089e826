"""A worker: a process of one thread that takes trials until the study has enough of them.

Started by `mer search` as `python -m mer_pnao.search.worker STUDY OBJECTIVES TRIALS`; it ends when its standard input
is closed, which also happens when the process that started it is killed.
"""

import os
import signal
import sys
import time
from contextlib import suppress
from pathlib import Path
from threading import Thread
from uuid import uuid4

import torch
from optuna import Study, Trial, TrialPruned
from optuna.exceptions import UpdateFinishedTrialError
from optuna.trial import TrialState

from mer_pnao.foundations.console import input_errors
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import work_folder
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.search.sampler import DIVERGED
from mer_pnao.search.storage import WorkerRegistry, open_storage
from mer_pnao.search.storage_errors import FAILURES, failures_named
from mer_pnao.search.study import ERROR, OBJECTIVES, claim, finished_trials, open_study, study_name, tell, wanted_trials
from mer_pnao.search.trial import CountingStore, Task, load_task, objective
from mer_pnao.training.fit import DivergenceError

STORAGE = "MER_SEARCH_STORAGE"  # the variable that holds the storage's URL: its password is nobody else's to read
_PAUSE = 0.5  # seconds between two polls of trials that others run


def work(study: Study, registry: WorkerRegistry, budget: int, task: Task, store: CountingStore) -> None:
    """Run trials until so many are finished, or all that the space holds.

    Waits while others run the last ones, for one of them may be lost.
    """
    worker = uuid4().hex
    with registry.register(worker) as renew:
        while finished_trials(study) < wanted_trials(study, task, budget):
            renew()  # a trial that is taken by a worker that is not alive is queued again at once
            trial = claim(study, registry, worker, budget, task)
            if trial is None:
                time.sleep(_PAUSE)
            else:
                run_trial(study, trial, task, store)


def run_trial(study: Study, trial: Trial, task: Task, store: CountingStore) -> None:
    """Run a trial and tell the study. A failure is recorded, too, and raised: it would meet the next trial as well.

    But for a training that diverges: that is what its point gives, and the next trial's need not.

    A failure of the storage is none of the trial's, which is then found as lost and done again.
    """
    try:
        values = objective(trial, task, store)
    except TrialPruned:
        tell(study, trial.number, TrialState.PRUNED)
    except UpdateFinishedTrialError:  # cut off from the server, and replaced
        return
    except DivergenceError as error:
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr(DIVERGED, str(error))
        tell(study, trial.number, TrialState.FAIL)
    except FAILURES:
        raise
    except Exception as error:
        with suppress(UpdateFinishedTrialError):
            trial.set_user_attr(ERROR, f"{type(error).__name__}: {error}"[:1000])
        tell(study, trial.number, TrialState.FAIL)
        raise
    else:
        tell(study, trial.number, TrialState.COMPLETE, values)


def main() -> None:
    """Work in the project in the working directory, on the study of its params.yaml."""
    _, study, objectives, trials = sys.argv
    signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored where a script's `mer search &` has started it
    torch.set_num_threads(1)
    try:
        with input_errors(), suppress(KeyboardInterrupt):
            Thread(target=_end_with_input, daemon=True).start()
            task = load_task(load_params(), OBJECTIVES[objectives])
            if study_name(task) != study:
                raise InputError(f"params.yaml or the data have changed since the study {study} was started")
            url = os.environ.get(STORAGE) or None
            storage, registry = open_storage(Path(), url)
            with failures_named(url):
                work(open_study(storage, task), registry, int(trials), task, DiskRoundStore(work_folder() / "rounds"))
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # its input may be closed while Python ends


def _end_with_input() -> None:
    while os.read(sys.stdin.fileno(), 1):  # not sys.stdin.read, whose lock Python wants back at its end
        pass
    os.kill(os.getpid(), signal.SIGINT)


if __name__ == "__main__":
    main()
