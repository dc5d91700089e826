"""How every figure looks."""

import io
from collections.abc import Callable, Sequence
from functools import cache, wraps
from typing import ParamSpec

import matplotlib.style
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, fontManager, get_font

# Okabe and Ito's palette, told apart with every kind of colour blindness
BLUE, VERMILLION, ORANGE = "#0072B2", "#D55E00", "#E69F00"
INK, MUTED, RULE = "#1d2733", "#5b6775", "#dfe4ea"
SHARES = LinearSegmentedColormap.from_list("shares", ["#ffffff", "#cfe3f1", "#6aaed6", BLUE, "#00456d"])
OVER_ROUNDS = LinearSegmentedColormap.from_list("rounds", ["#9fb4c7", BLUE, "#5e3c99", VERMILLION])
STYLE = {
    "figure.constrained_layout.use": True,
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
# The first comes with matplotlib: the same on every machine. The others have what it lacks, where one is installed.
_FAMILIES = (
    "DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "Noto Sans SC", "Source Han Sans SC", "WenQuanYi Micro Hei",
    "WenQuanYi Zen Hei", "Droid Sans Fallback", "Microsoft YaHei", "SimHei", "PingFang SC", "Hiragino Sans GB",
    "Arial Unicode MS", "Unifont",
)  # fmt: skip
DPI = 200
P = ParamSpec("P")


def as_png(draw: Callable[P, Figure]) -> Callable[P, bytes]:
    """Make of a function that draws a figure one that gives it as a PNG, in this style whatever a matplotlibrc says."""

    @wraps(draw)
    def drawn(*args: P.args, **kwargs: P.kwargs) -> bytes:
        buffer = io.BytesIO()
        with matplotlib.style.context(["default", STYLE, {"font.family": _families()}]):
            draw(*args, **kwargs).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
        return buffer.getvalue()

    return drawn


def drawable(names: Sequence[str]) -> list[str]:
    """The names as figures show them: as they are, or numbered from 1 where no font here has all their signs."""
    fonts = [get_font(fontManager.findfont(FontProperties(family=[family]))) for family in _families()]
    if all(any(font.get_char_index(ord(sign)) for font in fonts) for name in names for sign in name):
        return list(names)
    return [str(number) for number in range(1, len(names) + 1)]


@cache
def _families() -> list[str]:
    there = {font.name for font in fontManager.ttflist}
    return [family for family in _FAMILIES if family in there]
