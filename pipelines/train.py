"""Stage `train`: the linear probe and the dense systems, with the former fusion and with entropy fusion."""

import shutil
import sys
from pathlib import Path

from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.files import work_folder
from mer_pnao.foundations.parallel import one_thread, parallel_map, usable_cores
from mer_pnao.outs.names import DENSE, PROBE
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.systems.dataset import as_learnt, remarks_on, whole_dataset_of
from mer_pnao.systems.probe import run_probe
from mer_pnao.systems.train import run_systems
from mer_pnao.tracking.stage import StageTracker

MODELS = Path("models")


def main() -> None:
    """Train on the profile's features and write `models/{linear_probe,baseline,enf}/`."""
    params = load_params()
    one_thread()
    whole = whole_dataset_of(params)
    for remark in remarks_on(whole, params):
        print(f"warning: {remark}", file=sys.stderr)
    dataset = as_learnt(whole, params)
    tracker = StageTracker(Path())
    store = DiskRoundStore(work_folder() / "rounds")
    with progress("training systems", 1 + len(DENSE) * len(params.seeds)) as done:
        shutil.rmtree(MODELS / PROBE, ignore_errors=True)
        run_probe(dataset, params, MODELS / PROBE)
        tracker.finished(MODELS / PROBE)
        done(1)
        run = parallel_map(usable_cores())
        outs = {system: MODELS / system for system in DENSE}
        for out in outs.values():
            shutil.rmtree(out, ignore_errors=True)
        for directory in run_systems(outs, dataset, params, store, run):
            tracker.round(directory)
            done(1)
        for out in outs.values():
            tracker.finished(out)


if __name__ == "__main__":
    with input_errors():
        main()
