"""A search of a profile from its start to `best_params.yaml`: workers, report, MLflow."""

from collections.abc import Callable
from pathlib import Path

from rich.console import Console

from mer_pnao.params import Params
from mer_pnao.report.search import print_search, short, write_search
from mer_pnao.report.table import short_count
from mer_pnao.search.best_params import BEST, write_best
from mer_pnao.search.objective import load_task
from mer_pnao.search.record import StudyRecord, TrialRecord
from mer_pnao.search.runner import open_search, run_workers
from mer_pnao.search.space import SECTIONS
from mer_pnao.search.storage import failures_told
from mer_pnao.tracking.study import TrackedTrial, track_study

REPORT = Path("reports/search")


def search_profile(
    params: Params,
    objectives: tuple[str, ...],
    storage: str | None,
    trials: int,
    workers: int,
    resume: bool,
    console: Console,
    done: Callable[[int], None] = lambda _: None,
) -> StudyRecord:
    """Search until so many trials of the profile are finished, and write what was found below the working directory.

    `done` is called with the number of trials that were finished already, and with 1 for each one that gets finished.
    Raises InputError for wrong input, and KeyboardInterrupt on Ctrl-C, after what was found so far is logged.
    """
    project = Path()
    task = load_task(params, objectives)

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    with failures_told(storage):
        search = open_search(project, task, storage, trials, resume, say)
        done(min(search.finished, trials))

        def tell(trial: TrialRecord) -> None:
            say(line(trial))
            done(1)

        try:
            if search.finished < trials:
                run_workers(search, workers, tell)
        finally:
            record = search.record()
            if record.trials:
                _track(project, record)
    write_search(record, project / REPORT)
    write_best(record, project / BEST)
    print_search(record, console)
    return record


def line(trial: TrialRecord) -> str:
    """A finished trial in one line."""
    values = ", ".join(f"{name} {short(value)}" for name, value in trial.values.items())
    end = "" if trial.complete else ", given up"
    return (
        f"trial {trial.number:>3}  Com {trial.best.com:.4f}  {short_count(trial.best.parameters)} parameters  "
        f"({values})  {trial.hits} of {trial.hits + trial.misses} rounds known{end}"
    )


def _track(project: Path, record: StudyRecord) -> None:
    chosen = record.chosen
    space = {f"search.{knob.name}": ", ".join(map(str, knob.grid)) for knob in record.knobs}
    metrics = {"trials": float(len(record.trials)), "hit_rate": record.hit_rate}
    if chosen is not None:
        metrics |= {"trainval_com": chosen.best.com, "parameters": float(chosen.best.parameters)}
    track_study(
        project,
        record.name,
        {**space, "objectives": ",".join(record.objectives)},
        {"profile": record.profile, "data_digest": record.data_digest, "kind": "search"},
        metrics,
        [_tracked(trial, trial == chosen) for trial in record.trials],
    )


def _tracked(trial: TrialRecord, chosen: bool) -> TrackedTrial:
    best = trial.best
    metrics = {
        "trainval_com": best.com,
        "trainval_dis": best.dis,
        "parameters": float(best.parameters),
        "parameters_ratio": trial.parameters_ratio,
        "best_round": float(trial.best_round),
        "hit_rate": trial.hit_rate,
        "seconds": trial.seconds,
    }
    if best.dim is not None:
        metrics["trainval_dim"] = best.dim
    tags = {"state": "complete" if trial.complete else "pruned", "chosen": str(chosen).lower()}
    if trial.replaces is not None:
        tags["replaces"] = str(trial.replaces)
    return TrackedTrial(
        trial.number,
        {f"{SECTIONS[name]}.{name}": str(value) for name, value in trial.values.items()},
        metrics,
        {
            "round_com": [each.com for each in trial.rounds],
            "round_parameters": [float(each.parameters) for each in trial.rounds],
        },
        tags,
        best.key,
        trial.started,
        trial.seconds,
    )
