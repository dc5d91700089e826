"""Commands about what the pipeline found."""

import json
import webbrowser
from pathlib import Path
from typing import Annotated

import typer

from mer_pnao.foundations.console import ROOT, plain_console
from mer_pnao.foundations.errors import InputError


def table() -> None:
    """Print Table 1 of the last run, and where to look next."""
    from mer_pnao.report.terminal import print_table

    path = ROOT / "reports/table.csv"
    if not path.is_file():
        raise InputError(f"{path} is not there: run `make run` or `dvc repro` first")
    console = plain_console()
    print_table(path, console)
    console.print("Report page: mer report     Runs and models: mer ui", highlight=False)


def report() -> None:
    """Open the report page of the last run in the browser."""
    path = ROOT / "reports/index.html"
    if not path.is_file():
        raise InputError(f"{path} is not there: run `make run` or `dvc repro` first")
    address = path.resolve().as_uri()
    opened = webbrowser.open(address)
    print(address if opened else f"no browser could be started: open {address}")


def score(
    labels: Annotated[Path, typer.Argument(help="CSV with name, discrete and, where known, valence.")],
    predictions: Annotated[Path, typer.Argument(help="CSV with the same columns, in any order of rows.")],
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object: dis, dim, com, clips.")] = False,
    subset: Annotated[bool, typer.Option("--subset", help="Score only the predictions of LABELS' clips.")] = False,
) -> None:
    """Score predictions as the MER challenges do: Dis, Dim, and Com = Dis - 0.25 Dim; without valences, Com = Dis."""
    from mer_pnao.commands.score_files import score_files

    scores, clips = score_files(labels, predictions, subset)
    if as_json:
        print(json.dumps({"dis": scores.dis, "dim": scores.dim, "com": scores.com, "clips": clips}))
        return
    dim = "none (the labels have no valence)" if scores.dim is None else f"{scores.dim:.4f}"
    print(f"Dis    {scores.dis:.4f}\nDim    {dim}\nCom    {scores.com:.4f}\nclips  {clips}")
