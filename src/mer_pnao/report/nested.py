"""Nested cross-validation: `reports/nested.csv`, a page with a dot per speaker, and a table for the terminal."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import reduce
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np
import pandas as pd
from rich.console import Console

from mer_pnao.evaluation.bootstrap import Comparison, Predicted, bootstrap_of_means, com_by_group
from mer_pnao.evaluation.fusion_effect import fusion_effect
from mer_pnao.evaluation.scores import mean_scores, recognition, score
from mer_pnao.foundations.console import narrow_table
from mer_pnao.foundations.files import write_bytes, write_text
from mer_pnao.nested.run import NESTED, OuterResult
from mer_pnao.outs.decisions import Decisions, joined, predictions_table
from mer_pnao.outs.names import BASELINE, FINAL, MEAN_FUSION, PREDICTIONS, PROBE, TITLES
from mer_pnao.report.speakers import speakers_figure
from mer_pnao.report.templates import render
from mer_pnao.report.words import FINAL_WITH_PROBE, NONE, probability
from mer_pnao.training.examples import Examples

MEAN = "mean"  # over the seeds, in the column `seed`
_RIVALS = {BASELINE: "baseline", PROBE: "probe", MEAN_FUSION: "mean"}  # in the columns' names


@dataclass(frozen=True)
class Pooled:
    """The outer folds' clips side by side, and every training's decisions for them."""

    clips: Examples
    decided: Mapping[str, Mapping[int | None, Predicted]]  # system -> seed -> its decisions
    parameters: Mapping[str, float]  # of a system, mean over folds and seeds
    single: Mapping[str, Mapping[int | None, Sequence[Decisions]]]  # as `decided`, of each fold network by itself

    def trainings(self, seed: int | None = None) -> dict[str, list[Predicted]]:
        """Every system's trainings: all, or that of a seed, and of the probe the one it has."""
        return {
            system: [each for of, each in by_seed.items() if seed is None or of in (seed, None)]
            for system, by_seed in self.decided.items()
        }


def pooled(tested: Sequence[OuterResult]) -> Pooled:
    """Put the outer folds together, in their order."""
    clips = {each.fold: each.clips for each in sorted(tested, key=lambda each: each.fold)}
    parts: dict[str, dict[int | None, dict[int, OuterResult]]] = {system: {} for system in NESTED}
    for each in tested:
        parts[each.system].setdefault(each.seed, {})[each.fold] = each
    decided: dict[str, dict[int | None, Predicted]] = {system: {} for system in NESTED}
    single: dict[str, dict[int | None, Sequence[Decisions]]] = {system: {} for system in NESTED}
    for system, by_seed in parts.items():
        for seed, by_fold in by_seed.items():
            in_order = [by_fold[fold] for fold in clips]
            decided[system][seed] = _predicted(joined([each.decisions for each in in_order]))
            single[system][seed] = [joined(each) for each in zip(*(each.single for each in in_order), strict=True)]
    sizes = {system: fmean(each.parameters for each in tested if each.system == system) for system in NESTED}
    return Pooled(reduce(Examples.joined, clips.values()), decided, sizes, single)


def _predicted(decisions: Decisions) -> Predicted:
    return Predicted(decisions.posterior.argmax(axis=1), decisions.valence)


def nested_table(pool: Pooled, resamples: int, seed: int) -> pd.DataFrame:
    """A row for each system and seed, and where there are several seeds one of their mean.

    The intervals and probabilities draw speakers with all their clips, and for a mean also a seed, with each resample;
    `speakers_won` counts the speakers on whose clips the system has a higher Com than the probe.
    """
    seeds = [each for each in pool.decided[BASELINE] if each is not None]
    named: list[tuple[int | str, dict[str, list[Predicted]]]] = [(each, pool.trainings(each)) for each in seeds]
    if len(seeds) > 1:
        named.append((MEAN, pool.trainings()))
    rows = [row for name, trainings in named for row in _rows(pool, name, trainings, resamples, seed)]
    counts = dict.fromkeys(("networks", "decisions", "changed", "better", "worse", "differ", "surest_right"), "Int64")
    flips = [f"p_sign_flip_over_{short}" for short in _RIVALS.values()]
    numbers = dict.fromkeys(("dim", "single_dim", *flips), "float")
    return pd.DataFrame(rows).astype(numbers | counts)


def _rows(
    pool: Pooled, name: int | str, trainings: Mapping[str, Sequence[Predicted]], resamples: int, seed: int
) -> list[dict[str, Any]]:
    clips, groups = pool.clips, pool.clips.speakers
    truth = (clips.emotion, clips.valence)
    against: dict[str, Mapping[str, Comparison]] = {
        short: bootstrap_of_means(*truth, trainings, rival, resamples, seed, groups=groups)
        for rival, short in _RIVALS.items()
    }
    own = {} if groups is None else {system: com_by_group(*truth, each, groups) for system, each in trainings.items()}

    def row(system: str) -> dict[str, Any]:
        over_probe = against["probe"][system]
        recognised = [asdict(recognition(clips.emotion, training.emotion)) for training in trainings[system]]
        won = None if groups is None else sum(com > own[PROBE][who] for who, com in own[system].items())
        return {
            "system": system,
            "seed": name,
            **asdict(over_probe.scores),
            **{measure: float(np.mean([of[measure] for of in recognised])) for measure in recognised[0]},
            "com_low": over_probe.com_low,
            "com_high": over_probe.com_high,
            **{f"p_better_than_{short}": each[system].p_better for short, each in against.items()},
            **{f"p_sign_flip_over_{short}": each[system].p_sign_flip for short, each in against.items()},
            **{
                f"gain_over_{short}{end}": getattr(each[system], f"gain{end}")
                for short, each in against.items()
                for end in ("", "_low", "_high")
            },
            "speakers_won": won,
            "speakers": None if groups is None else len(set(groups)),
            "clips": len(clips),
            "parameters": round(pool.parameters[system]),
            **_apart(pool, system, name),
        }

    return [row(system) for system in trainings]


