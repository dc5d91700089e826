"""The figures: confusion matrices (Fig. 2), the rounds (Fig. 3), weight distributions (Fig. 4), reliability.

Each function returns the bytes of a PNG at twice the screen's density; the same inputs give the same bytes.
"""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from mer_pnao.evaluation.calibration import Reliability, reliability
from mer_pnao.report import emotions
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.style import BLUE, INK, MUTED, ORANGE, OVER_ROUNDS, SHARES, VERMILLION, as_png, drawable


@as_png
def confusion(evidence: Evidence, system: System) -> Figure:
    """Fig. 2: a row is a true emotion; colour and percentage its share, the large number the test clips."""
    labels = drawable(evidence.labels)
    counts = emotions.confusion(evidence, system)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    side = 0.95 + 0.43 * len(labels)
    figure = Figure(figsize=(side + 0.1, side))
    axes = figure.subplots()
    axes.imshow(shares, cmap=SHARES, vmin=0, vmax=1)
    axes.grid(False)
    axes.spines[:].set_visible(False)
    axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    axes.set_yticks(range(len(labels)), labels)
    axes.set(title=system.title, xlabel="predicted", ylabel="true")
    axes.set_xticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.set_yticks(np.arange(len(labels) - 1) + 0.5, minor=True)
    axes.grid(which="minor", color="white", linewidth=1.5)
    axes.tick_params(which="minor", length=0)
    for (row, column), count in np.ndenumerate(counts):
        colour = "white" if shares[row, column] > 0.5 else INK if count else "#b4bec8"
        if not count:
            axes.text(column, row, "0", ha="center", va="center", color=colour)
            continue
        axes.text(column, row - 0.15, f"{count}", ha="center", va="center", color=colour)
        percent = f"{100 * shares[row, column]:.0f} %"
        axes.text(column, row + 0.23, percent, ha="center", va="center", color=colour, fontsize=7)
    return figure


@as_png
def rounds(system: System, has_valence: bool) -> Figure:
    """Fig. 3: Com, Dis, Dim and parameters over the rounds; without valence Com is Dis, and no Dim."""
    panels = ["com", "dis", "dim", "parameters"] if has_valence else ["com", "parameters"]
    height = 5.0 if has_valence else 2.8
    figure = Figure(figsize=(9.6, height))
    grid = figure.subplots(2 if has_valence else 1, 2, squeeze=False)
    for axes, panel in zip(grid.flat, panels, strict=True):
        axes.axvspan(system.best.number - 0.35, system.best.number + 0.35, color="#fdf3dc", zorder=0)
        if panel == "parameters":
            _draw_parameters(axes, system)
        else:
            _draw_scores(axes, system, panel, has_valence)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, nbins=12))
        axes.set_xlim(-0.6, system.rounds[-1].number + 0.6)
        axes.set_xlabel("round")
        axes.grid(False, axis="x")
    handles, names = grid[0, 0].get_legend_handles_labels()
    figure.legend(handles, names, loc="outside lower center", ncols=3)
    return figure


def _draw_scores(axes: Axes, system: System, metric: str, has_valence: bool) -> None:
    titles = {"com": "Com ↑" if has_valence else "Com = Dis ↑", "dis": "Dis ↑", "dim": "Dim ↓"}
    lines = (("Train&Val (out-of-fold)", "trainval", BLUE, "o", "-"), ("test", "test", VERMILLION, "s", "--"))
    for name, split, colour, marker, line in lines:
        values = np.array([getattr(each.scores[split], metric) for each in system.rounds], dtype=float)  # None: NaN
        axes.plot([each.number for each in system.rounds], values, line, marker=marker, color=colour, label=name)
        best = values[system.rounds.index(system.best)]
        axes.plot(system.best.number, best, marker, color=colour, markersize=8)
    axes.axvspan(-2, -2, color="#fdf3dc", label="best round by Train&Val Com")
    axes.margins(y=0.1)
    axes.set_title(titles[metric])


def _draw_parameters(axes: Axes, system: System) -> None:
    ratios = [100 * (each.parameters_ratio or 0) for each in system.rounds]
    colours = [ORANGE if each is system.best else "#9fb4c7" for each in system.rounds]
    bars = axes.bar([each.number for each in system.rounds], ratios, 0.62, color=colours)
    axes.bar_label(bars, [f"{ratio:.0f}" for ratio in ratios], fontsize=7, color=MUTED, padding=2)
    axes.set_ylim(0, 112)
    axes.set_title("Parameters, % of the dense network")


