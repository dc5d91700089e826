"""How every figure looks."""

import io
from collections.abc import Callable
from functools import wraps
from typing import ParamSpec

import matplotlib.style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

# Okabe and Ito's palette, told apart with every kind of colour blindness
BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
INK, MUTED, RULE = "#1d2733", "#5b6775", "#dfe4ea"
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#cfe3f1", "#6aaed6", BLUE, "#00456d"])
OVER_ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#9fb4c7", BLUE, "#5e3c99", VERMILLION])
STYLE = {
    "figure.constrained_layout.use": True,
    "font.family": "DejaVu Sans",  # comes with matplotlib: the same on every machine
    "font.size": 9,
    "axes.titlesize": 10,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 9,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": "#aab4bf",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": RULE,
    "grid.linewidth": 0.8,
    "text.color": INK,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.major.size": 0,
    "ytick.major.size": 0,
    "legend.frameon": False,
    "lines.linewidth": 1.8,
    "lines.markersize": 5,
}
DPI = 200
P = ParamSpec("P")


def as_png(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make of a function that draws a figure one that gives it as a PNG, in this style whatever a matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        buffer = io.BytesIO()
        with matplotlib.style.context(["default", STYLE]):
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    return drawn