def _apart(pool: Pooled, system: str, name: int | str) -> dict[str, Any]:
    """What the fold networks do each by itself, empty for a system without any: scores, and the fusion's effect."""
    clips, seeds = pool.clips, pool.single[system]
    networks = [one for seed, each in seeds.items() if name in (MEAN, seed) for one in each]
    if not networks:
        return {}
    each = [_predicted(one) for one in networks]
    scores = mean_scores([score(clips.emotion, one.emotion, clips.valence, one.valence) for one in each])
    branches, weights = np.stack([one.branches for one in networks]), np.stack([one.weights for one in networks])
    return {
        "networks": len(networks) // len(seeds if name == MEAN else [name]),
        **{f"single_{measure}": value for measure, value in asdict(scores).items()},
        **asdict(fusion_effect(branches, weights, clips.emotion)),
    }


def write_nested(
    tested: Sequence[OuterResult],
    labels: Sequence[str],
    profile: str,
    resamples: int,
    seed: int,
    out: Path,
    *,
    probe_in_final: bool = False,
) -> pd.DataFrame:
    """Write `nested.csv`, and `nested/` with the page, its figure and all predictions; returns the table.

    The page tells where the final systems have the linear probe as a member.
    """
    pool = pooled(tested)
    titles = TITLES | ({FINAL: FINAL_WITH_PROBE} if probe_in_final else {})
    table = nested_table(pool, resamples, seed)
    picture = speakers_figure(_gains(pool, titles)) if pool.clips.speakers else None
    write_text(out / "nested.csv", _csv(table))
    write_text(out / "nested" / PREDICTIONS, _csv(_predictions(tested, labels), "%.9g"))
    if picture:
        write_bytes(out / "nested" / "speakers.png", picture)
    shown = table[table["seed"] == table["seed"].iloc[-1]]  # the mean where there is one
    several = str(shown["seed"].iloc[0]) == MEAN
    rows = shown.to_dict("records")
    values = {
        "rows": rows,
        "fused": [row for row in rows if pd.notna(row["networks"])],
        "few": pd.notna(rows[0]["p_sign_flip_over_probe"]),
        "profile": profile,
        "picture": picture,
        "several": several,
        "seeds": len(table["seed"].unique()) - several,
        "folds": len({each.fold for each in tested}),
        "titles": titles,
        "mean_fusion": MEAN_FUSION,
        "has_valence": pool.clips.has_valence,
        "probe_in_final": probe_in_final,
    }
    write_text(out / "nested" / "index.html", render("nested", values))
    return table


def _gains(pool: Pooled, titles: Mapping[str, str]) -> dict[str, dict[str, float]]:
    """Every other system's Com minus the probe's on each speaker's clips, mean over the seeds."""
    clips, groups = pool.clips, pool.clips.speakers
    assert groups is not None
    own = {
        system: com_by_group(clips.emotion, clips.valence, list(by_seed.values()), groups)
        for system, by_seed in pool.decided.items()
    }
    return {
        titles[system]: {who: com - own[PROBE][who] for who, com in coms.items()}
        for system, coms in own.items()
        if system != PROBE
    }


def _predictions(tested: Sequence[OuterResult], labels: Sequence[str]) -> pd.DataFrame:
    """Every decision: the columns of `predictions_table`, and system, seed and speaker."""
    tables = []
    for each in tested:
        table = predictions_table(each.clips.names, f"outer-{each.fold}", each.decisions, labels, ())
        table.insert(0, "system", each.system)
        table.insert(1, "seed", each.seed)
        table.insert(3, "speaker", list(each.clips.speakers or [""] * len(each.clips)))
        tables.append(table)
    return pd.concat(tables).astype({"seed": "Int64"})


def print_nested(table: pd.DataFrame, console: Console) -> None:
    """Print the mean over the seeds, or the only seed's rows."""
    name = table["seed"].iloc[-1]
    shown = narrow_table(["System", "UAR", "WA", "Dis ↑", "Com ↑", "95 %", "P, base", "P, probe", "Won"])
    block = table[table["seed"] == name]
    for row in block.to_dict("records"):
        shown.add_row(*_printed(row))
    console.print(shown)
    of = block.iloc[0]
    units = f"{of['speakers']} speakers" if of["speakers"] else "clips, for the speakers are unknown"
    trained = f"mean of {table['seed'].nunique() - 1} seeds" if name == MEAN else "one seed: these trained models alone"
    console.print(
        f"Nested cross-validation: {of['clips']} clips, each tested once; {trained}. Interval and P from resamples of "
        f"{units}. P: better than the baseline, than the linear probe. Won: speakers with more Com than the probe's.",
        style="dim",
    )


def _printed(row: Mapping[Any, Any]) -> list[str]:
    p_base = NONE if row["system"] == BASELINE else probability(row["p_better_than_baseline"])
    p_probe = NONE if row["system"] == PROBE else probability(row["p_better_than_probe"])
    won = NONE if row["system"] == PROBE or not row["speakers"] else f"{row['speakers_won']}/{row['speakers']}"
    scores = [f"{row[measure]:.3f}" for measure in ("uar", "wa", "dis", "com")]
    return [TITLES[row["system"]], *scores, f"{row['com_low']:.2f}…{row['com_high']:.2f}", p_base, p_probe, won]


def _csv(table: pd.DataFrame, number: str = "%.6f") -> str:
    return str(table.to_csv(index=False, float_format=number, lineterminator="\n"))
