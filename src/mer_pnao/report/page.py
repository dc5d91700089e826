"""`reports/index.html`: one page that needs no network, no script and no other file.

`page.html.jinja` holds it; each template in `sections/` is given what it shows, and nothing else.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pandas as pd
from markupsafe import Markup
from sklearn.metrics import f1_score

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.outs.names import BASELINE, FINAL, PROBE, SYSTEMS, TITLES
from mer_pnao.report.calibration import calibration
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.seeds import OverSeeds, over_seeds, trainval_scores
from mer_pnao.report.table import FurtherSplit, verdict
from mer_pnao.report.templates import render

PLOT_WIDTH, PLOT_PAD = 250, 10  # of an interval's drawing, CSS pixels


@dataclass(frozen=True)
class Setting:
    """Where the numbers come from."""

    profile: str
    resamples: int
    seed: int
    clips: Mapping[str, int]  # of the manifest, by split


class Section(NamedTuple):
    """A part of the page that its navigation leads to."""

    name: str  # of its template and of its place in the page
    title: str  # in the navigation
    html: Markup


def page(
    evidence: Evidence,
    comparisons: Mapping[str, Comparison],
    skipped: pd.DataFrame,
    pictures: Mapping[str, bytes],
    setting: Setting,
    further: Sequence[FurtherSplit] = (),
) -> str:
    """Render the page; `pictures` are the PNGs by file name without the ending, and are embedded."""
    systems, has_valence, over = list(evidence.systems.values()), evidence.has_valence, over_seeds(evidence)
    shared = {"comparisons": comparisons, "has_valence": has_valence, "pictures": pictures}
    pruned = [system for system in systems if system.pruned]
    weighed = [system for system in systems if f"weights_{system.name}" in pictures]

    def section(name: str, title: str, **values: Any) -> Section:
        return Section(name, title, render(f"sections/{name}", values))

    sections = [section("systems", "All systems", **_systems(evidence, comparisons, over))]
    if further:
        verdicts = {each.name: _verdicts(each.comparisons) for each in further}
        sections.append(
            section("splits", "Further test splits", **shared, systems=systems, splits=further, verdicts=verdicts)
        )
    sections.append(section("emotions", "By emotion", **shared, systems=systems, emotions=_by_emotion(evidence)))
    if pruned:
        sections.append(section("rounds", "Rounds", **shared, systems=pruned))
    if weighed:
        sections.append(section("weights", "Weights", **shared, systems=weighed))
    sections += [
        section("calibration", "Calibration", **_calibrations(evidence, setting.seed), pictures=pictures),
        section("skipped", "Skipped clips", **_skipped(skipped)),
        section(
            "origin",
            "Where the numbers come from",
            evidence=evidence,
            further=further,
            has_seeds=bool(over),
            setting=setting,
        ),
    ]
    frame = {
        "profile": setting.profile,
        "summary": render("sections/summary", _summary(evidence, comparisons, setting.profile, over)),
        "sections": sections,
        "has_submission": FINAL in comparisons,
    }
    return render("page", frame)


def _summary(
    evidence: Evidence, comparisons: Mapping[str, Comparison], profile: str, over: Mapping[str, OverSeeds]
) -> dict[str, Any]:
    headline, probe = _headline_system(evidence), comparisons.get(PROBE)
    chief = comparisons[headline.name]
    better = probe is not None and headline.name != PROBE and probe.scores.com >= chief.scores.com
    return {
        "headline": headline,
        "chief": chief,
        "verdict": _verdicts(comparisons).get(headline.name),
        "clips": len(evidence.test),
        "better_probe": probe if better else None,
        "profile": profile,
        "over": over.get(headline.name) if headline.repeats else None,
    }


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


def _systems(
    evidence: Evidence, comparisons: Mapping[str, Comparison], over: Mapping[str, OverSeeds]
) -> dict[str, Any]:
    """The rows, with the places of their intervals on one common axis of Com, in pixels."""
    low = min(each.com_low for each in comparisons.values())
    high = max(each.com_high for each in comparisons.values())
    verdicts = _verdicts(comparisons)

    def place(com: float) -> float:
        return PLOT_PAD + (com - low) * (PLOT_WIDTH - 2 * PLOT_PAD) / max(high - low, 1e-9)

    def row(system: System) -> dict[str, Any]:
        each = comparisons[system.name]
        return {
            "system": system,
            "comparison": each,
            "trainval": trainval_scores(evidence, system),
            "verdict": verdicts.get(system.name),
            "over": over.get(system.name),
            "places": {"low": place(each.com_low), "com": place(each.scores.com), "high": place(each.com_high)},
        }

    return {
        "rows": [row(system) for system in evidence.systems.values()],
        "best_com": max(each.scores.com for each in comparisons.values()),
        "reference": place(comparisons[BASELINE].scores.com) if BASELINE in comparisons else None,
        "axis_width": PLOT_WIDTH,
        "low": low,
        "high": high,
        "has_valence": evidence.has_valence,
        "absent": [TITLES[name] for name in SYSTEMS if name not in evidence.systems],
    }


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


def _calibrations(evidence: Evidence, seed: int) -> dict[str, Any]:
    systems = evidence.systems.values()
    branches = list(dict.fromkeys(branch for system in systems for branch in system.branches))
    return {
        "rows": [(system, calibration(evidence, system, seed)) for system in systems],
        "clips": len(evidence.test),
        "branches": branches,
        "ece_headings": [f"ECE,|{branch}" for branch in branches],
        "final_has_branches": FINAL in evidence.systems and bool(evidence.systems[FINAL].branches),
    }


def _skipped(skipped: pd.DataFrame) -> dict[str, Any]:
    left_out = skipped.loc[skipped["action"] == "skipped", "name"].nunique()
    return {"skipped": skipped.to_dict("records"), "left_out": left_out}
