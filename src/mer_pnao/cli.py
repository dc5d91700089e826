"""The command `mer`. Exit codes: 0 done, 2 bad usage or input, 3 refused by a gate."""

import atexit
import gc
import sys
from io import TextIOWrapper

import typer

from mer_pnao.commands import corpus, extraction, predict, registry, results, search, tracking
from mer_pnao.foundations.console import input_errors

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
    help="Audio-visual emotion recognition with entropy-based fusion and a network that shrinks round by round.",
)
for command in (
    corpus.profile,
    corpus.check,
    corpus.fetch,
    extraction.extract,
    results.table,
    results.report,
    results.score,
    predict.predict,
    predict.serve,
    predict.export,
    registry.register,
    registry.registry,
    registry.promote,
    registry.rollback,
    search.dashboard,
    tracking.init,
    tracking.track,
    tracking.ui,
):
    app.command()(command)
app.add_typer(search.search, name="search")


def main() -> None:
    """Entry point: wrong input is one sentence on stderr and exit code 2."""
    # Most of what a command makes are modules, which are no garbage: to look for some among them, while they are
    # imported and once more at the end, takes a fifth of a short command's time.
    gc.set_threshold(200_000)
    atexit.register(gc.freeze)
    for stream in (sys.stdout, sys.stderr):  # a name that a terminal cannot show is no reason to stop
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")
    with input_errors():
        app()


if __name__ == "__main__":
    main()
