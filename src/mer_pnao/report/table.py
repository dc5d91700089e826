"""Table 1 with intervals, the rounds, and the flat metrics."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from rich import box
from rich.console import Console
from rich.table import Table

from mer_pnao.errors import InputError
from mer_pnao.evaluation.bootstrap import Comparison, Predicted, paired_bootstrap
from mer_pnao.layout import SYSTEMS
from mer_pnao.report.calibration import calibration_errors
from mer_pnao.report.seeds import MEASURES, SEED_COLUMNS, OverSeeds, over_seeds, trainval_scores
from mer_pnao.report.systems import TITLES, Evidence, System

BASELINE, PROBE = "baseline", "linear_probe"
NONE = "\N{EN DASH}"  # what is shown where there is no number
CONFIDENT = 0.95  # the P that promotion asks for
COLUMNS = [
    "system",
    "trainval_com",
    "dis",
    "dim",
    "com",
    "com_low",
    "com_high",
    "p_better_than_baseline",
    "parameters",
    "parameters_ratio",
]


def compare(evidence: Evidence, resamples: int, seed: int, rival: str = BASELINE) -> dict[str, Comparison]:
    """Every system's test scores, interval and gain over the rival, on the same resamples."""
    systems = {
        name: Predicted(system.test["discrete"], system.test["valence"]) for name, system in evidence.systems.items()
    }
    truth = evidence.test
    against = rival if rival in systems else None
    return paired_bootstrap(truth["discrete"], truth["valence"], systems, against, resamples, seed)


def verdict(comparison: Comparison) -> str:
    """'better', 'worse', or 'within the noise' when P < .95 or the paired interval of the gain holds zero."""
    gain_low, gain_high, p = comparison.gain_low, comparison.gain_high, comparison.p_better
    if gain_low is None or gain_high is None or p is None:
        raise ValueError("there is no verdict without a baseline")
    if gain_low > 0 and p >= CONFIDENT:
        return "better"
    return "worse" if gain_high < 0 and 1 - p >= CONFIDENT else "within the noise"


def results_table(evidence: Evidence, comparisons: Mapping[str, Comparison]) -> pd.DataFrame:
    """`reports/table.csv`: a row for each of the six systems, empty but for its name when untrained.

    The scores are those of the first seed's networks, the models of record. Where a system was trained with several
    seeds, mean and sample standard deviation over them follow.
    """
    spreads = over_seeds(evidence)

    def row(name: str) -> dict[str, Any]:
        if name not in evidence.systems:
            return {"system": name}
        system, comparison = evidence.systems[name], comparisons[name]
        trainval = trainval_scores(evidence, system)
        return {
            "system": name,
            "trainval_com": None if trainval is None else trainval.com,
            "dis": comparison.scores.dis,
            "dim": comparison.scores.dim,
            "com": comparison.scores.com,
            "com_low": comparison.com_low,
            "com_high": comparison.com_high,
            "p_better_than_baseline": comparison.p_better,
            "parameters": system.best.parameters,
            "parameters_ratio": system.best.parameters_ratio,
            **(_seed_columns(spreads[name]) if name in spreads else {}),
        }

    columns = [*COLUMNS, *SEED_COLUMNS] if spreads else COLUMNS
    return _typed(pd.DataFrame([row(name) for name in SYSTEMS], columns=columns))


def _seed_columns(over: OverSeeds) -> dict[str, float | None]:
    columns: dict[str, float | None] = {"seeds": len(over.seeds)}
    for measure, spread in over.spreads.items():
        columns[f"{measure}_mean"], columns[f"{measure}_std"] = spread or (None, None)
    return columns


def rounds_table(evidence: Evidence) -> pd.DataFrame:
    """`reports/rounds.csv`: a row for each system, round and split, from the rounds' records."""
    costs = ["parameters", "parameters_ratio", "latency_ms", "best"]
    columns = ["system", "round", "split", "dis", "dim", "com", *costs]
    rows = [
        [
            name,
            each.number,
            split,
            scores.dis,
            scores.dim,
            scores.com,
            *(getattr(each, cost) for cost in costs),
        ]
        for name, system in evidence.systems.items()
        if name not in ("linear_probe", "final")  # they have no rounds
        for each in system.rounds
        for split, scores in (("trainval", each.trainval), ("test", each.test))
        if scores is not None
    ]
    return _typed(pd.DataFrame(rows, columns=columns))


