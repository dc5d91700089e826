"""What each speaker gains over the linear probe, of the test split or of the nested cross-validation."""

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from mer_pnao.report.style import BLUE, MUTED, VERMILLION, as_png


@as_png
def speakers_figure(gains: Mapping[str, Mapping[str, float]]) -> Figure:
    """A PNG with a row for each system and a dot for each speaker: its Com minus the linear probe's on his clips."""
    figure = Figure(figsize=(10.8, 0.6 * len(gains) + 1.2))
    axes = figure.subplots()
    spread = np.random.default_rng(0)  # upwards and downwards only, so that dots do not cover each other
    for place, each in enumerate(gains.values()):
        values = np.array(list(each.values()))
        axes.plot(values, place + spread.uniform(-0.22, 0.22, len(values)), "o", color=BLUE, alpha=0.55, mew=0)
        axes.plot([values.mean()] * 2, [place - 0.36, place + 0.36], color=VERMILLION)
    axes.axvline(0, color=MUTED, linewidth=1)
    axes.set_yticks(range(len(gains)), list(gains))
    axes.invert_yaxis()
    axes.grid(False, axis="y")
    axes.set_xlabel("a speaker's Com minus the linear probe's; the line is the mean over speakers")
    return figure
