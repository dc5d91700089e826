"""PNAO beside its controls: `reports/controls.csv`, and the same in a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from mer_pnao.controls.names import DENSE, METHODS, PNAO, TITLES
from mer_pnao.controls.run import Outcome
from mer_pnao.evaluation.bootstrap import Predicted, bootstrap_of_means
from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.console import narrow_table
from mer_pnao.foundations.files import write_bytes, write_text
from mer_pnao.report.controls_figure import controls_figure
from mer_pnao.report.words import NONE, probability, short_count
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.examples import Examples


def controls_table(
    outcomes: Sequence[Outcome], dataset: Dataset, profile: str, resamples: int, seed: int
) -> pd.DataFrame:
    """A row for each size and method, the scores being means over the seeds and, where there are several, their std.

    `com_low` to `com_high`, `gain` (over PNAO at the same size, with its interval) and the probabilities come from
    the paired bootstrap over speakers, which draws a seed with each resample. Those of Train&Val are out of fold.
    """
    truth = {"trainval": dataset.train, "test": dataset.test}
    rows = []
    for size in sorted({each.size for each in outcomes}):
        of_size = {name: [each for each in outcomes if (each.method, each.size) == (name, size)] for name in METHODS}
        compared = {}
        for split, examples in truth.items():
            decided = {method: [getattr(each, split) for each in trainings] for method, trainings in of_size.items()}
            compared[split] = bootstrap_of_means(
                examples.emotion, examples.valence, decided, PNAO, resamples, seed, groups=examples.speakers
            )
        dense = np.mean([each.parameters for each in of_size[DENSE]])
        for method, trainings in of_size.items():
            trainval, test = compared["trainval"][method], compared["test"][method]
            count = np.mean([each.parameters for each in trainings])
            rows.append(
                {
                    "profile": profile,
                    "method": method,
                    "round": size,
                    "seeds": len(trainings),
                    "epochs": trainings[0].epochs,
                    "parameters": round(count),
                    "parameters_ratio": count / dense,
                    "trainval_com": trainval.scores.com,
                    "trainval_com_std": _std(trainings, "trainval", dataset.train),
                    "trainval_p_better_than_pnao": trainval.p_better,
                    **asdict(test.scores),
                    "com_std": _std(trainings, "test", dataset.test),
                    **{name: getattr(test, name) for name in ("com_low", "com_high", "gain", "gain_low", "gain_high")},
                    "p_better_than_pnao": test.p_better,
                }
            )
    numbers = ["dim", "trainval_com_std", "com_std"]  # all of a column may be missing
    return pd.DataFrame(rows).astype(dict.fromkeys(numbers, float))


def write_controls(table: pd.DataFrame, has_valence: bool, out: Path) -> None:
    """Write `controls.csv` and `controls.png` into `out`, each whole or not at all."""
    text = table.to_csv(index=False, float_format="%.6f", lineterminator="\n")
    write_text(out / "controls.csv", text)
    write_bytes(out / "controls.png", controls_figure(table, has_valence))


def print_controls(table: pd.DataFrame, console: Console) -> None:
    """Print the table, a block a size."""
    shown = narrow_table(["Method", "Round", "Size", "Tr&Val", "Com ↑", "±", "95 %", "P"])
    for _, block in table.groupby("round"):
        for row in block.to_dict("records"):
            shown.add_row(*_printed(row), style="bold" if row["method"] == PNAO else None)
        shown.add_section()
    console.print(shown)
    dense = table[table["method"] == DENSE].iloc[0]
    console.print(
        f"{dense['profile']}: Com of the test split, mean ± standard deviation over {dense['seeds']} seed(s), with the "
        "interval of a training. P: probability that a method is better than PNAO at the same size; 100 % are "
        f"{short_count(dense['parameters'])} parameters.",
        style="dim",
    )


def _std(outcomes: Sequence[Outcome], split: str, examples: Examples) -> float | None:
    """The standard deviation of Com over the seeds; one seed has none."""
    if len(outcomes) == 1:
        return None
    decided: list[Predicted] = [getattr(each, split) for each in outcomes]
    coms = [score(examples.emotion, each.emotion, examples.valence, each.valence).com for each in decided]
    return float(np.std(coms, ddof=1))


def _printed(row: Mapping[Any, Any]) -> list[str]:
    spread = row["com_std"]
    return [
        TITLES[row["method"]],
        f"{row['round']}",
        f"{row['parameters_ratio']:.0%}".replace("%", " %"),
        f"{row['trainval_com']:.3f}",
        f"{row['com']:.3f}",
        NONE if pd.isna(spread) else f"{spread:.3f}",
        f"{row['com_low']:.2f} … {row['com_high']:.2f}",
        NONE if row["method"] == PNAO else probability(row["p_better_than_pnao"]),
    ]