@as_png
def weights(system: System) -> Figure:
    """Fig. 4: how the weights are distributed, a line a round; the best round's is thick."""
    figure = Figure(figsize=(9.6 if system.pruned else 4.8, 3.2))
    axes = figure.subplots()
    last = max(len(system.rounds) - 1, 1)
    for number, histogram in system.weights.items():
        best = number == system.best.number
        axes.plot(
            (histogram["bin_left"] + histogram["bin_right"]) / 2,
            100 * histogram["share"],
            color=OVER_ROUNDS(number / last) if system.pruned else BLUE,
            linewidth=2.8 if best else 1.2,
            zorder=3 if best else 2,
            label=f"round {number}" + (" (best)" if best else ""),
        )
    axes.set(title=system.title, xlabel="weight", ylabel="share of the weights, %")
    axes.set_xlim(*_bulk(list(system.weights.values())))
    axes.set_ylim(bottom=0)
    axes.xaxis.set_major_locator(MaxNLocator(nbins=7))
    if system.pruned:
        axes.legend(fontsize=7.5, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _bulk(histograms: list[pd.DataFrame]) -> tuple[float, float]:
    """The span of the bins in which any round has more than a thousandth of its weights."""
    bins = histograms[0]
    filled = np.max([histogram["share"] for histogram in histograms], axis=0) > 1e-3
    return bins["bin_left"][filled].min(), bins["bin_right"][filled].max()


@as_png
def reliability_diagram(evidence: Evidence) -> Figure:
    """Accuracy against confidence on the test clips: a row a system, its joint posterior first, then its branches."""
    truth = evidence.classes(evidence.test["discrete"])
    systems, branches = list(evidence.systems.values()), evidence.branches
    figure = Figure(figsize=(max(2.35 * (1 + len(branches)) + 0.3, 4.8), 2.75 * len(systems) + 0.2))
    heights = [3, 0.8] * len(systems)
    across = 1 + len(branches)
    grid = figure.subplots(len(heights), across, height_ratios=heights, sharex=True, sharey="row", squeeze=False)
    for row, system in enumerate(systems):
        posteriors = {"joint": evidence.posterior(system.test), **system.branches}
        found = {name: reliability(posterior, truth) for name, posterior in posteriors.items()}
        most = max(each.clips.max() for each in found.values())
        for place, name in enumerate(["joint", *branches]):
            above, below = grid[2 * row : 2 * row + 2, place]
            if name not in found:
                above.set_axis_off()
                below.set_axis_off()
                continue
            _draw_reliability(above, found[name])
            _draw_clips(below, found[name], most)
            above.set_title(name if place else f"{system.title}, joint" if system.branches else system.title)
        grid[2 * row, 0].set_ylabel("accuracy")
        grid[2 * row + 1, 0].set_ylabel("clips")
    for axes in grid[-1]:
        axes.set_xlabel("top posterior")
    return figure


def _draw_reliability(axes: Axes, found: Reliability) -> None:
    filled = found.clips > 0
    lefts, width = found.edges[:-1][filled], found.edges[1]
    accuracy, confidence = found.accuracy[filled], found.confidence[filled]
    axes.bar(lefts, accuracy, 0.94 * width, align="edge", color="#8fc1e0")
    axes.plot([0, 1], [0, 1], ":", color=MUTED, linewidth=1.2)
    axes.vlines(confidence, np.minimum(accuracy, confidence), np.maximum(accuracy, confidence), VERMILLION, lw=1.4)
    axes.plot(confidence, accuracy, "o", color=BLUE, markersize=4)
    axes.set(xlim=(0, 1), ylim=(0, 1.04), xticks=(0, 0.5, 1), yticks=(0, 0.5, 1))
    box = {"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1.5}
    axes.text(0.03, 0.98, f"ECE {found.error:.3f}", va="top", bbox=box)


def _draw_clips(axes: Axes, found: Reliability, most: int) -> None:
    """The clips of each bin, up to the same height in all panels of a system."""
    axes.bar(found.edges[:-1], found.clips, 0.94 * found.edges[1], align="edge", color="#9fb4c7")
    axes.set_ylim(0, 1.05 * most)
    axes.yaxis.set_major_locator(MaxNLocator(integer=True, nbins=2))
