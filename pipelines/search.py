"""Stage `search`: NAOR, sparsity and rounds by out-of-fold Com; goes on with a study that was begun."""

from rich.console import Console

from mer_pnao.foundations.console import input_errors, progress
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.params.profile import load_params
from mer_pnao.report.search import REPORT, SearchProgress, print_search, write_search
from mer_pnao.search.run import Budget, search_profile
from mer_pnao.search.study import OBJECTIVES
from mer_pnao.tracking.search_runs import search_tracker


def main() -> None:
    """Spend the profile's budget of trials and write `best_params.yaml` and `reports/search/`."""
    params = load_params()
    budget = Budget(params.search.trials, usable_cores())
    track = search_tracker()
    with progress("searching", min(budget.trials, params.search.points)) as done:
        shown = SearchProgress(Console(), done)
        record = search_profile(
            params,
            OBJECTIVES["com"],
            budget,
            say=shown.say,
            finished=shown.finished,
            known=done,
            found=track,
        )
    write_search(record, REPORT)
    print_search(record, shown.console)


if __name__ == "__main__":
    with input_errors():
        main()
