"""Stage `controls`: PNAO beside what it has to beat, at equal total epochs, folds, seeds and parameters."""

from pathlib import Path

from rich.console import Console

from mer_pnao.controls.run import run_controls, total_segments
from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.files import work_folder
from mer_pnao.foundations.parallel import one_thread, parallel_map, usable_cores
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.controls import controls_table, print_controls, write_controls
from mer_pnao.systems.dataset import dataset_of


def main() -> None:
    """Train every method on the profile's features and write `reports/controls.csv` and `reports/controls.png`."""
    params = load_params()
    one_thread()
    dataset = dataset_of(params)
    store = DiskRoundStore(work_folder() / "rounds")
    with progress("training controls", total_segments(params)) as done:
        outcomes = list(run_controls(dataset, params, store, parallel_map(usable_cores()), done))
    table = controls_table(outcomes, dataset, params.profile, params.evaluation.resamples, params.seed)
    write_controls(table, dataset.test.has_valence, Path("reports"))
    print_controls(table, Console())


if __name__ == "__main__":
    with input_errors():
        main()
