"""Commands about MLflow: its store, its runs, its UI."""

import sys
from typing import Annotated

import typer

from mer_pnao.foundations.console import ROOT, progress


def init() -> None:
    """Make MLflow's database, experiment and registered model, once."""
    from mer_pnao.tracking.connection import initialise

    initialise(ROOT)
    print("MLflow is ready.", file=sys.stderr)


def track() -> None:
    """Rebuild MLflow's runs and versions from the outputs in models/; twice changes nothing."""
    from mer_pnao.tracking.runs import track as rebuild
    from mer_pnao.tracking.runs import track_total

    with progress("tracking", track_total(ROOT)) as done:
        rebuild(ROOT, done)
    print("MLflow holds what models/ holds; `mer ui` shows it.", file=sys.stderr)


def ui(port: Annotated[int, typer.Option(min=1, max=65535, help="Port on 127.0.0.1.")] = 5000) -> None:
    """Serve the MLflow UI on 127.0.0.1 until Ctrl-C."""
    from mer_pnao.tracking.ui import serve_ui

    serve_ui(ROOT, port)
