"""Table 1 with intervals, the rounds, and what DVC compares."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, astuple, dataclass
from typing import Any, NamedTuple

import pandas as pd

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.evaluation.bootstrap import Comparison, Predicted, bootstrap_of_means
from mer_pnao.evaluation.scores import recognition
from mer_pnao.outs.names import BASELINE, FINAL, PROBE, PRUNED, SYSTEMS
from mer_pnao.report.calibration import Calibration
from mer_pnao.report.evidence import Evidence, System
from mer_pnao.report.seeds import over_seeds, spread, trainval_scores

SEEDS = 3  # trainings of each system that a verdict asks for at least: one tells of one trained model
CONFIDENT = 0.95  # the P that a verdict of better or worse asks for; promotion has a limit of its own
# Columns of the means over the seeds, each a field of a comparison. There each resample draws a seed, too, so they hold
# for a training with any. Empty with fewer than three.
_OVER_SEEDS = {
    "com_seeds_low": ("methods", "com_low"),
    "com_seeds_high": ("methods", "com_high"),
    "gain_seeds_low": ("methods", "gain_low"),
    "gain_seeds_high": ("methods", "gain_high"),
    "gain_seeds_over_probe_low": ("methods_probe", "gain_low"),
    "gain_seeds_over_probe_high": ("methods_probe", "gain_high"),
    "p_seeds_better_than_baseline": ("methods", "p_better"),
    "p_seeds_better_than_probe": ("methods_probe", "p_better"),
    "p_sign_flip_seeds": ("methods", "p_sign_flip"),
    "p_sign_flip_seeds_over_probe": ("methods_probe", "p_sign_flip"),
}


class Compared(NamedTuple):
    """Every system's scores on one split with intervals and gains, on the same resamples; all empty without labels."""

    baseline: Mapping[str, Comparison]  # the models of record, with their gains over the baseline
    probe: Mapping[str, Comparison]  # with those over the linear probe
    methods: Mapping[str, Comparison]  # the means over the seeds, over the baseline; see `compare_all`
    methods_probe: Mapping[str, Comparison]


@dataclass(frozen=True)
class FurtherSplit:
    """A further split, measured as the test split is."""

    name: str
    clips: int  # that were predicted
    evidence: Evidence  # with the split's labelled clips as its test clips
    compared: Compared


def compare_all(evidence: Evidence, resamples: int, seed: int) -> Compared:
    """Compare models of record and methods with both rivals on the test clips, all on the same resamples.

    There are no methods without a baseline or when one has fewer than `SEEDS` trainings.
    """
    truth = evidence.test
    if truth.empty:
        return Compared({}, {}, {}, {})
    trainings = {
        name: [Predicted(each.test["discrete"], each.test["valence"]) for each in system.trainings]
        for name, system in evidence.systems.items()
    }
    several = BASELINE in trainings and all(len(each) >= SEEDS for name, each in trainings.items() if name != PROBE)

    def over(rival: str, systems: Mapping[str, Sequence[Predicted]]) -> dict[str, Comparison]:
        against, groups = rival if rival in systems else None, speakers_of(truth)
        return bootstrap_of_means(truth["discrete"], truth["valence"], systems, against, resamples, seed, groups=groups)

    of_record = {name: each[:1] for name, each in trainings.items()}
    rivals = (BASELINE, PROBE)
    methods = [over(rival, trainings) if several else {} for rival in rivals]
    return Compared(*(over(rival, of_record) for rival in rivals), *methods)


def further_splits(evidence: Evidence, resamples: int, seed: int) -> list[FurtherSplit]:
    """Measure every further split, with resamples of its own labelled clips."""
    found = []
    for split, truth in evidence.others.items():
        here = evidence.on(split)
        found.append(FurtherSplit(split, len(truth), here, compare_all(here, resamples, seed)))
    return found


def verdict(comparison: Comparison) -> str:
    """'better', 'worse', or 'within the noise' when P < .95 or the paired interval of the gain holds zero.

    With fewer than ten speakers the sign-flip test has to agree.
    """
    gain_low, gain_high, p = comparison.gain_low, comparison.gain_high, comparison.p_better
    if gain_low is None or gain_high is None or p is None:
        raise ValueError("there is no verdict without a baseline")
    if comparison.p_sign_flip is not None and comparison.p_sign_flip > 1 - CONFIDENT:
        return "within the noise"
    if gain_low > 0 and p >= CONFIDENT:
        return "better"
    return "worse" if gain_high < 0 and 1 - p >= CONFIDENT else "within the noise"


def results_table(evidence: Evidence, compared: Compared, further: Sequence[FurtherSplit] = ()) -> pd.DataFrame:
    """`reports/table.csv`: a row for each of the six systems, empty but for its name when untrained.

    The scores are those of the first seed's networks, the models of record. Where a system was trained with several
    seeds, mean and sample standard deviation over them follow, and with three or more the intervals and probabilities
    of the means. Where there are further splits, the column `split` follows and six rows for each of them, empty but
    for the names where no clip of it has a label.
    """
    blocks = {"test": _rows(evidence, compared)} | {each.name: _rows(each.evidence, each.compared) for each in further}
    table = pd.DataFrame([row for rows in blocks.values() for row in rows])
    if further:
        table["split"] = [split for split, rows in blocks.items() for _ in rows]
    return _typed(table)


