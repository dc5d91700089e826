"""Stage `search`: NAOR, sparsity and rounds by out-of-fold Com; goes on with a study that was begun."""

from rich.console import Console

from mer_pnao.foundations.console import input_errors
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.params.profile import load_params
from mer_pnao.report.search import search_and_report
from mer_pnao.search.run import Budget
from mer_pnao.tracking.search_runs import search_tracker


def main() -> None:
    """Spend the profile's budget of trials and write `best_params.yaml` and `reports/search/`."""
    params = load_params()
    budget = Budget(params.search.trials, usable_cores())
    search_and_report(params, "com", budget, Console(), search_tracker())


if __name__ == "__main__":
    with input_errors():
        main()
