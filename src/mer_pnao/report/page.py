"""`reports/index.html`: one page that needs no network, no script and no other file.

`page.html.jinja` names its sections; each is a template in `sections/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

import pandas as pd
from sklearn.metrics import f1_score

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.outs.names import BASELINE, FINAL, PROBE, SYSTEMS, TITLES
from mer_pnao.report.calibration import calibration
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.seeds import over_seeds, trainval_scores
from mer_pnao.report.table import FurtherSplit, verdict
from mer_pnao.report.templates import render


@dataclass(frozen=True)
class Setting:
    """What a report is made with beside the evidence."""

    profile: str
    resamples: int  # of the paired bootstrap
    seed: int


def page(
    evidence: Evidence,
    comparisons: Mapping[str, Comparison],
    table: pd.DataFrame,
    skipped: pd.DataFrame,
    pictures: Mapping[str, bytes],
    setting: Setting,
    further: Sequence[FurtherSplit] = (),
    methods: Mapping[str, Comparison] = MappingProxyType({}),
) -> str:
    """Render the page; `pictures` are the PNGs by file name without the ending, and are embedded.

    Takes the models of record's comparisons with the baseline's, `results_table`'s table, and the comparisons of the
    methods over several seeds, by which alone there are verdicts.
    """
    systems = list(evidence.systems.values())
    values = {
        "evidence": evidence,
        "systems": systems,
        "has_valence": evidence.has_valence,
        "absent": [TITLES[name] for name in SYSTEMS if name not in evidence.systems],
        "headline": _headline_system(evidence),
        "comparisons": comparisons,
        "methods": methods,
        "rows": {row["system"]: row for row in table[: len(SYSTEMS)].to_dict("records")},
        "verdicts": _verdicts(methods),
        "weighed": [system for system in systems if f"weights_{system.name}" in pictures],
        "trainval": {system.name: trainval_scores(evidence, system) for system in systems},
        "over": over_seeds(evidence),
        "further": further,
        "further_verdicts": {each.name: _verdicts(each.methods) for each in further},
        "emotions": _by_emotion(evidence),
        "calibrations": [(system, calibration(evidence, system, setting.seed)) for system in systems],
        "ece_headings": [f"ECE,|{branch}" for branch in evidence.branches],
        "skipped": skipped.to_dict("records"),
        "pictures": pictures,
        "setting": setting,
    }
    return render("page", values)


def _headline_system(evidence: Evidence) -> System:
    """Final where it exists, else the best network by Train&Val Com: the test set never chooses."""
    systems = evidence.systems
    if FINAL in systems:
        return systems[FINAL]

    def trainval_com(system: System) -> float:
        scores = trainval_scores(evidence, system)
        return float("-inf") if scores is None else scores.com

    networks = [system for name, system in systems.items() if name != PROBE]
    return max(networks or list(systems.values()), key=trainval_com)


def _verdicts(comparisons: Mapping[str, Comparison]) -> dict[str, str]:
    if BASELINE not in comparisons:
        return {}
    return {name: verdict(each) for name, each in comparisons.items() if name != BASELINE}


def _by_emotion(evidence: Evidence) -> list[dict[str, Any]]:
    """F1 of each emotion on the test clips, a value a system."""
    truth, labels = evidence.test["discrete"], list(evidence.labels)
    f1 = [
        f1_score(truth, system.test["discrete"], labels=labels, average=None, zero_division=0).tolist()
        for system in evidence.systems.values()
    ]
    clips = truth.value_counts()
    return [
        {"label": label, "clips": int(clips.get(label, 0)), "f1": values}
        for label, *values in zip(labels, *f1, strict=True)
    ]
