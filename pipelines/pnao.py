"""Stage `pnao`: Algorithm 1 on both fusions, round by round."""

import shutil
from pathlib import Path

from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.files import work_folder
from mer_pnao.foundations.parallel import one_thread, parallel_map, usable_cores
from mer_pnao.outs.names import MEMBERS
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.train import run_systems
from mer_pnao.tracking.stage import StageTracker

MODELS = Path("models")


def main() -> None:
    """Prune on the profile's features and write `models/{pnao,enf_pnao}/`."""
    params = load_params()
    one_thread()
    dataset = dataset_of(params)
    tracker = StageTracker(Path())
    store = DiskRoundStore(work_folder() / "rounds")
    rounds = len(MEMBERS) * (params.pnao.rounds + 1) * len(params.seeds)
    with progress("pruning rounds", rounds) as done:
        run = parallel_map(usable_cores())
        outs = {system: MODELS / system for system in MEMBERS}
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
