"""`reports/search/`: every trial as a table, the study in a file, the figures, and a page of all of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console

from mer_pnao.foundations.console import narrow_table, progress
from mer_pnao.foundations.files import write_bytes, write_json, write_text
from mer_pnao.params.profile import Params
from mer_pnao.report.search_figures import draw_search, short
from mer_pnao.report.templates import render
from mer_pnao.report.words import short_count
from mer_pnao.search.record import StudyRecord, TrialRecord
from mer_pnao.search.run import Budget, search_profile
from mer_pnao.search.study import OBJECTIVES

REPORT = Path("reports/search")
SHOWN = 5  # trials in the terminal and on the page
_NEAR = 0.01  # Com; a seed moves it by more


def search_and_report(
    params: Params, objectives: str, budget: Budget, console: Console, found: Callable[[StudyRecord], None]
) -> None:
    """Search as the profile says, telling a person of each trial, and write and print what was found.

    `objectives` is one of OBJECTIVES; `found` and what is raised are those of `search_profile`.
    """

    def say(text: str) -> None:
        console.print(text, highlight=False, soft_wrap=True)

    with progress("searching", min(budget.trials, params.search.points)) as done:

        def finished(trial: TrialRecord) -> None:
            say(line(trial))
            done(1)

        record = search_profile(
            params, OBJECTIVES[objectives], budget, say=say, finished=finished, known=done, found=found
        )
    write_search(record, REPORT)
    print_search(record, console)


def write_search(record: StudyRecord, out: Path) -> None:
    """Write `trials.csv`, `study.json`, the figures and the page `index.html` into `out`, each whole or not at all.

    Figures that an earlier study left, and that this one has none of, go.
    """
    pictures, study = draw_search(record), summary(record)
    for name, picture in pictures.items():
        write_bytes(out / f"{name}.png", picture)
    trials = trials_table(record).to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_text(out / "trials.csv", trials)
    write_json(out / "study.json", study)
    write_text(out / "index.html", render("search", {"study": study, "pictures": pictures}))
    for path in out.glob("*.png"):
        if path.stem not in pictures:
            path.unlink()


def trials_table(record: StudyRecord) -> pd.DataFrame:
    """A row a trial that counts, by number; scores are out of fold, after as many rounds as `rounds` says."""
    rows = [
        {
            "trial": each.number,
            "state": "complete" if each.complete else "pruned",
            **{knob.name: each.values[knob.name] for knob in record.knobs},
            "trainval_com": each.best.com,
            "trainval_dis": each.best.dis,
            "trainval_dim": each.best.dim,
            "rounds_done": len(each.rounds),
            "parameters": each.best.parameters,
            "parameters_ratio": each.parameters_ratio,
            "hits": each.hits,
            "misses": each.misses,
            "hit_rate": each.hit_rate,
            "seconds": each.seconds,
            "replaces": each.replaces,
            "chosen": each == record.chosen,
        }
        for each in record.trials
    ]
    return pd.DataFrame(rows).astype({"trainval_dim": float, "replaces": "Int64"})


def summary(record: StudyRecord) -> dict[str, Any]:
    """What the page and `study.json` say of the study."""
    chosen, own = record.chosen, record.own
    return {
        "study": record.name,
        "profile": record.profile,
        "objectives": list(record.objectives),
        "com_at_least": record.com_at_least,
        "knobs": [knob.name for knob in record.knobs],
        "trials": len(record.trials),
        "pruned": sum(not each.complete for each in record.trials),
        "lost": record.lost,
        "diverged": record.diverged,
        "seconds": record.seconds,
        "hit_rate": record.hit_rate,
        "chosen": chosen and _facts(chosen),
        "own": own and _facts(own),
        "top": [_facts(each) for each in _top(record)],
        "importances": dict(record.importances),
        "data_digest": record.data_digest,
    }


def print_search(record: StudyRecord, console: Console) -> None:
    """Print the best trials, and what the search gained over the profile's own values."""
    knobs = [knob.name for knob in record.knobs]
    shown = narrow_table(["Trial", *knobs, "Tr&Val Com ↑", "Parameters"])
    shown.columns[0].justify = "right"
    for each in _top(record):
        values = [short(each.values[knob]) for knob in knobs]
        size = f"{short_count(each.best.parameters)} ({each.parameters_ratio:.0%})".replace("%", " %")
        style = "bold" if each == record.chosen else None
        shown.add_row(str(each.number), *values, f"{each.best.com:.4f}", size, style=style)
    console.print(shown)
    console.print(" ".join(sentences(record)), style="dim", highlight=False, soft_wrap=True)


def sentences(record: StudyRecord) -> list[str]:
    """What a person should know of the study."""
    count, pruned = len(record.trials), sum(not each.complete for each in record.trials)
    said = [f"{record.name}: {count} trials, {pruned} of them given up early."]
    said.append(f"{record.hit_rate:.0%} of their rounds were known already.".replace("%", " %", 1))
    if record.lost:
        said.append(f"{record.lost} lost their worker and were done again.")
    if record.diverged:
        said.append(f"{record.diverged} more diverged, and will not be tried again.")
    if record.chosen and record.own:
        before = record.own.best.com
        gain = "" if record.chosen.own else f"Com {record.chosen.best.com - before:+.4f} against the {before:.4f} of "
        own = "the values that the profile had, with the best number of rounds for them"
        said.append(f"Trial {record.chosen.number} is chosen: {gain}{own}.")
    if not record.pareto and record.chosen and (small := _smaller(record, record.chosen)):
        cost = short_count(record.chosen.best.parameters), short_count(small.best.parameters)
        lost = small.best.com - record.chosen.best.com
        said.append(
            f"It takes {cost[0]} parameters; trial {small.number} has {cost[1]} for Com {lost:+.4f}, and "
            "`mer search --objectives com,parameters` looks for such ones."
        )
    if record.pareto and record.chosen and record.chosen.best.com < record.com_at_least:
        said.append(f"None reaches Com {record.com_at_least:g} (search.com_at_least): the highest is chosen.")
    return said


def _top(record: StudyRecord) -> list[TrialRecord]:
    """The best trials, or with two objectives those of the front."""
    ranked = sorted((each for each in record.trials if each.complete), key=lambda each: -each.best.com)
    return (record.front if record.pareto else ranked)[:SHOWN]


def _smaller(record: StudyRecord, chosen: TrialRecord) -> TrialRecord | None:
    """The smallest network within `_NEAR` of the chosen Com, where it is smaller by a tenth."""
    near = [each for each in record.front if each.best.com >= chosen.best.com - _NEAR]
    return next((each for each in near if each.best.parameters <= 0.9 * chosen.best.parameters), None)


def _facts(trial: TrialRecord) -> dict[str, Any]:
    return {
        "trial": trial.number,
        "values": dict(trial.values),
        "com": trial.best.com,
        "parameters": trial.best.parameters,
        "parameters_ratio": trial.parameters_ratio,
    }


def line(trial: TrialRecord) -> str:
    """A finished trial in one line."""
    values = ", ".join(f"{name} {short(value)}" for name, value in trial.values.items())
    end = "" if trial.complete else ", given up"
    return (
        f"trial {trial.number:>3}  Com {trial.best.com:.4f}  {short_count(trial.best.parameters)} parameters  "
        f"({values})  {trial.hits} of {trial.hits + trial.misses} rounds known{end}"
    )
