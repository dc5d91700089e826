"""What `dvc plots show` draws: the templates in .dvc/plots/, filled as DVC fills them."""

import io
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from dvc_render.vega import VegaRenderer
from ruamel.yaml import YAML

from mer_pnao.outs.names import FUSION, SYSTEMS
from mer_pnao.report.evidence import read_evidence
from mer_pnao.report.table import compare_all, results_table, rounds_table

ROOT = Path(__file__).parents[2]
LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]


def fields(spec: object) -> Iterator[str]:
    """Every field that some encoding reads."""
    if isinstance(spec, dict):
        yield from ([spec["field"]] if "field" in spec else [])
        yield from (field for key, value in spec.items() if key != "data" for field in fields(value))
    elif isinstance(spec, list):
        yield from (field for value in spec for field in fields(value))


def drawn(file: str, table: pd.DataFrame) -> tuple[dict[str, Any], list[dict[str, str]]]:
    """The Vega-Lite specification of a table's plot in dvc.yaml, and the rows that it was made of."""
    evaluate = YAML(typ="safe", pure=True).load((ROOT / "dvc.yaml").read_text())["stages"]["evaluate"]
    (options,) = (plot[file] for plot in evaluate["plots"] if file in plot)
    text = io.StringIO(table.to_csv(index=False))
    rows = pd.read_csv(text, dtype=str, keep_default_na=False).assign(rev="workspace").to_dict("records")
    renderer = VegaRenderer(list(rows), file, template_dir=ROOT / ".dvc/plots", **options)
    return renderer.get_filled_template(), rows


@pytest.mark.parametrize("file", ["reports/rounds.csv", "reports/table.csv"])
def test_a_plot_holds_every_row_and_reads_columns_that_are_there(models, truth, file):
    evidence = read_evidence(models, truth, LABELS)
    table = rounds_table(evidence) if "rounds" in file else results_table(evidence, compare_all(evidence, 20, 0))
    spec, rows = drawn(file, table)
    assert spec["data"]["values"] == rows
    assert "<DVC_METRIC" not in json.dumps(spec)
    assert set(fields(spec)) <= {*table, "rev", "split"}  # the template gives Table 1 its split where it has none


def test_the_rounds_tell_systems_by_colour_and_splits_by_shape(models, truth):
    spec, _ = drawn("reports/rounds.csv", rounds_table(read_evidence(models, truth, LABELS)))
    encoding = spec["encoding"]
    assert (encoding["x"]["field"], encoding["y"]["field"]) == ("parameters_ratio", "com")
    assert (encoding["color"]["field"], encoding["shape"]["field"]) == ("system", "split")
    assert encoding["color"]["scale"]["domain"] == [name for name in SYSTEMS if name in FUSION]
    assert len(set(encoding["color"]["scale"]["range"])) == len(encoding["color"]["scale"]["domain"])
    assert [each["field"] for each in encoding["tooltip"]][:2] == ["system", "round"]
