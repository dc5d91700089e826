"""Commands that find what is best set in params.yaml, and set it."""

from typing import Annotated, Literal

import typer

from mer_pnao.foundations.console import ROOT, plain_console

INTERRUPTED = 130  # as a shell calls what Ctrl-C ended
_STORAGE = typer.Option(
    envvar="MER_SEARCH_STORAGE",
    help="postgresql://user@host/database, for workers on several machines; default: mlruns/optuna.journal.",
    show_default=False,
    show_envvar=True,
)

search = typer.Typer(invoke_without_command=True)


@search.callback()
def run(
    context: typer.Context,
    trials: Annotated[
        int | None, typer.Option(min=1, help="Distinct trainings to end with, by all workers; default: search.trials.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes of one thread; default: one a core.", show_default=False)
    ] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a study, or join the workers at it.")] = False,
    storage: Annotated[str | None, _STORAGE] = None,
    objectives: Annotated[
        Literal["com", "com,parameters"],
        typer.Option(help="The highest Com, or the smallest network of at least search.com_at_least."),
    ] = "com",
) -> None:
    """Search for NAOR, sparsity and rounds by out-of-fold Com, as `search` in params.yaml says."""
    if context.invoked_subcommand is not None:
        return
    from mer_pnao.foundations.parallel import usable_cores
    from mer_pnao.params.profile import load_params
    from mer_pnao.report.search import search_and_report
    from mer_pnao.search.run import Budget
    from mer_pnao.tracking.search_runs import search_tracker

    params, console = load_params(ROOT / "params.yaml"), plain_console()
    budget = Budget(trials or params.search.trials, workers or usable_cores(), resume, storage)
    try:
        search_and_report(params, objectives, budget, console, search_tracker())
    except KeyboardInterrupt:
        console.print("Stopped; what is finished is kept, and `mer search --resume` goes on.", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    said = "reports/search/ has the figures; `mer search apply` writes the chosen values into params.yaml."
    console.print(said, soft_wrap=True)


@search.command()
def apply() -> None:
    """Write the values of best_params.yaml into params.yaml, whose comments stay."""
    from mer_pnao.search.best_params import apply_best

    changed = apply_best(ROOT)
    if not changed:
        print("params.yaml has these values already")
        return
    for key, before, now in changed:
        print(f"{key}: {before} -> {now}")
    print("`dvc params diff` shows what has changed, `dvc repro` trains with it")


def dashboard(
    port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 8080,
    storage: Annotated[str | None, _STORAGE] = None,
) -> None:
    """Serve optuna-dashboard over the searches on 127.0.0.1 until Ctrl-C."""
    from mer_pnao.search.dashboard import serve_dashboard

    serve_dashboard(ROOT, storage, port)
