"""Stage `evaluate`: Table 1, the figures and the report page."""

from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import labels_of, read_manifest
from mer_pnao.features.remarks import read_remarks
from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.params.profile import load_params
from mer_pnao.report.page import Setting
from mer_pnao.report.write import write_report


def main() -> None:
    """Compare all systems and write `reports/`."""
    params = load_params()
    manifest = params.data / "manifest.csv"
    truth = read_manifest(manifest)[["name", "speaker", "split", "discrete", "valence"]]
    lists = [params.data / "features" / name / "skipped.csv" for name in (*params.encoders, *params.imported)]
    skipped = pd.DataFrame(
        [entry for path in lists for entry in read_remarks(path)],
        columns=["name", "encoder", "action", "reason"],
    )
    with progress("drawing the report", 1) as done:
        write_report(
            Path("models"),
            truth,
            params.corpus.labels or labels_of(truth, manifest),
            skipped,
            Path("reports"),
            Setting(params.profile, params.evaluation.resamples, params.seed, params.evaluation.submission),
        )
        done(1)


if __name__ == "__main__":
    with input_errors():
        main()
