"""The figure of the controls: Com against parameters, a panel for each method that PNAO is compared with."""

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from mer_pnao.controls.names import DENSE, METHODS, PNAO, TITLES
from mer_pnao.report.style import BLUE, MUTED, VERMILLION, as_png
from mer_pnao.report.words import probability, short_count

ACROSS = 4
SHIFT = 0.12  # of the distance of two sizes, so that two intervals at one size do not cover each other


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
    grid = figure.subplots(-(-len(others) // ACROSS), ACROSS, squeeze=False, sharey=True)
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
        (pnao, -SHIFT, BLUE, "-o", "PNAO"),
        (method, SHIFT, VERMILLION, "--s", "the panel's method; P: that it is better than PNAO"),
    ):
        ends = [table["com"] - table["com_low"], table["com_high"] - table["com"]]
        axes.errorbar(places + shift, table["com"], ends, fmt=line, color=colour, elinewidth=1.1, label=label)
    for place, row in zip(places, method.to_dict("records"), strict=True):
        said, bottom = f"P {probability(row['p_better_than_pnao'])}", axes.get_xaxis_transform()
        axes.text(float(place), 0.02, said, transform=bottom, ha="center", fontsize=7.5, color=MUTED)
    axes.set_xlim(-0.5, len(places) - 0.5)
    axes.grid(False, axis="x")
