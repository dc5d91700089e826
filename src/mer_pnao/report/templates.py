"""The pages' templates, with the words and figures that all of them use."""

import base64
from collections.abc import Mapping
from functools import cache
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from mer_pnao.evaluation.scores import DIM_WEIGHT
from mer_pnao.outs.names import BASELINE, FUSION
from mer_pnao.report.seeds import spread
from mer_pnao.report.table import CONFIDENT
from mer_pnao.report.words import NONE, number, percent, plus_minus, probability, short_count, signed


def render(name: str, values: Mapping[str, Any]) -> Markup:
    """What the template `<name>.html.jinja` makes of its values, which are escaped in it."""
    return Markup(_templates().get_template(f"{name}.html.jinja").render(values))


@cache
def _templates() -> Environment:
    templates = Environment(
        loader=PackageLoader("mer_pnao.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    templates.globals.update(baseline=BASELINE, fusion=FUSION, confident=CONFIDENT, dash=NONE, dim_weight=DIM_WEIGHT)
    templates.filters |= {
        "number": number,
        "signed": signed,
        "percent": percent,
        "probability": probability,
        "in_words": lambda text: text.replace(">", "over").replace("<", "under"),
        "short": short_count,
        "embedded": lambda picture: "data:image/png;base64," + base64.b64encode(picture).decode(),
        "pixels": "{:.1f}".format,
        "spread": _spread,
        "layer_name": _layer_name,
    }
    return templates


def _spread(scores: "pd.Series[float]") -> str:
    """Mean and standard deviation, with true minus signs."""
    return plus_minus(*spread(scores)).replace("-", "\N{MINUS SIGN}")


def _layer_name(layer: str) -> str:
    """A prunable layer's name for people."""
    *place, last = [word for word in layer.split(".") if word not in ("branches", "gathering", "modalities")]
    return f"{' · '.join(place)}, {last}" if place else layer
