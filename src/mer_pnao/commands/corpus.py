"""Commands about clips, encoders and profiles."""

from pathlib import Path
from typing import Annotated

import typer

from mer_pnao.foundations.console import BAD_INPUT, ROOT, plain_console, progress


def profile(
    name: Annotated[str | None, typer.Option(help="Copy profiles/NAME.yaml over params.yaml.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpus, linked to where the profile reads.")] = None,
) -> None:
    """Choose the profile that the pipeline runs; without options, check the present one."""
    from mer_pnao.commands.choose_profile import choose_profile

    chosen, kept = choose_profile(ROOT, name, data)
    emotions = len(chosen.corpus.labels) or "the corpus's own"
    plain_console().print(f"profile {chosen.profile}: {emotions} emotions, corpus {chosen.corpus.root}")
    if kept:
        print(f"Your edited params.yaml is kept. To take it back: cp {kept} params.yaml")
    if name not in (None, "demo"):
        print("To go back to the demo: make run PROFILE=demo")


def check(
    figure: Annotated[Path | None, typer.Option(help="Draw the classes and lengths into this PNG file, too.")] = None,
) -> None:
    """Report on the profile's corpus before anything long runs; exit code 2 when something would stop the run."""
    from mer_pnao.commands.corpus_check import check_corpus
    from mer_pnao.commands.corpus_report import print_report
    from mer_pnao.params.profile import load_params

    params = load_params(ROOT / "params.yaml")
    with progress("reading headers", None) as done:
        report = check_corpus(params, ROOT, done)
    print_report(report, plain_console())
    if figure is not None and len(report.clips):
        from mer_pnao.commands.corpus_figure import draw_report

        draw_report(report, figure)
    if report.faults:
        raise typer.Exit(BAD_INPUT)


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="organisation/name@revision; default: the encoders of params.yaml.")
    ] = None,
) -> None:
    """Download checkpoints from the Hugging Face hub: the one command that does."""
    from mer_pnao.encoders.hub import fetch
    from mer_pnao.encoders.hub_name import hub_name
    from mer_pnao.params.profile import load_params

    if not names:
        encoders = load_params(ROOT / "params.yaml").encoders
        names = [encoder.checkpoint for encoder in encoders.values() if hub_name(encoder.checkpoint)]
    for name in dict.fromkeys(names):
        plain_console().print(f"{name}: {fetch(name, ROOT)}", soft_wrap=True)
    if not names:
        plain_console().print("No encoder of params.yaml has a checkpoint on the hub.")
