"""Stage `ensemble`: the final system, pnao and enf_pnao weighted linearly."""

import shutil
from pathlib import Path

from mer_pnao.foundations.console import input_errors
from mer_pnao.foundations.parallel import one_thread
from mer_pnao.outs.names import FINAL
from mer_pnao.params.profile import load_params
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.final import combine_final
from mer_pnao.tracking.stage import StageTracker

MODELS = Path("models")


def main() -> None:
    """Choose the weight on out-of-fold predictions and write `models/final/`."""
    params = load_params()
    one_thread()
    tracker = StageTracker(Path())  # first: it needs seconds to be ready, and this stage no more
    dataset = dataset_of(params)
    shutil.rmtree(MODELS / FINAL, ignore_errors=True)
    combine_final(dataset, params.features.acoustic, MODELS, MODELS / FINAL, params.final)
    tracker.finished(MODELS / FINAL)


if __name__ == "__main__":
    with input_errors():
        main()
