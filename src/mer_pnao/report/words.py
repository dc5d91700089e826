"""Figures as people read them."""

import pandas as pd

FINAL_WITH_PROBE = "Final with the probe"  # where half of its decision is the linear probe's
NONE = "\N{EN DASH}"  # what is shown where there is no number


def number(value: float | None, digits: int = 3) -> str:
    """A figure with a true minus sign; a dash where there is none."""
    return NONE if value is None else f"{value:.{digits}f}".replace("-", "\N{MINUS SIGN}")


def signed(value: float, digits: int = 3) -> str:
    """A difference, always with its sign."""
    return f"{value:+.{digits}f}".replace("-", "\N{MINUS SIGN}")


def percent(share: float) -> str:
    """A share in whole percent, with a space that does not break."""
    return f"{100 * share:.0f}\N{NO-BREAK SPACE}%"


def probability(p: float) -> str:
    """Two digits; a finite number of resamples cannot tell a P near 0 or 1 from 0 or 1."""
    return ">\N{NO-BREAK SPACE}0.99" if p > 0.99 else "<\N{NO-BREAK SPACE}0.01" if p < 0.01 else f"{p:.2f}"


def short_count(count: float) -> str:
    """12345 -> '12.3 k'."""
    for size, unit in ((1e6, "M"), (1e3, "k")):
        if count >= size:
            return f"{count / size:.1f} {unit}"
    return f"{count:.0f}"


def plus_minus(mean: float, std: float) -> str:
    """A mean and, where there are several values, their standard deviation; both may be NaN."""
    if pd.isna(mean):
        return NONE
    return f"{mean:.3f}" if pd.isna(std) else f"{mean:.3f} ± {std:.3f}"