def metrics(
    evidence: Evidence, comparisons: Mapping[str, Comparison], against_probe: Mapping[str, Comparison]
) -> dict[str, dict[str, float | None]]:
    """`reports/metrics.json`: few numbers a system, for `dvc metrics show`."""

    def of(name: str, system: System) -> dict[str, float | None]:
        trainval, scores = trainval_scores(evidence, system), comparisons[name].scores
        numbers = {
            "trainval_com": None if trainval is None else trainval.com,
            "dis": scores.dis,
            "dim": scores.dim,
            "com": scores.com,
            "p_better_than_probe": against_probe[name].p_better,
            "parameters_ratio": system.best.parameters_ratio,
            **calibration_errors(evidence, system),
        }
        return {key: None if value is None else round(value, 6) for key, value in numbers.items()}

    return {name: of(name, system) for name, system in evidence.systems.items()}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Whole parameters although some are missing; floats although a whole column is."""
    counts = {"parameters": "Int64"} | ({"seeds": "Int64"} if "seeds" in table else {})
    numbers = [column for column in table if column not in ("system", "round", "split", "best", *counts)]
    return table.astype(counts | {str(column): float for column in numbers})


def probability(p: float) -> str:
    """Two digits; a finite number of resamples cannot tell a P near 0 or 1 from 0 or 1."""
    return ">\N{NO-BREAK SPACE}0.99" if p > 0.99 else "<\N{NO-BREAK SPACE}0.01" if p < 0.01 else f"{p:.2f}"


def short_count(count: float) -> str:
    """12345 -> '12.3 k'."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def print_table(path: Path, console: Console) -> None:
    """Print `reports/table.csv`. Raises InputError naming the file when it is missing or is no such table."""
    try:
        table = pd.read_csv(path)
    except (OSError, ValueError) as error:
        raise InputError(f"{path} is not a readable table: {error}") from error
    columns = [*COLUMNS, *(SEED_COLUMNS if "seeds" in table else [])]
    if missing := [column for column in columns if column not in table]:
        raise InputError(f"{path} lacks the column {missing[0]!r}")
    # Narrow enough for a terminal of 80 columns, where wrapped numbers would hide the names.
    shown = Table(header_style="bold", pad_edge=False, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("System", no_wrap=True)
    for heading in ("Tr&Val", "Dis ↑", "Dim ↓", "Com ↑", "95 %", "P", "Parameters"):
        shown.add_column(heading, justify="right", no_wrap=True)
    best = table["com"].max()
    for row in table[table["com"].notna()].to_dict("records"):
        style = "bold" if row["com"] == best else None
        shown.add_row(*_printed(row), style=style)
    console.print(shown)
    console.print("Com = Dis - 0.25 Dim on the test split; P: probability to be better than the baseline.", style="dim")
    if "seeds" in table:
        _print_seeds(table[table["seeds"].notna()], console)


def _print_seeds(table: pd.DataFrame, console: Console) -> None:
    shown = Table(header_style="bold", pad_edge=False, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0))
    shown.add_column("System", no_wrap=True)
    for heading in ("Seeds", "Tr&Val", "Dis ↑", "Dim ↓", "Com ↑"):
        shown.add_column(heading, justify="right", no_wrap=True)
    for row in table.to_dict("records"):
        values = [plus_minus(row[f"{measure}_mean"], row[f"{measure}_std"]) for measure in MEASURES]
        narrow = [value.replace(" ± ", "±") for value in values]  # negative ones fit a line, too
        shown.add_row(TITLES.get(row["system"], row["system"]), f"{row['seeds']:.0f}", *narrow)
    console.print(shown)
    console.print("Mean ± sample standard deviation over the seeds; above, the first seed alone.", style="dim")


def plus_minus(mean: float | None, std: float | None) -> str:
    """A mean and, where there are several values, their standard deviation; both may be missing or NaN."""
    if mean is None or pd.isna(mean):
        return NONE
    return f"{mean:.3f}" if std is None or pd.isna(std) else f"{mean:.3f} ± {std:.3f}"


def _printed(row: Mapping[Any, Any]) -> list[str]:
    def number(key: str, digits: int = 3) -> str:
        return NONE if pd.isna(row[key]) else f"{row[key]:.{digits}f}"

    p = row["p_better_than_baseline"]
    parameters = NONE if pd.isna(row["parameters"]) else short_count(row["parameters"]).replace(" ", "")
    if not pd.isna(row["parameters_ratio"]):
        parameters += f" ({row['parameters_ratio']:.0%})".replace("%", " %")
    return [
        TITLES.get(row["system"], row["system"]),
        *(number(key) for key in ("trainval_com", "dis", "dim", "com")),
        f"{number('com_low', 2)} … {number('com_high', 2)}",
        NONE if row["system"] == BASELINE or pd.isna(p) else probability(p),
        parameters,
    ]