def _rows(evidence: Evidence, compared: Compared) -> list[dict[str, Any]]:
    """The six rows of one split."""
    seeds = over_seeds(evidence) if compared.baseline else {}

    def row(name: str) -> dict[str, Any]:
        if name not in compared.baseline:
            return {"system": name}
        system, comparison, over_probe = evidence.systems[name], compared.baseline[name], compared.probe[name]
        trainval = trainval_scores(evidence, system)
        return {
            "system": name,
            "trainval_com": None if trainval is None else trainval.com,
            **asdict(comparison.scores),
            "com_low": comparison.com_low,
            "com_high": comparison.com_high,
            "p_better_than_baseline": comparison.p_better,
            "parameters": system.best.parameters,
            "parameters_ratio": system.best.parameters_ratio,
            "p_better_than_probe": over_probe.p_better,
            "p_sign_flip": comparison.p_sign_flip,  # of fewer than ten speakers
            **asdict(recognition(evidence.test["discrete"], system.test["discrete"])),
            "clips": len(evidence.test),
            "speakers": evidence.speakers,  # 0: not known, so clips were drawn
            "gain_low": comparison.gain_low,  # of Com minus the baseline's
            "gain_high": comparison.gain_high,
            "gain_over_probe_low": over_probe.gain_low,
            "gain_over_probe_high": over_probe.gain_high,
            "p_sign_flip_over_probe": over_probe.p_sign_flip,
            "parameters_total": system.parameters_total,  # of all fold networks, whose mean decides
            "single_com": system.single and system.single.scores.com,  # of a fold network by itself, mean over them
            **(_seed_columns(name, seeds[name], compared) if name in seeds else {}),
        }

    return [row(name) for name in SYSTEMS]


def _seed_columns(name: str, over: pd.DataFrame, compared: Compared) -> dict[str, float | None]:
    columns: dict[str, float | None] = {"seeds": len(over)}
    for measure, scores in over.items():
        columns[f"{measure}_mean"], columns[f"{measure}_std"] = spread(scores)
    for column, (rival, field) in _OVER_SEEDS.items():
        columns[column] = getattr(getattr(compared, rival).get(name), field, None)
    return columns


def rounds_table(evidence: Evidence) -> pd.DataFrame:
    """`reports/rounds.csv`: a row for each system, round and split, from the rounds' records."""
    costs = ["parameters", "parameters_ratio", "best"]
    columns = ["system", "round", "split", "dis", "dim", "com", *costs]
    rows = [
        [name, each.round.number, split, *astuple(scores), each.parameters, each.parameters_ratio, each.round.best]
        for name, system in evidence.systems.items()
        for each in system.rounds
        if each.round is not None
        for split, scores in each.scores.items()
    ]
    return _typed(pd.DataFrame(rows, columns=columns))


def system_figures(
    evidence: Evidence,
    compared: Compared,
    calibrations: Mapping[str, Calibration],
    further: Sequence[FurtherSplit] = (),
) -> dict[str, dict[str, float | None]]:
    """`reports/systems.json`: the figures of each system; `<split>_com` for each further split."""

    def of(name: str, system: System) -> dict[str, float | None]:
        trainval, calibrated = trainval_scores(evidence, system), calibrations[name]
        numbers = {
            "trainval_com": None if trainval is None else trainval.com,
            **asdict(compared.baseline[name].scores),
            "p_better_than_probe": compared.probe[name].p_better,
            "parameters_ratio": system.best.parameters_ratio,
            "ece_interval_low": calibrated.low,
            "ece_interval_high": calibrated.high,
            "ece": calibrated.error,
            **{f"ece_{branch}": error for branch, error in calibrated.branches.items()},
            **{
                f"{each.name}_com": each.compared.baseline[name].scores.com
                for each in further
                if each.compared.baseline
            },
        }
        return {key: None if value is None else round(value, 6) for key, value in numbers.items()}

    return {name: of(name, system) for name, system in evidence.systems.items()}


def metrics(figures: Mapping[str, Mapping[str, float | None]]) -> dict[str, dict[str, float | None]]:
    """`reports/metrics.json`: of each system's figures the few that one run is compared with another by."""

    def of(name: str, numbers: Mapping[str, float | None]) -> dict[str, float | None]:
        few = {"trainval_com": numbers["trainval_com"], "test_com": numbers["com"]}
        return few | ({"parameters_ratio": numbers["parameters_ratio"]} if name in (*PRUNED, FINAL) else {})

    return {name: of(name, numbers) for name, numbers in figures.items()}


def _typed(table: pd.DataFrame) -> pd.DataFrame:
    """Whole parameters although some are missing; floats although a whole column is."""
    whole = ("parameters", "parameters_total", "clips", "speakers", "seeds")
    counts = {name: "Int64" for name in whole if name in table}
    numbers = [column for column in table if column not in ("system", "round", "split", "best", *counts)]
    return table.astype(counts | {str(column): float for column in numbers})
