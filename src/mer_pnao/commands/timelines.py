"""The answers of `mer predict --window`: a table that grows, JSON lines, a CSV or a figure."""

import json
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path

from rich.cells import cell_len, set_cell_size

from mer_pnao.commands.answers import Warned, answer_columns, answer_row, csv_rows, next_best, share, shown_valence
from mer_pnao.foundations.console import plain_console, progress
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.container import ClipError
from mer_pnao.predict import Prediction, Predictor, caveats_of
from mer_pnao.recordings.timeline import Window

Taker = Callable[[Window], None]


def answer_recordings(
    predictor: Predictor,
    paths: Mapping[str, Path],
    ask: Callable[[Path], Iterator[Window]],
    plot: Path | None,
    as_json: bool,
    as_csv: Path | None,
) -> bool:
    """Answer each recording window by window, as `ask` gives them; whether each could be used up to its end.

    Raises InputError for an output that cannot be written, options out of range, or a model that takes no recordings.
    """
    if plot is not None:
        from mer_pnao.commands.timeline_figure import check_figure_path, draw_timeline  # matplotlib takes a second

        check_figure_path(plot)
        if len(paths) > 1:
            raise InputError(f"--plot draws one recording, and {len(paths)} are named")
    labels = predictor.model.labels
    kept: list[Window] = []
    warned, count, failed = Warned(), 0, False
    with ExitStack() as opened:
        takers: list[Taker] = [_print_json] if as_json else []
        if as_csv is not None:
            takers.append(_csv_taker(opened, as_csv, predictor))
        elif not as_json:
            takers.append(_Table(labels, predictor.version))
        if plot is not None:
            takers.append(kept.append)
        with progress("predicting windows", None) as done:
            for path in paths.values():
                try:
                    for window in ask(path):
                        done(1)
                        count += 1
                        if isinstance(window.answer, Prediction):
                            warned(window.answer)
                        for take in takers:
                            take(window)
                except ClipError as reason:
                    failed = True
                    print(f"{path}: {reason}", file=sys.stderr)
    if count and not as_json:
        warned.print(caveats_of(predictor.model), count, "windows")
    if as_csv is not None:
        print(f"{count} windows of {len(paths)} recordings: {as_csv}")
    if plot is not None:
        draw_timeline(kept, labels, plot)
    return not failed


def clock(seconds: float) -> str:
    """A time of a recording, such as 0:02.0 or 1:00:02.5."""
    tenths = round(10 * seconds)
    hours, minutes = divmod(tenths // 600, 60)
    front = f"{hours}:{minutes:02d}" if hours else f"{minutes}"
    return f"{front}:{tenths % 600 / 10:04.1f}"


def _print_json(window: Window) -> None:
    print(json.dumps(window.plain()), flush=True)


def _csv_taker(opened: ExitStack, path: Path, predictor: Predictor) -> Taker:
    """A row a window, in a file that is there whole or not at all."""
    columns = answer_columns(predictor.model.labels, predictor.model.blueprint.branches())
    write = opened.enter_context(csv_rows(path, ["name", "start", "end", "face", "voice", "level", *columns, "reason"]))

    def take(window: Window) -> None:
        answer = window.answer
        face = "" if window.face is None else str(window.face).lower()
        own = [answer.name, window.start, window.end, face, str(window.voice).lower(), round(window.level, 1)]
        if isinstance(answer, Prediction):
            write([*own, *answer_row(answer), ""])
        else:
            write([*own, *[""] * len(columns), answer.reason])

    return take


class _Table:
    """A row a window, printed as it comes, for 80 columns."""

    def __init__(self, labels: Sequence[str], version: str) -> None:
        self._console = plain_console()
        self._version = version
        self._width = max(cell_len("emotion"), *map(cell_len, labels))
        self._name = ""

    def __call__(self, window: Window) -> None:
        if window.answer.name != self._name:
            self._name = window.answer.name
            self._say(f"\n{self._name}, model {self._version}")
            self._say(self._line("start", "end", "emotion", "conf.", "valence", "next best", "remarks"))
        begin, end = clock(window.start), clock(window.end)
        missing = [f"no {what}" for what, there in (("face", window.face), ("voice", window.voice)) if there is False]
        if isinstance(window.answer, Prediction):
            answer = window.answer
            unlike = ["unlike"] if (answer.novelty or 0) > 1 else []
            cells = answer.emotion, share(answer.confidence), shown_valence(answer), next_best(answer)
            self._say(self._line(begin, end, *cells, ", ".join([*missing, *unlike])))
        else:
            self._say(self._line(begin, end, f"- {window.answer.reason}"))

    def _line(self, begin: str, end: str, emotion: str, *rest: str) -> str:
        front = f"{begin:>9} {end:>9}  "
        if not rest:
            return front + emotion
        confidence, valence, second, remarks = rest
        row = f"{set_cell_size(emotion, self._width)} {confidence:>5} {valence:>8}  "
        return f"{front}{row}{set_cell_size(second, self._width + 4)} {remarks}".rstrip()

    def _say(self, line: str) -> None:
        self._console.print(line, highlight=False, soft_wrap=True)
