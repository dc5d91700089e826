"""Table 1 in a terminal of 80 columns."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich.console import Console
from rich.table import Table

from mer_pnao.foundations.console import narrow_table
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import BASELINE, TITLES
from mer_pnao.report.words import NONE, plus_minus, probability, short_count

_MEASURES = ("trainval_com", "dis", "dim", "com")
_PRINTED = (
    "system", *_MEASURES, "com_low", "com_high", "p_better_than_baseline", "p_sign_flip", "parameters",
    "parameters_ratio", "clips", "speakers",
)  # fmt: skip
_SEEDS = tuple(f"{measure}_{what}" for measure in _MEASURES for what in ("mean", "std"))


def print_table(path: Path, console: Console) -> None:
    """Print `reports/table.csv`. Raises InputError naming the file when it is missing or is no such table."""
    try:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])  # a split may be called null
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table: {error}") from error
    if missing := [name for name in (*_PRINTED, *(_SEEDS if "seeds" in table else ())) if name not in table]:
        raise InputError(f"{path} lacks the column {missing[0]!r}")
    split_of = table.get("split", pd.Series("", table.index))
    blocks = {str(split): rows for split, rows in table.groupby(split_of, sort=False)}
    for split, rows in blocks.items():
        scored = rows[rows["com"].notna()]
        if len(scored) or not split:
            _print_scores(scored, split, console)
    scored = table[table["com"].notna()]
    drawn = "speakers" if (scored["speakers"] > 0).all() else "clips"
    where = "its split"
    if "split" not in table and len(scored):
        of = f" of {scored['speakers'].iloc[0]:.0f} speakers" if drawn == "speakers" else ""
        where = f"{scored['clips'].iloc[0]:.0f} test clips{of}"
    console.print(
        f"Com = Dis - 0.25 Dim on {where}. Interval and P (better than the baseline) from resamples of {drawn}. "
        "Of one seed they tell of these trained models.",
        style="dim",
    )
    if scored["p_sign_flip"].notna().any():
        console.print("p: exact sign-flip test over the speakers, too few for interval and P alone.", style="dim")
    console.print("Another kind of processor moves Com as another seed does: by about .03 on the demo.", style="dim")
    if "seeds" in table:
        for split, rows in blocks.items():
            if (known := rows["seeds"].notna()).any():
                _print_seeds(rows[known], split, console)
        console.print("Mean ± sample standard deviation over the seeds; above, the first seed alone.", style="dim")


def _table(split: str, headings: list[str]) -> Table:
    title = f"Split {split}" if split else None
    return narrow_table(["System", *headings], title=title, title_justify="left", show_edge=False)


def _print_scores(table: pd.DataFrame, split: str, console: Console) -> None:
    few = bool(table["p_sign_flip"].notna().any())
    shown = _table(split, ["Tr&Val", "Dis ↑", "Dim ↓", "Com ↑", "95 %", "P", *(["p"] if few else []), "Parameters"])
    best = table["com"].max()
    for row in table.to_dict("records"):
        style = "bold" if row["com"] == best else None
        shown.add_row(*_printed(row, few), style=style)
    if console.measure(shown, options=console.options.update(max_width=2 * console.width)).maximum > console.width:
        shown.padding = (0, 0, 0, 0)
    console.print(shown)
    console.print()


def _print_seeds(table: pd.DataFrame, split: str, console: Console) -> None:
    shown = _table(split, ["Seeds", "Tr&Val", "Dis ↑", "Dim ↓", "Com ↑"])
    for row in table.to_dict("records"):
        values = [plus_minus(row[f"{measure}_mean"], row[f"{measure}_std"]) for measure in _MEASURES]
        narrow = [value.replace(" ± ", "±") for value in values]  # negative ones fit a line, too
        shown.add_row(TITLES.get(row["system"], row["system"]), f"{row['seeds']:.0f}", *narrow)
    console.print(shown)
    console.print()


def _printed(row: Mapping[Any, Any], few: bool) -> list[str]:
    def number(key: str, digits: int = 3) -> str:
        return NONE if pd.isna(row[key]) else f"{row[key]:.{digits}f}"

    p = row["p_better_than_baseline"]
    parameters = NONE if pd.isna(row["parameters"]) else short_count(row["parameters"]).replace(" ", "")
    if not pd.isna(row["parameters_ratio"]):
        parameters += f" {row['parameters_ratio']:.0%}"
    return [
        TITLES.get(row["system"], row["system"]),
        *map(number, _MEASURES),
        f"{number('com_low', 2)}…{number('com_high', 2)}",
        NONE if row["system"] == BASELINE or pd.isna(p) else probability(p),
        *([NONE if row["system"] == BASELINE else number("p_sign_flip", 2)] if few else []),
        parameters,
    ]
