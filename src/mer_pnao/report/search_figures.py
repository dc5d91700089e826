"""The figures of a search: history, importances, slices, contours, and the front of Com against size."""

from collections.abc import Sequence
from itertools import combinations
from typing import Any

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from mer_pnao.params.search_space import Knob, Value
from mer_pnao.report.style import BLUE, INK, MUTED, VERMILLION, as_png
from mer_pnao.report.words import short_count
from mer_pnao.search.record import StudyRecord, TrialRecord

COLOURS = matplotlib.colormaps["viridis"]
TITLES = {
    "naor": "NAOR",
    "alpha": r"sparsity $\alpha$",
    "rounds": "rounds",
    "hidden": "hidden nodes",
    "width": "fused width D",
    "dropout": "dropout",
    "scorer": "scorer",
    "learning_rate": "learning rate",
}
ACROSS = 3


def draw_search(record: StudyRecord) -> dict[str, bytes]:
    """The figures as PNGs, by name; those that the trials are too few for are left out."""
    complete = [each for each in record.trials if each.complete]
    pictures = {"history": history(record)} if complete else {}
    if record.importances:
        pictures["importances"] = importances(record)
    if len(complete) > 1:
        pictures["pareto"] = pareto(record)
        varied = [knob for knob in record.knobs if len({each.values[knob.name] for each in complete}) > 1]
        if varied:
            pictures["slice"] = slices(complete, varied)
        if len(varied) > 1:
            pictures["contour"] = contours(complete, varied)
    return pictures


@as_png
def history(record: StudyRecord) -> Figure:
    """Com of every trial by number, and the highest so far; hollow: given up early."""
    complete = [each for each in record.trials if each.complete]
    pruned = [each for each in record.trials if not each.complete]
    figure = Figure(figsize=(6.4, 3.4))
    axes = figure.subplots()
    numbers, coms = [each.number for each in complete], [each.best.com for each in complete]
    axes.scatter(numbers, coms, s=22, color=BLUE)
    if pruned:
        places = [each.number for each in pruned], [each.best.com for each in pruned]
        axes.scatter(*places, s=22, facecolors="none", edgecolors=MUTED, label="given up early")
    axes.step(numbers, np.maximum.accumulate(coms), where="post", color=VERMILLION, label="highest so far")
    if record.own:
        axes.axhline(record.own.best.com, color=INK, linestyle=":", linewidth=1.2, label="the profile's own values")
    axes.set(xlabel="trial", ylabel="Com, Train&Val", title="Every trial")
    axes.xaxis.set_major_locator(MaxNLocator(integer=True))
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    return figure


@as_png
def importances(record: StudyRecord) -> Figure:
    """How much each knob says about which trials are among the best (PED-ANOVA)."""
    ordered = sorted(record.importances.items(), key=lambda each: each[1])
    figure = Figure(figsize=(5.2, 1.1 + 0.42 * len(ordered)))
    axes = figure.subplots()
    places = range(len(ordered))
    axes.barh(places, [share for _, share in ordered], color=BLUE, height=0.62)
    axes.set_yticks(places, [TITLES[name] for name, _ in ordered])
    axes.grid(False, axis="y")
    for place, (_, share) in enumerate(ordered):
        axes.text(share + 0.01, place, f"{share:.2f}", va="center", fontsize=8, color=MUTED)
    axes.set_xlim(0, max(share for _, share in ordered) * 1.15)
    axes.set(xlabel="share of what tells good trials from others", title="Importance for Com (PED-ANOVA)")
    return figure


