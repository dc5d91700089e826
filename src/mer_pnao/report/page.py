"""`reports/index.html`: one page that needs no network, no script and no other file.

`page.html.jinja` names its sections; each is a template in `sections/`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import pandas as pd

from mer_pnao.evaluation.bootstrap import FEW_SPEAKERS, Comparison
from mer_pnao.outs.names import BASELINE, FINAL, PROBE, SYSTEMS, TITLES
from mer_pnao.report.calibration import Calibration
from mer_pnao.report.emotions import emotions_table
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.seeds import over_seeds, trainval_scores
from mer_pnao.report.style import drawable
from mer_pnao.report.table import Compared, FurtherSplit, verdict
from mer_pnao.report.templates import render


@dataclass(frozen=True)
class Setting:
    """What a report is made with beside the evidence."""

    profile: str
    resamples: int  # of the paired bootstrap
    seed: int
    submission: str | None = None  # columns of the submission; none: with valence where it is learnt


def page(
    evidence: Evidence,
    compared: Compared,
    table: pd.DataFrame,
    calibrations: Mapping[str, Calibration],
    skipped: pd.DataFrame,
    pictures: Mapping[str, bytes],
    setting: Setting,
    further: Sequence[FurtherSplit] = (),
) -> str:
    """Render the page; `pictures` are the PNGs by file name without the ending, and are embedded.

    Takes `results_table`'s table and each system's calibration. There are verdicts of the methods over several seeds
    alone.
    """
    systems = list(evidence.systems.values())
    rivals = {BASELINE: compared.methods or compared.baseline, PROBE: compared.methods_probe or compared.probe}
    rivals = {name: each for name, each in rivals.items() if name in evidence.systems}
    alone = {name: each for name, each in evidence.systems.items() if name != PROBE and not each.mixes_probe}
    few = 0 < evidence.speakers < FEW_SPEAKERS
    of_gain = ["95\N{NO-BREAK SPACE}%", "P", *(["Sign flip"] if few else [])]
    values = {
        "evidence": evidence,
        "systems": systems,
        "has_valence": evidence.has_valence,
        "absent": [TITLES[name] for name in SYSTEMS if name not in evidence.systems],
        "headline": _headline_system(evidence),
        "networks_alone": _headline_system(replace(evidence, systems=alone)) if alone else None,
        "comparisons": compared.baseline,
        "methods": compared.methods,
        "rivals": rivals,
        "few": few,
        "gain_headings": [word for name in rivals for word in (f"Gain over|{TITLES[name].lower()}", *of_gain)],
        "rows": {row["system"]: row for row in table[: len(SYSTEMS)].to_dict("records")},
        "verdicts": _verdicts(compared.methods),
        "weighed": [system for system in systems if f"weights_{system.name}" in pictures],
        "trainval": {system.name: trainval_scores(evidence, system) for system in systems},
        "over": over_seeds(evidence),
        "further": further,
        "further_verdicts": {each.name: _verdicts(each.compared.methods) for each in further},
        "emotions": _by_emotion(evidence),
        "numbered": drawable(evidence.labels) != list(evidence.labels),
        "calibrations": [(system, calibrations[system.name]) for system in systems],
        "ece_headings": [f"ECE,|{branch}" for branch in evidence.branches],
        "skipped": skipped.to_dict("records"),
        "pictures": pictures,
        "setting": setting,
        "folds": max((system.best.settings.folds or 0 for system in systems), default=0),
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
    """Each emotion with its test clips, and F1 and recall by system; None where there is none."""
    rows = []
    for label, of in emotions_table(evidence).groupby("emotion", sort=False):
        scores = of[["f1", "recall"]].astype(object).where(of[["f1", "recall"]].notna(), None)
        rows.append({"label": label, "clips": of["clips"].iloc[0], "scores": scores.to_dict("records")})
    return rows
