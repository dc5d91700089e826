"""Everything under `reports/`, from what the train stages left in `models/`."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.foundations.files import write_bytes, write_json
from mer_pnao.outs.names import FINAL
from mer_pnao.report import figures
from mer_pnao.report.calibration import calibration
from mer_pnao.report.emotions import confusion_table, emotions_table
from mer_pnao.report.evidence import Evidence, read_evidence
from mer_pnao.report.page import Setting, page
from mer_pnao.report.speakers import gains_over_probe, speakers_figure, speakers_table
from mer_pnao.report.table import compare_all, further_splits, metrics, results_table, rounds_table, system_figures


def write_report(
    models: Path, truth: pd.DataFrame, labels: Sequence[str], skipped: pd.DataFrame, out: Path, setting: Setting
) -> None:
    """Write tables, predictions, metrics, figures, the page and a submission for each test split into `out`.

    Takes the truth with columns name, speaker, split, discrete ("" for a clip of a further split that has no label),
    valence (NaN where missing), the emotions in their order, and the skipped clips with columns name, encoder,
    action, reason. Each file is written whole or not at all, and the same inputs give the same bytes. Raises
    InputError naming the file when `models` does not fit.
    """
    evidence = read_evidence(models, truth, labels)
    compared = compare_all(evidence, setting.resamples, setting.seed)
    further = further_splits(evidence, setting.resamples, setting.seed)
    calibrations = {
        name: calibration(evidence, system, setting.resamples, setting.seed)
        for name, system in evidence.systems.items()
    }
    table, rounds = results_table(evidence, compared, further), rounds_table(evidence)
    numbers = system_figures(evidence, compared, calibrations, further)
    pictures = draw_figures(evidence)

    write_bytes(out / "table.csv", _csv(table))
    write_bytes(out / "rounds.csv", _csv(rounds))
    write_bytes(out / "confusion.csv", _csv(confusion_table(evidence)))
    write_bytes(out / "emotions.csv", _csv(emotions_table(evidence)))
    write_bytes(out / "speakers.csv", _csv(speakers_table(evidence)))
    write_json(out / "systems.json", numbers)
    write_json(out / "metrics.json", metrics(numbers))
    write_bytes(out / "skipped_clips.csv", _csv(skipped))
    for name, system in evidence.systems.items():
        # nine digits hold a float32 exactly, so the decision can be recomputed from the posteriors
        write_bytes(out / "predictions" / f"{name}.csv", _csv(system.test, "%.9g"))
    if final := evidence.systems.get(FINAL):
        learnt = evidence.trainval["valence"].notna().any()  # or else the networks predict none
        columns = setting.submission or ("name,discrete,valence" if learnt else "name,discrete")
        for split, predictions in {"test": final.test, **final.others}.items():
            write_bytes(out / "submission" / f"{split}.csv", _csv(predictions[columns.split(",")], "%.9g"))
    for name, picture in pictures.items():
        write_bytes(out / "figures" / f"{name}.png", picture)
    html = page(evidence, compared, table, calibrations, skipped, pictures, setting=setting, further=further)
    write_bytes(out / "index.html", html.encode())


def draw_figures(evidence: Evidence) -> dict[str, bytes]:
    """Every figure as a PNG, by its file's name without the ending."""
    systems = evidence.systems.items()
    drawn = {f"confusion_{name}": figures.confusion(evidence, system) for name, system in systems}
    drawn |= {
        f"rounds_{name}": figures.rounds(system, evidence.has_valence) for name, system in systems if system.pruned
    }
    drawn |= {f"weights_{name}": figures.weights(system) for name, system in systems if system.weights}
    if gains := gains_over_probe(evidence):
        drawn["speakers"] = speakers_figure(gains)
    return drawn | {"reliability": figures.reliability_diagram(evidence)}


def _csv(table: pd.DataFrame, number: str = "%.6f") -> bytes:
    return table.to_csv(index=False, float_format=number, lineterminator="\n").encode()
