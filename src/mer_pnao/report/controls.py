"""PNAO beside its controls: `reports/controls.csv`, its figure, and the same in a terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from rich.console import Console

from mer_pnao.controls.names import DENSE, METHODS, PNAO, TITLES
from mer_pnao.controls.run import Outcome
from mer_pnao.evaluation.bootstrap import Predicted, bootstrap_of_means
from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.console import narrow_table
from mer_pnao.foundations.files import write_bytes, write_text
from mer_pnao.report.style import BLUE, MUTED, VERMILLION, as_png
from mer_pnao.report.words import NONE, probability, short_count
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.examples import Examples

_ACROSS = 4  # panels of the figure
_SHIFT = 0.12  # of the distance of two sizes, so that two intervals at one size do not cover each other


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


@as_png
def controls_figure(table: pd.DataFrame, has_valence: bool) -> Figure:
    """A PNG of `controls_table`'s table: each method beside PNAO, size by size, with 95 % intervals.

    The sizes stand at equal distances, for PNAO's rounds may differ little; their parameters are written below.
    """
    others = [method for method in METHODS if method != PNAO]
    pnao = table[table["method"] == PNAO].sort_values("round")
    sizes = [
        f"{short_count(row['parameters'])}\n{100 * row['parameters_ratio']:.0f} %\n{row['epochs']} ep."
        for row in pnao.to_dict("records")
    ]
    figure = Figure(figsize=(10.8, 6.2))
    grid = figure.subplots(-(-len(others) // _ACROSS), _ACROSS, squeeze=False, sharey=True)
    for axes, method in zip(grid.flat, others, strict=True):
        _draw_panel(axes, pnao, table[table["method"] == method].sort_values("round"))
        axes.set_xticks(range(len(sizes)), sizes)
        axes.set_title("Dense (100 %), trained on" if method == DENSE else TITLES[method])
    low, high = grid[0, 0].get_ylim()
    grid[0, 0].set_ylim(low - 0.1 * (high - low))  # room for P
    for axes in grid[:, 0]:
        axes.set_ylabel("Com, test" if has_valence else "Com = Dis, test")
    figure.supxlabel("parameters, their share of the dense network, epochs", fontsize=9, color=MUTED)
    figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside upper center", ncols=2)
    return figure


def _draw_panel(axes: Axes, pnao: pd.DataFrame, method: pd.DataFrame) -> None:
    places = np.arange(float(len(pnao)))
    for table, shift, colour, line, label in (
        (pnao, -_SHIFT, BLUE, "-o", "PNAO"),
        (method, _SHIFT, VERMILLION, "--s", "the panel's method; P: that it is better than PNAO"),
    ):
        ends = [table["com"] - table["com_low"], table["com_high"] - table["com"]]
        axes.errorbar(places + shift, table["com"], ends, fmt=line, color=colour, elinewidth=1.1, label=label)
    for place, row in zip(places, method.to_dict("records"), strict=True):
        said, bottom = f"P {probability(row['p_better_than_pnao'])}", axes.get_xaxis_transform()
        axes.text(float(place), 0.02, said, transform=bottom, ha="center", fontsize=7.5, color=MUTED)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.grid(False, axis="x")


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
