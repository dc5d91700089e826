"""Stage `nested`: every system in nested cross-validation, so that each speaker is tested once."""

from pathlib import Path

from rich.console import Console

from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.files import work_folder
from mer_pnao.foundations.parallel import one_thread, parallel_map, usable_cores
from mer_pnao.nested.run import run_nested, total_rounds
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.nested import print_nested, write_nested
from mer_pnao.systems.dataset import whole_dataset_of


def main() -> None:
    """Train on the profile's features and write `reports/nested.csv` and `reports/nested/`."""
    params = load_params()
    one_thread()
    dataset, work = whole_dataset_of(params), work_folder()
    store = DiskRoundStore(work / "rounds")
    with progress("nested rounds", total_rounds(params)) as done:
        tested = list(run_nested(dataset, params, store, work / "nested", parallel_map(usable_cores()), done))
    evaluation = params.evaluation
    table = write_nested(
        tested,
        dataset.labels,
        params.profile,
        evaluation.resamples,
        params.seed,
        Path("reports"),
        probe_in_final=params.final.probe,
    )
    print_nested(table, Console())


if __name__ == "__main__":
    with input_errors():
        main()
