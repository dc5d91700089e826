"""What a person sees while a command runs: progress bars, tables, and one sentence for each wrong input."""

import errno
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rich import box
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)
from rich.table import Table

from mer_pnao.foundations.errors import InputError

BAD_INPUT, REFUSED = 2, 3  # exit codes: wrong use or input; refused by a gate
_FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
ROOT = Path()  # the checkout's root: commands run there, as DVC's do


def plain_console() -> Console:
    """Of stdout. Names from data, as of clips and emotions, stay as they are: `[x]` is no markup, `:x:` no emoji."""
    return Console(markup=False, emoji=False)


def narrow_table(headings: Sequence[str], **style: Any) -> Table:
    """For a terminal of 80 columns, where wrapped numbers would hide the names: no column is wrapped.

    The first column holds words, the others numbers; `style` is what else rich's Table takes.
    """
    table = Table(header_style="bold", pad_edge=False, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), **style)
    table.add_column(headings[0], no_wrap=True)
    for heading in headings[1:]:
        table.add_column(heading, justify="right", no_wrap=True)
    return table


@contextmanager
def progress(title: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A progress bar on stderr; yields the function that moves it by so many items. No total: not known before."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, TimeElapsedColumn(), TimeRemainingColumn(), console=Console(stderr=True)) as bar:
        task = bar.add_task(title, total=total)
        yield lambda items: bar.advance(task, items)
        if total is None:  # now it is known
            bar.update(task, total=bar.tasks[0].completed)


@contextmanager
def input_errors() -> Iterator[None]:
    """Turn a wrong input, or a full disk, into one sentence on stderr and exit code 2, without a traceback."""
    try:
        yield
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from error
    except Exception as error:
        # safetensors and pyarrow have errors of their own for it.
        if getattr(error, "errno", None) not in _FULL and "No space left on device" not in str(error):
            raise
        said = " ".join(str(error).split())
        print(f"error: there is no room left to write to ({said}); what is finished is kept", file=sys.stderr)
        raise SystemExit(BAD_INPUT) from error
