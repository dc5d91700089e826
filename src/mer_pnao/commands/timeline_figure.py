"""A recording's answers over time, as a figure."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MultipleLocator
from numpy.typing import NDArray

from mer_pnao.commands.timelines import clock
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import write_bytes
from mer_pnao.predict import Prediction
from mer_pnao.recordings.timeline import Window
from mer_pnao.report.style import BLUE, INK, MUTED, ORANGE, RULE, SHARES, as_png, drawable

_TICKS, _MOST_TICKS = (0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600), 12  # s, and how many
_NOBODY = "#eceff3"


def draw_timeline(windows: Sequence[Window], labels: Sequence[str], path: Path) -> None:
    """Write a figure of a recording's windows, in order: valence, posteriors, and when a voice and a face were there.

    Raises InputError for a path that no figure can be written to, or no windows.
    """
    if not windows:
        raise InputError(f"{path} is not drawn: there is no window")
    try:
        write_bytes(path, _figure(windows, labels))
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def check_figure_path(path: Path) -> None:
    """Before the work: raise InputError unless the path is that of a PNG, and no folder."""
    if path.suffix.lower() != ".png" or path.is_dir():
        raise InputError(f"{path}: a figure must be a .png file")


@as_png
def _figure(windows: Sequence[Window], labels: Sequence[str]) -> Figure:
    figure = Figure(figsize=(9.6, 3.3 + 0.24 * len(labels)))
    top, middle, bottom = figure.subplots(3, 1, sharex=True, height_ratios=[9, max(3, 1.5 * len(labels)), 2])
    edges = _edges(windows)
    _draw_valence(top, windows, edges)
    _draw_posteriors(middle, windows, labels, edges)
    _draw_presence(bottom, windows, edges)
    bottom.set_xlim(edges[0, 0], edges[-1, 1])
    bottom.set_xlabel("time of the recording")
    every = next((each for each in _TICKS if edges[-1, 1] - edges[0, 0] <= _MOST_TICKS * each), None)
    if every:
        bottom.xaxis.set_major_locator(MultipleLocator(every))
    bottom.xaxis.set_major_formatter(lambda seconds, _: clock(seconds).removesuffix(".0"))
    handles, names = top.get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=4)
    return figure


def _edges(windows: Sequence[Window]) -> NDArray[np.float64]:
    """From when to when each window is drawn (n, 2), since windows overlap: to the middle between two of them."""
    spans = np.array([(window.start, window.end) for window in windows])
    middles = spans.mean(axis=1)
    edges = spans.copy()
    overlapping = spans[:-1, 1] > spans[1:, 0]
    between = (middles[:-1] + middles[1:]) / 2
    edges[:-1, 1] = np.where(overlapping, between, edges[:-1, 1])
    edges[1:, 0] = np.where(overlapping, between, edges[1:, 0])
    return edges


def _draw_valence(axes: Axes, windows: Sequence[Window], edges: NDArray[np.float64]) -> None:
    """A line that is broken where windows lie apart or have no answer; a dot is the larger, the surer it is."""
    points: list[tuple[float, float, float]] = []  # time, valence, confidence; NaN breaks the line
    last = edges[0, 0]
    for window, (left, right) in zip(windows, edges, strict=True):
        if left > last + 1e-6 or not isinstance(window.answer, Prediction):
            points.append((left, np.nan, 0.0))
        if isinstance(window.answer, Prediction):
            points.append(((window.start + window.end) / 2, window.answer.valence, window.answer.confidence))
        last = right
    times, values, confidences = np.array(points).T
    _shade_gaps(axes, windows, edges)
    axes.plot(times, values, color=BLUE, linewidth=1.2, zorder=2)
    largest = float(np.clip(9.6 * 72 * 0.6 / len(windows), 2.5, 8)) ** 2  # so that neighbours do not touch
    for share in (0.1, 0.5, 0.9):
        axes.scatter([], [], s=share * largest, color=BLUE, label=f"confidence {share:g}".replace("0.", "."))
    axes.scatter(times, values, s=confidences * largest, color=BLUE, zorder=3)
    known = next((each.answer.valence_range for each in windows if isinstance(each.answer, Prediction)), None)
    for value in known or ():
        axes.axhline(value, color=MUTED, linewidth=0.9, linestyle=":")
    axes.set_title("Valence" + (", dotted: its range in training" if known else ""))
    axes.margins(y=0.12)


def _shade_gaps(axes: Axes, windows: Sequence[Window], edges: NDArray[np.float64]) -> None:
    """Where nobody speaks or is seen, or windows are left out."""
    there = np.array([window.voice and window.face is not False for window in windows])
    gaps = [*edges[~there], *np.column_stack([edges[:-1, 1], edges[1:, 0]])]
    spans = [(left, right - left) for left, right in gaps if right > left + 1e-6]
    if spans:
        whole, label = axes.get_xaxis_transform(), "nobody heard or seen"  # from the lower edge to the upper one
        axes.broken_barh(spans, (0, 1), color=_NOBODY, linewidth=0, zorder=0, transform=whole, label=label)


def _draw_posteriors(axes: Axes, windows: Sequence[Window], labels: Sequence[str], edges: NDArray[np.float64]) -> None:
    """A band an emotion, the darker the likelier; the answer's is framed."""
    # A column a window, and one between it and the next; NaN shows nothing.
    shares = np.full((len(labels), 2 * len(windows) - 1), np.nan)
    for column, window in enumerate(windows):
        if isinstance(window.answer, Prediction):
            shares[:, 2 * column] = [window.answer.posteriors[label] for label in labels]
    axes.pcolormesh(edges.ravel(), np.arange(len(labels) + 1), shares, cmap=SHARES, vmin=0, vmax=1)
    told = np.isfinite(shares[0, ::2])
    rows = np.array([labels.index(each.answer.emotion) for each in windows if isinstance(each.answer, Prediction)])
    for side in (0.08, 0.92):
        axes.hlines(rows + side, *edges[told].T, color=ORANGE, linewidth=1.6)
    axes.set_yticks(np.arange(len(labels)) + 0.5, drawable(labels))
    axes.set_ylim(len(labels), 0)
    axes.grid(False)
    axes.set_yticks(range(1, len(labels)), minor=True)
    axes.grid(True, axis="y", which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    axes.set_title("Posteriors, the answer between orange lines")
    axes.set_facecolor(_NOBODY)


def _draw_presence(axes: Axes, windows: Sequence[Window], edges: NDArray[np.float64]) -> None:
    """When a face was seen and a voice heard."""
    looked = any(window.face is not None for window in windows)
    rows = [("voice", [window.voice for window in windows])]
    if looked:
        rows.append(("face", [bool(window.face) for window in windows]))
    for row, (_, there) in enumerate(rows):
        spans = [(left, right - left) for (left, right), seen in zip(edges, there, strict=True) if seen]
        axes.broken_barh(spans, (row + 0.2, 0.6), color=INK, linewidth=0)
    axes.set_yticks(np.arange(len(rows)) + 0.5, [name for name, _ in rows])
    axes.set_ylim(len(rows), 0)
    axes.grid(False)
    axes.spines["left"].set_color(RULE)
