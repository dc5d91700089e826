"""How the answers of `mer predict` are printed: a table, JSON lines or a CSV, and what one should know beside them."""

import csv
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich import box
from rich.table import Table

from mer_pnao.foundations.console import plain_console, progress
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import replacing
from mer_pnao.outs.names import POSTERIOR, WEIGHT
from mer_pnao.predict import Prediction, Refusal

Taker = Callable[[Prediction], None]
_WIDEST = 10_000  # columns; more than a table of any model needs
_NAMED = 3  # clips at most that a warning names


def print_json(answer: Prediction) -> None:
    """One JSON object a line, as it comes."""
    print(json.dumps(asdict(answer)), flush=True)


@contextmanager
def csv_writer(path: Path, labels: Sequence[str], branches: Iterable[str]) -> Iterator[Taker]:
    """Writes answers as rows, to a file that is there whole or not at all. Raises InputError where none can be."""
    if path.is_dir():
        raise InputError(f"{path} is a folder, and --csv names a file")
    header = ["name", "emotion", "confidence", "valence", "valence_low", "valence_high", "novelty"]
    header += [*(f"{POSTERIOR}{label}" for label in labels), *(f"{WEIGHT}{branch}" for branch in branches)]
    with ExitStack() as opened:
        with _writing(path):
            beside = opened.enter_context(replacing(path))
            text = beside.open("w", newline="", encoding="utf-8", errors="backslashreplace")
            writer = csv.writer(opened.enter_context(text), lineterminator="\n")
            writer.writerow([*header, "model_version", "warnings"])

        def write(answer: Prediction) -> None:
            with _writing(path):
                writer.writerow(_row(answer))

        yield write
        with _writing(path):
            opened.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _row(one: Prediction) -> list[Any]:
    known = one.valence_range or ("", "")
    shares = (*one.posteriors.values(), *one.weights.values())
    last = (one.model_version, "; ".join(one.warnings))
    return [one.name, one.emotion, one.confidence, one.valence, *known, one.novelty, *shares, *last]


def take_answers(
    answers: Iterable[Prediction | Refusal], total: int, files: Mapping[str, Path], takers: Sequence[Taker]
) -> int:
    """Hand over every answer and tell of every refusal on stderr; returns how many clips could not be used."""
    refused = 0
    with progress("predicting", total) as done:
        for answer in answers:
            done(1)
            if isinstance(answer, Refusal):
                refused += 1
                print(f"{files.get(answer.name, answer.name)}: {answer.reason}", file=sys.stderr)
            else:
                for take in takers:
                    take(answer)
    if refused:
        print(f"{refused} of {total} clips could not be used", file=sys.stderr)
    return refused


class Warned:
    """Gathers which clips each warning is about."""

    def __init__(self) -> None:
        self._about: dict[str, list[str]] = {}

    def __call__(self, answer: Prediction) -> None:
        """Take an answer."""
        for warning in answer.warnings:
            self._about.setdefault(warning, []).append(answer.name)

    def print(self, caveats: Sequence[str], total: int) -> None:
        """On stderr: the model's caveats and, each once, what else is to be known of which of all clips."""
        for caveat in caveats:
            print(f"warning: {caveat}", file=sys.stderr)
        for warning, names in self._about.items():
            if warning not in caveats:
                clips = ", ".join(names) if len(names) <= _NAMED else f"{len(names)} of {total} clips"
                print(f"{clips}: {warning}", file=sys.stderr)


def print_table(predictions: Sequence[Prediction], wide: bool) -> None:
    """A row a clip: what fits 80 columns, or all posteriors and weights, however wide that is."""
    first = predictions[0]
    table = Table(title=f"model {first.model_version}", box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), title_justify="left")
    table.add_column("clip", overflow="fold")
    for heading in ("emotion", "conf.", "valence", *([*first.posteriors, *first.weights] if wide else ["next best"])):
        table.add_column(heading, justify="left" if heading in ("emotion", "next best") else "right", no_wrap=True)
    for one in predictions:
        shares = [*one.posteriors.values(), *one.weights.values()]
        rest = list(map(_share, shares)) if wide else [_next_best(one)]
        table.add_row(one.name, one.emotion, _share(one.confidence), _valence(one), *rest)
    console = plain_console()
    if wide:
        console.width = _WIDEST
    console.print(table)
    if first.valence_range:
        low, high = first.valence_range
        console.print(f"valence: {low:+.2f} to {high:+.2f} in the training clips, * is beyond", highlight=False)


def _next_best(one: Prediction) -> str:
    _, second = sorted(one.posteriors, key=one.posteriors.__getitem__, reverse=True)[:2]
    return f"{second} {_share(one.posteriors[second])}"


def _valence(one: Prediction) -> str:
    low, high = one.valence_range or (-math.inf, math.inf)
    return f"{one.valence:+.2f}{' ' if low <= one.valence <= high else '*'}"


def _share(value: float) -> str:
    return f"{value:.2f}".removeprefix("0")