@as_png
def pareto(record: StudyRecord) -> Figure:
    """Com against parameters after each trial's rounds, and those that none beats in both."""
    complete = [each for each in record.trials if each.complete]
    figure = Figure(figsize=(5.2, 3.4))
    axes = figure.subplots()
    sizes, coms = zip(*((each.best.parameters, each.best.com) for each in complete), strict=True)
    axes.scatter(sizes, coms, s=18, color="#9fb4c7")
    sizes, coms = zip(*((each.best.parameters, each.best.com) for each in record.front), strict=True)
    axes.step(sizes, coms, "-o", where="post", color=BLUE, label="no trial is better in both")
    if record.chosen:
        best = record.chosen.best
        axes.scatter([best.parameters], [best.com], s=110, marker="*", color=VERMILLION, zorder=3, label="chosen")
    if record.pareto:
        axes.axhline(record.com_at_least, color=INK, linestyle=":", linewidth=1.2, label="com_at_least")
    axes.set(xlabel="parameters after the trial's rounds", ylabel="Com, Train&Val", title="Com against size")
    axes.xaxis.set_major_locator(MaxNLocator(nbins=6))
    axes.xaxis.set_major_formatter(lambda value, _: short_count(value))
    figure.legend(loc="outside upper right", ncols=3, fontsize=8)
    return figure


@as_png
def slices(trials: Sequence[TrialRecord], knobs: Sequence[Knob]) -> Figure:
    """Com against each knob, a point a trial, the later the darker."""
    numbers, coms = [each.number for each in trials], [each.best.com for each in trials]
    figure, grid = _panels(len(knobs), 3.0, 2.8, sharey=True)
    for axes, knob in zip(grid.flat, knobs, strict=False):
        points = axes.scatter(_places(trials, knob), coms, c=numbers, cmap=COLOURS.reversed(), s=22)
        _axis(axes, knob, "x")
    for axes in grid[:, 0]:
        axes.set_ylabel("Com, Train&Val")
    figure.colorbar(points, ax=grid, label="trial", shrink=0.9)
    return figure


@as_png
def contours(trials: Sequence[TrialRecord], knobs: Sequence[Knob]) -> Figure:
    """For each pair of knobs, the highest Com at each point of the grid that was tried."""
    pairs = list(combinations(knobs, 2))
    coms = [each.best.com for each in trials]
    scale = Normalize(min(coms), max(coms) if max(coms) > min(coms) else min(coms) + 1e-6)
    figure, grid = _panels(len(pairs), 3.2, 3.0, sharey=False)
    for axes, (first, second) in zip(grid.flat, pairs, strict=False):
        best: dict[tuple[float, float], float] = {}
        for x, y, com in zip(_places(trials, first), _places(trials, second), coms, strict=True):
            best[x, y] = max(com, best.get((x, y), com))
        xs, ys = zip(*best, strict=True)
        points = axes.scatter(xs, ys, c=list(best.values()), cmap=COLOURS, norm=scale, marker="s", s=130)
        _axis(axes, first, "x")
        _axis(axes, second, "y")
    figure.colorbar(points, ax=grid, label="highest Com, Train&Val", shrink=0.9)
    return figure


def _panels(count: int, width: float, height: float, sharey: bool) -> tuple[Figure, NDArray[Any]]:
    """A figure with so many axes of a size in inches, a few in each row."""
    across, rows = min(ACROSS, count), -(-count // ACROSS)
    figure = Figure(figsize=(width * across + 0.8, height * rows))
    grid = figure.subplots(rows, across, squeeze=False, sharey=sharey)
    for axes in grid.flat[count:]:
        axes.set_visible(False)
    return figure, grid


def _places(trials: Sequence[TrialRecord], knob: Knob) -> list[float]:
    """Where the trials' values stand on the axis: on the grid at equal distances, others between."""
    values = [each.values[knob.name] for each in trials]
    if knob.words:
        return [float(knob.grid.index(value)) for value in values]
    scale = np.log if knob.logarithmic else np.asarray
    places: list[float] = np.interp(scale(values), scale(knob.grid), range(len(knob.grid))).tolist()
    return places


def short(value: Value) -> str:
    """A knob's value for people."""
    return value if isinstance(value, str) else f"{value:g}"


def _axis(axes: Axes, knob: Knob, which: str) -> None:
    """Ticks at the whole grid, also where nothing was tried."""
    axis = axes.xaxis if which == "x" else axes.yaxis
    axes.set(**{f"{which}lim": (-0.5, len(knob.grid) - 0.5)})
    labels = list(map(short, knob.grid))
    axis.set_ticks(range(len(labels)), labels)
    if which == "x" and sum(map(len, labels)) > 18:
        axes.tick_params("x", rotation=45)
    axis.set_label_text(TITLES[knob.name])
