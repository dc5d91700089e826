"""How the answers of `mer predict` are printed: a table, JSON lines or a CSV, and what one should know beside them."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from mer_pnao.foundations.console import plain_console, progress
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import replacing
from mer_pnao.media.container import TOO_LONG
from mer_pnao.outs.names import POSTERIOR, WEIGHT
from mer_pnao.predict import Prediction, Refusal

Taker = Callable[[Prediction], object]
_WIDEST = 10_000  # columns; more than a table of any model needs
_NAMED = 3  # clips at most that a warning names


def print_json(answer: Prediction) -> None:
    """One JSON object a line, as it comes."""
    print(json.dumps(asdict(answer)), flush=True)


@contextmanager
def csv_writer(path: Path, labels: Sequence[str], branches: Iterable[str]) -> Iterator[Taker]:
    """Writes answers as rows, to a file that is there whole or not at all. Raises InputError where none can be."""
    with csv_rows(path, ["name", *answer_columns(labels, branches)]) as write:
        yield lambda answer: write([answer.name, *answer_row(answer)])


def answer_columns(labels: Sequence[str], branches: Iterable[str]) -> list[str]:
    """What `answer_row` gives of an answer."""
    own = ["emotion", "confidence", "valence", "valence_low", "valence_high", "novelty"]
    shares = [*(f"{POSTERIOR}{label}" for label in labels), *(f"{WEIGHT}{branch}" for branch in branches)]
    return [*own, *shares, "model_version", "warnings"]


def answer_row(one: Prediction) -> list[Any]:
    """An answer but for its name."""
    known = one.valence_range or ("", "")
    shares = (*one.posteriors.values(), *one.weights.values())
    last = (one.model_version, "; ".join(one.warnings))
    return [one.emotion, one.confidence, one.valence, *known, one.novelty, *shares, *last]


@contextmanager
def csv_rows(path: Path, header: Sequence[str]) -> Iterator[Callable[[Sequence[Any]], object]]:
    """Writes a header and rows to a file that is there whole or not at all. Raises InputError where none can be."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, and --csv names a file")
    try:
        with replacing(path) as part, part.open("w", newline="", encoding="utf-8", errors="backslashreplace") as text:
            writer = csv.writer(text, lineterminator="\n")
            writer.writerow(header)
            yield writer.writerow
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def take_answers(
    answers: Iterable[Prediction | Refusal], total: int, files: Mapping[str, Path], takers: Sequence[Taker]
) -> int:
    """Hand over every answer and tell of every refusal on stderr; returns how many clips could not be used."""
    refused, too_long = 0, False
    with progress("predicting", total) as done:
        for answer in answers:
            done(1)
            if isinstance(answer, Refusal):
                refused += 1
                too_long |= answer.reason.startswith(TOO_LONG)
                print(f"{files.get(answer.name, answer.name)}: {answer.reason}", file=sys.stderr)
            else:
                for take in takers:
                    take(answer)
    if too_long:
        print("what is longer than a clip is answered in windows: --window 4", file=sys.stderr)
    if refused:
        print(f"{refused} of {total} clips could not be used", file=sys.stderr)
    return refused


class Warned:
    """Gathers which clips, or windows of recordings, each warning is about."""

    def __init__(self) -> None:
        self._about: dict[str, list[str]] = {}

    def __call__(self, answer: Prediction) -> None:
        """Take an answer."""
        for warning in answer.warnings:
            self._about.setdefault(warning, []).append(answer.name)

    def print(self, caveats: Sequence[str], total: int, what: str = "clips") -> None:
        """On stderr: the model's caveats and, each once, what else is to be known of which of all clips or windows."""
        for caveat in caveats:
            print(f"warning: {caveat}", file=sys.stderr)
        for warning, names in self._about.items():
            if warning not in caveats:
                few = what == "clips" and len(names) <= _NAMED
                about = ", ".join(names) if few else f"{len(names)} of {total} {what}"
                print(f"{about}: {warning}", file=sys.stderr)


def print_table(predictions: Sequence[Prediction], wide: bool) -> None:
    """A row a clip: what fits 80 columns, or all posteriors and weights, however wide that is."""
    first = predictions[0]
    table = Table(title=f"model {first.model_version}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("clip", overflow="fold")
    for heading in ("emotion", "conf.", "valence", *([*first.posteriors, *first.weights] if wide else ["next best"])):
        table.add_column(heading, justify="left" if heading in ("emotion", "next best") else "right", no_wrap=True)
    for one in predictions:
        shares = [*one.posteriors.values(), *one.weights.values()]
        rest = list(map(share, shares)) if wide else [next_best(one)]
        table.add_row(one.name, one.emotion, share(one.confidence), shown_valence(one), *rest)
    console = plain_console()
    if wide:
        console.width = _WIDEST
    console.print(table)
    if first.valence_range:
        low, high = first.valence_range
        console.print(f"valence: {low:+.2f} to {high:+.2f} in the training clips, * is beyond", highlight=False)


def next_best(one: Prediction) -> str:
    """The second emotion and its posterior."""
    _, second = sorted(one.posteriors, key=one.posteriors.__getitem__, reverse=True)[:2]
    return f"{second} {share(one.posteriors[second])}"


def shown_valence(one: Prediction) -> str:
    """The valence, with a * beyond that of the training clips."""
    low, high = one.valence_range or (-math.inf, math.inf)
    return f"{one.valence:+.2f}{' ' if low <= one.valence <= high else '*'}"


def share(value: float) -> str:
    """A share such as .82."""
    return f"{value:.2f}".removeprefix("0")
