"""What `mer check` has found, on the terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mer_pnao.commands.corpus_check import CorpusReport

_BAR = 40  # characters of the longest bar
_MOST = 20  # lines of a list


def print_report(report: CorpusReport, console: Console) -> None:
    """Draw the classes of each split and the lengths of the clips as bars, and list what is wrong."""
    clips = report.clips
    for split in report.splits():
        _print_split(split, clips[clips["split"] == split], report.labels, console)
    if clips["seconds"].notna().any():
        _print_lengths(clips["seconds"].dropna(), console)
    _print_list(f"{len(report.unmentioned)} video(s) that no label mentions, left alone", report.unmentioned, console)
    reasons = [f"{name}: {reason}" for name, reason in report.skipped.items()]
    _print_list(f"{len(reasons)} clip(s) that will be skipped", reasons, console)
    _print_list(f"{len(report.faults)} fault(s) that would stop the run or spoil its scores", report.faults, console)
    for remark in report.remarks:
        console.print(f"Note: {remark}.")
    if report.unseen:
        console.print(
            f"The files of {report.unseen} clips were not opened, nor were videos without a label looked for."
        )
    if not report.faults:
        console.print("The corpus is ready. Silent sound and streams cut short show in decoding only.")


def _print_split(split: str, clips: pd.DataFrame, labels: tuple[str, ...], console: Console) -> None:
    speakers = clips["speaker"][clips["speaker"] != ""].nunique()
    valence = clips["valence"].dropna()
    parts = [f"{len(clips)} clips", f"{speakers or 'unknown'} speakers"]
    parts.append(f"{len(valence)} valences, mean {valence.mean():.2f}" if len(valence) else "no valence")
    console.print(Text.assemble((split, "bold"), f": {', '.join(parts)}"))
    counts = Counter(clips["discrete"])
    unlabelled = {"unlabelled": counts[""]} if counts[""] else {}
    _print_bars({label: counts[label] for label in labels} | unlabelled, console)


def _print_lengths(seconds: "pd.Series[float]", console: Console) -> None:
    low, middle, high = seconds.quantile([0, 0.5, 1])
    hours = seconds.sum() / 3600
    said = f": {low:.1f} to {high:.1f} s, median {middle:.1f} s, {hours:.2f} h in all"
    console.print(Text.assemble(("length", "bold"), said))
    width = next(width for width in (0.5, 1, 2, 5, 10, 30, 60, 300, 3600) if high < 12 * width or width == 3600)
    counts = Counter(int(length // width) for length in seconds)
    _print_bars(
        {f"{width * part:g}-{width * (part + 1):g} s": counts[part] for part in range(int(high // width) + 1)}, console
    )


def _print_bars(counts: Mapping[str, int], console: Console) -> None:
    longest = max(counts.values(), default=0) or 1
    table = Table.grid(padding=(0, 2))
    for name, count in counts.items():
        table.add_row(Text(f"  {name}"), str(count), "█" * round(_BAR * count / longest))
    console.print(table)


def _print_list(title: str, lines: Sequence[str], console: Console) -> None:
    if lines:
        console.print(title, style="bold", highlight=False)
        for line in lines[:_MOST]:
            shown = line.encode(errors="backslashreplace").decode()  # a file's name may not be in UTF-8
            console.print(Text(f"  {shown}"), soft_wrap=True)
        if len(lines) > _MOST:
            console.print(f"  and {len(lines) - _MOST} more", highlight=False)
