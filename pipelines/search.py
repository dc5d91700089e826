"""Stage `search`: NAOR, sparsity and rounds by out-of-fold Com; goes on with a study that was begun."""

from rich.console import Console

from mer_pnao.console import input_errors, progress
from mer_pnao.parallel import usable_cores
from mer_pnao.params import load_params
from mer_pnao.search.study import OBJECTIVES
from mer_pnao.search_run import search_profile


def main() -> None:
    """Spend the profile's budget of trials and write `best_params.yaml` and `reports/search/`."""
    params = load_params()
    trials = params.search.trials
    with progress("searching", trials) as done:
        search_profile(params, OBJECTIVES["com"], None, trials, usable_cores(), True, Console(), done)


if __name__ == "__main__":
    with input_errors():
        main()
