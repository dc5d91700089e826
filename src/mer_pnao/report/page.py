"""`reports/index.html`: one page that needs no network, no script and no other file."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd
from jinja2 import Environment, PackageLoader, StrictUndefined
from sklearn.metrics import f1_score

from mer_pnao.evaluation.bootstrap import Comparison
from mer_pnao.evaluation.scores import DIM_WEIGHT
from mer_pnao.outs.names import BASELINE, FINAL, FUSION, PROBE, SYSTEMS, TITLES
from mer_pnao.report.calibration import calibration
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.search_section import SearchSection
from mer_pnao.report.seeds import MEASURES, Spread, over_seeds, trainval_scores
from mer_pnao.report.table import CONFIDENT, FurtherSplit, verdict
from mer_pnao.report.words import NONE, number, percent, plus_minus, probability, short_count, signed

PLOT_WIDTH, PLOT_PAD = 250, 10  # of an interval's drawing, CSS pixels


@dataclass(frozen=True)
class Setting:
    """Where the numbers come from."""

    profile: str
    resamples: int
    seed: int
    clips: Mapping[str, int]  # of the manifest, by split


def page(
    evidence: Evidence,
    comparisons: Mapping[str, Comparison],
    skipped: pd.DataFrame,
    pictures: Mapping[str, bytes],
    setting: Setting,
    further: Sequence[FurtherSplit] = (),
    search: SearchSection | None = None,
) -> str:
    """Render the page; `pictures` are the PNGs by file name without the ending, and are embedded."""
    environment = Environment(
        loader=PackageLoader("mer_pnao.report", "."),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {
        "number": number,
        "signed": signed,
        "percent": percent,
        "probability": probability,
        "in_words": lambda text: text.replace(">", "over").replace("<", "under"),
        "short": short_count,
        "embedded": _embedded,
        "pixels": "{:.1f}".format,
        "spread": _spread,
    }
    systems = list(evidence.systems.values())
    headline = _headline_system(evidence)
    over = over_seeds(evidence)
    return environment.get_template("page.html.jinja").render(
        evidence=evidence,
        systems=systems,
        comparisons=comparisons,
        verdicts=_verdicts(comparisons),
        trainval={system.name: trainval_scores(evidence, system) for system in systems},
        headline=headline,
        probe_wins=_probe_wins(headline, comparisons),
        best_com=max(each.scores.com for each in comparisons.values()),
        plot=_interval_plot(comparisons),
        emotions=_by_emotion(evidence),
        further=further,
        further_verdicts={each.name: _verdicts(each.comparisons) for each in further},
        over=over,
        measures=[measure for measure in MEASURES if measure != "dim" or evidence.has_valence],
        calibrations={system.name: calibration(evidence, system, setting.seed) for system in systems},
        voting={system.name for system in systems if len(system.branches) > 1},
        branches=list(dict.fromkeys(branch for system in systems for branch in system.branches)),
        pruned=[system for system in systems if system.pruned],
        kept={system.name: _kept(system) for system in systems},
        weighed=[system for system in systems if f"weights_{system.name}" in pictures],
        absent=[TITLES[name] for name in SYSTEMS if name not in evidence.systems],
        skipped=skipped.to_dict("records"),
        skipped_clips=skipped.loc[skipped["action"] == "skipped", "name"].nunique(),
        pictures={**pictures, **(search.pictures if search else {})},
        search=search,
        setting=setting,
        baseline=BASELINE,
        fusion=FUSION,
        confident=CONFIDENT,
        dash=NONE,
        dim_weight=DIM_WEIGHT,
    )


def _spread(spread: Spread | None) -> str:
    """Mean and standard deviation, with true minus signs."""
    return plus_minus(*spread or (None, None)).replace("-", "\N{MINUS SIGN}")


def _embedded(picture: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(picture).decode()


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


def _probe_wins(headline: System, comparisons: Mapping[str, Comparison]) -> bool:
    """Whether the linear probe scores at least what the headline's system does."""
    probe = comparisons.get(PROBE)
    if probe is None or headline.name == PROBE:
        return False
    return probe.scores.com >= comparisons[headline.name].scores.com


def _interval_plot(comparisons: Mapping[str, Comparison]) -> dict[str, Any]:
    """Where the rows' intervals lie on one common axis of Com, in pixels."""
    low = min(each.com_low for each in comparisons.values())
    high = max(each.com_high for each in comparisons.values())
    scale = (PLOT_WIDTH - 2 * PLOT_PAD) / max(high - low, 1e-9)

    def place(com: float) -> float:
        return PLOT_PAD + (com - low) * scale

    return {
        "width": PLOT_WIDTH,
        "low": low,
        "high": high,
        "rows": {
            name: {"low": place(each.com_low), "com": place(each.scores.com), "high": place(each.com_high)}
            for name, each in comparisons.items()
        },
        "baseline": place(comparisons[BASELINE].scores.com) if BASELINE in comparisons else None,
    }


def _by_emotion(evidence: Evidence) -> list[dict[str, Any]]:
    """F1 of each emotion on the test clips, by system."""
    truth, labels = evidence.test["discrete"], list(evidence.labels)
    f1 = {
        name: f1_score(truth, system.test["discrete"], labels=labels, average=None, zero_division=0)
        for name, system in evidence.systems.items()
    }
    clips = truth.value_counts()
    rows = []
    for place, label in enumerate(labels):
        values = {name: float(each[place]) for name, each in f1.items()}
        rows.append({"label": label, "clips": int(clips.get(label, 0)), "f1": values, "best": max(values.values())})
    return rows


def _kept(system: System) -> list[dict[str, Any]]:
    """What the best round keeps of each prunable layer, named for people."""
    rows = []
    kept = system.best.round.kept if system.best.round else {}
    for layer, (left, dense) in kept.items():
        words = [word for word in layer.split(".") if word not in ("branches", "gathering", "modalities")]
        name = f"{' · '.join(words[:-1])}, {words[-1]}" if len(words) > 1 else layer
        rows.append({"layer": layer, "name": name, "left": left, "dense": dense, "share": left / dense})
    return rows
