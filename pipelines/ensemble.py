"""Stage `ensemble`: the final system, pnao and enf_pnao weighted linearly."""

import shutil
from pathlib import Path

from mer_pnao.console import input_errors
from mer_pnao.dataset import load_dataset
from mer_pnao.params import load_params
from mer_pnao.systems import combine_final
from mer_pnao.tracking.stage import StageTracker

MODELS = Path("models")


def main() -> None:
    """Choose the weight on out-of-fold predictions and write `models/final/`."""
    params = load_params()
    dataset = load_dataset(
        params.data / "manifest.csv", params.data / "features", params.features.sets, params.corpus.labels
    )
    shutil.rmtree(MODELS / "final", ignore_errors=True)
    combine_final(dataset, params.features.acoustic, MODELS, MODELS / "final")
    StageTracker(Path()).finished(MODELS / "final")


if __name__ == "__main__":
    with input_errors():
        main()
