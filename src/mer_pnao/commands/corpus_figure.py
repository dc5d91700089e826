"""What `mer check` has counted, as a figure."""

from pathlib import Path

from matplotlib.figure import Figure

from mer_pnao.commands.corpus_check import CorpusReport
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import write_bytes
from mer_pnao.report.style import as_png, drawable


def draw_report(report: CorpusReport, path: Path) -> None:
    """Write a figure of the classes by split and of the clips' lengths. Raises InputError for a path that cannot be."""
    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a figure must be a .png file")
    try:
        write_bytes(path, _figure(report))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


@as_png
def _figure(report: CorpusReport) -> Figure:
    figure = Figure(figsize=(9, 3.5))
    left, right = figure.subplots(1, 2)
    counts = report.clips.groupby(["discrete", "split"]).size().unstack(fill_value=0)
    counts = counts.reindex([*report.labels, *([""] if "" in counts.index else [])], fill_value=0)
    bottom = 0 * counts.sum(axis=1)
    for split in report.splits():
        left.bar(range(len(counts)), counts[split], bottom=bottom, label=split)
        bottom = bottom + counts[split]
    names = [label or "unlabelled" for label in counts.index]
    drawn = drawable(names)
    left.set_xticks(range(len(counts)), drawn, rotation=45, ha="right")
    left.set_xlabel("" if drawn == names else "emotions, in the order of the printed table")
    left.set_ylabel("clips")
    left.grid(False, axis="x")
    figure.legend(loc="outside lower center", ncols=6)  # beside the bars: it has no frame
    right.hist(report.clips["seconds"].dropna(), bins=30)
    right.set_xlabel("length (s)")
    right.set_ylabel("clips")
    return figure
