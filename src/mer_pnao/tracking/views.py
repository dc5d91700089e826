"""What the MLflow UI shows first: the experiment's description and saved views of its runs, the registered model's.

MLflow 3.17 keeps a shared view as a tag of the experiment, whose state is JSON; the page can save over it, so the
tags are written again with every tracking.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.trained_on import DRAWN
from mer_pnao.params.profile import load_params
from mer_pnao.tracking.card import MODEL
from mer_pnao.tracking.connection import NAME, Store

_TAG = "mlflow.sharedViewState."
_NOTE = "mlflow.note.content"
_SYSTEMS = "tags.system LIKE '%' AND tags.round IS NULL"
_ROUNDS = "tags.round IS NOT NULL"
# A round's figures that its parent bears, too, with the round as the step. By their names the parent's charts begin
# with them, and a search for trainval_com does not find the last round's, which need not be the best.
BY_ROUND = {
    "trainval_com": "by_round/com_trainval",
    "test_com": "by_round/com_test",
    "parameters_ratio": "by_round/parameters_ratio",
}


@dataclass(frozen=True)
class _View:
    """A saved view of the runs page."""

    key: str
    name: str
    about: str
    mode: Literal["TABLE", "CHART"]
    runs: str  # the filter
    columns: tuple[str, ...]
    chart: dict[str, Any] | None = None

    def address(self, experiment: str) -> str:
        """The place after the server's `/`."""
        # Without workflowType the page is the one for language models.
        query = f"viewStateShareKey={self.key}&compareRunsMode={self.mode}&workflowType=machine_learning"
        return f"#/experiments/{experiment}/runs?{query}"

    def state(self) -> dict[str, Any]:
        """What the page reads; of what is not in here it takes its defaults."""
        kept = {"deleted": False, "isGenerated": False}
        chart = {"uuid": self.key, "metricSectionId": "chosen", "runsCountToCompare": 1000, **kept}
        section = {"uuid": "chosen", "name": self.name, "display": True, "isReordered": False, **kept}
        section |= {"columns": 1, "cardHeight": 520}
        return {
            "searchFilter": self.runs,
            "orderByKey": "metrics.`trainval_com`",
            "selectedColumns": list(self.columns),
            "runsHiddenMode": "SHOW_ALL",  # otherwise ten are drawn
            "isAccordionReordered": bool(self.chart),  # otherwise sections are sorted by name
            "compareRunCharts": [chart | self.chart] if self.chart else [],
            "compareRunSections": [section] if self.chart else [],
        }


_TABLE = (  # as the page calls columns
    "metrics.`trainval_com`",
    "metrics.`test_com`",
    "metrics.`parameters_ratio`",
    "params.`pnao.naor`",
    "params.`pnao.alpha`",
)
VIEWS = (  # the one to begin with is the first
    _View("systems", "Systems by Com", "the systems by Train&Val Com, the best first", "TABLE", _SYSTEMS, _TABLE),
    _View(
        "rounds",
        "Com against size",
        "every round: Com against its share of the parameters",
        "CHART",
        _ROUNDS,
        _TABLE,
        {
            "type": "SCATTER",
            "xaxis": {"key": "parameters_ratio", "type": "METRIC"},
            "yaxis": {"key": "trainval_com", "type": "METRIC"},
        },
    ),
    _View(
        "com",
        "Com over rounds",
        "the pruned systems' Com, round by round",
        "CHART",
        f"{_SYSTEMS} AND params.`pnao.naor` LIKE '%'",
        _TABLE,
        {
            "type": "LINE",
            "metricKey": BY_ROUND["trainval_com"],
            "selectedMetricKeys": [BY_ROUND["trainval_com"], BY_ROUND["test_com"]],
            "xAxisKey": "step",
            "selectedXAxisMetricKey": "",
            "xAxisScaleType": "linear",
            "yAxisKey": "metric",
            "yAxisExpressions": [],
            "scaleType": "linear",
            "lineSmoothness": 0,
            "useGlobalXaxisConfig": False,
            "useGlobalLineSmoothing": False,
            "displayPoints": True,
        },
    ),
)


def write_views(store: Store, project: Path) -> None:
    """Write descriptions and views where others stand."""
    client = store.client
    experiment = client.get_experiment(store.experiment)
    made = int(experiment.creation_time or 0)
    tags = {_NOTE: _note(store.experiment, _draws_clips(project))}
    for view in VIEWS:
        saved = {"name": view.name, "createdAt": made, "updatedAt": made, "state": json.dumps(view.state())}
        tags[f"{_TAG}{view.key}"] = json.dumps(saved)
    for name, value in tags.items():
        if experiment.tags.get(name) != value:
            client.set_experiment_tag(store.experiment, name, value)
    if client.get_registered_model(NAME).description != MODEL:
        client.update_registered_model(NAME, MODEL)


def _draws_clips(project: Path) -> bool:
    try:
        return "clips" in load_params(project / "params.yaml").synthesize
    except InputError:
        return False


def _note(experiment: str, drawn: bool) -> str:
    links = " · ".join(f"[{view.name}]({view.address(experiment)})" for view in VIEWS)
    about = "\n".join(f"- {view.name}: {view.about}" for view in VIEWS)
    warning = f"\n\n> What it trains {DRAWN}." if drawn else ""
    # The page shows the first line until it is opened.
    return f"""{"Demo, drawn faces. " if drawn else ""}Emotion and valence from sound and face: {links}{warning}

A run is one of six systems, trained with one seed; the runs nested in it are its rounds. A round of `pnao` or
`enf_pnao` is a version of the model `{NAME}`.

{about}

Com = Dis - 0.25 Dim, higher is better. Choices are made by `trainval_com`, which is out of fold; `test_com` tells.
"""
