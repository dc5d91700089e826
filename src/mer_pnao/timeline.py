"""From a recording of any length to its emotions over time, window by window, while it is decoded.

    predictor = Predictor.load(Path("models/enf_pnao/round-03"))
    for window in timeline(predictor, Path("interview.mp4"), window=4, hop=2):
        print(window.start, window.end, window.answer)

A recording is cut into stretches of a window's length, one behind the other, and each is decoded, searched for faces
and encoded once, as the clip cut out there would be. A window that is a stretch is answered as that clip. One that lies
across two of them takes the vectors that both have over its own time: its frames have heard, and its faces were
followed within, the stretch that they are of, instead of the window.

Legend of shapes: n vectors of a stretch over time, D the width of a set.
"""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_reader import DecodedClip, DecodingPlan
from mer_pnao.extraction.engine import Outcome
from mer_pnao.extraction.stretch_reader import DecodedStretch, StretchReader
from mer_pnao.foundations.checks import between
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE, is_silent
from mer_pnao.media.faces import LEAST_SHARE
from mer_pnao.media.recording import Stretch
from mer_pnao.predict import Prediction, Predictor, Refusal

SPEECH_LEVEL = -50.0  # dBFS
SHORTEST = 0.1  # s, of a window and a hop
_MOST_WINDOWS = 40  # that begin within one: more would tell little, and hold up what else is answered
_BLOCK = SAMPLE_RATE // 10  # samples: a tenth of a second, shorter than a syllable
_FAINTEST = 2.0**-15  # what 16 bits hold, -90 dBFS
_NO_SOUND, _NO_PICTURE = "has no sound", "has no picture that changes"
_PART_WITHOUT_FACE = "no face was found in a part of it, so the whole frame was used there"


@dataclass(frozen=True)
class Window:
    """The answer for a part of a recording."""

    start: float  # s from the recording's beginning
    end: float
    answer: Prediction | Refusal  # of the recording's name; a Refusal's reason says why the window cannot be used
    face: bool | None  # whether a fifth of the searched frames show one; None: the model sees no pictures
    voice: bool  # whether something is as loud as a voice: `level` is above the speech level
    level: float  # dBFS, root mean square of its loudest tenth of a second

    def plain(self) -> dict[str, Any]:
        """As JSON has it: name, start, end, face, voice, level, and what a clip's answer has, or `reason` instead."""
        about = asdict(self.answer)
        own = {"start": self.start, "end": self.end, "face": self.face, "voice": self.voice, "level": self.level}
        return {"name": about.pop("name"), **own, **about}


def timeline(
    predictor: Predictor,
    path: Path,
    window: float = 4.0,
    hop: float | None = None,
    speech_only: bool = False,
    speech_level: float = SPEECH_LEVEL,
) -> Iterator[Window]:
    """The answers for a recording's windows, in order of time, each as soon as it is found.

    The file is decoded once, and no more than a few windows of it are held, however long it is. The windows begin at
    0, hop, 2 hop … and last `window` seconds. At the end, a rest of at least half a hop that no window has reached gets
    one of its own, which is shorter; a recording shorter than a window is one.

    A window without usable sound or picture has a Refusal for an answer, with the reason, such as `is silent`. Close
    the iterator, or let it go, to end early.

    Args:
        predictor: a model and its encoders.
        path: the recording.
        window: seconds; at most what a clip of the model may last (60).
        hop: seconds from one window's start to the next one's, from a fortieth of `window` to all of it; half of it
            when omitted.
        speech_only: leave out the windows without a voice. By level alone: music is a voice, a whisper may be none.
        speech_level: dBFS, above which the loudest tenth of a second of a window must be for a voice to be there.

    Raises:
        InputError: at once, for a window, a hop or a level out of range, or a model that reads words or ready crops.
        ClipError: from the iterator, with a predicate for a message as a Refusal has it (`has no audio track`): at its
            first step for a file that cannot be used, and after the windows before it for one that is damaged midway,
            is truncated, or whose clock jumps.
    """
    asked = _Asked(window, max(window / 2, SHORTEST) if hop is None else hop, speech_only, speech_level)
    reader = StretchReader(asked.plans(predictor), predictor.root)
    encoded = _in_threads(predictor, reader, reader.read(path, asked.length))
    return _answers(predictor, composed(path.stem), encoded, asked)


class DecodedTimeline:
    """As `timeline`, for a recording that is decoded elsewhere and handed over stretch by stretch, as it comes.

    Whoever hands a stretch over encodes it; nothing waits for the next one here. Raises InputError as `timeline` does.
    """

    def __init__(
        self,
        predictor: Predictor,
        name: str,
        window: float = 4.0,
        hop: float | None = None,
        speech_only: bool = False,
        speech_level: float = SPEECH_LEVEL,
    ) -> None:
        self._asked = _Asked(window, max(window / 2, SHORTEST) if hop is None else hop, speech_only, speech_level)
        self._asked.plans(predictor)
        self.length = self._asked.length  # of a stretch, in samples
        self._predictor, self._name, self._spans = predictor, name, _Spans(self._asked)

    def take(self, stretch: DecodedStretch) -> list[Window]:
        """The windows that the next stretch completes.

        The stretches are those of `length` that a `StretchReader` of `predictor.plans()` reads and finds the faces of.
        """
        spans = self._spans.take(_encoded(self._predictor, stretch))
        return _decided(self._predictor, self._name, spans, self._asked)

    def rest(self) -> list[Window]:
        """The window at the end, if there is one, after all stretches or those before a ClipError."""
        return _decided(self._predictor, self._name, self._spans.rest(), self._asked)


@dataclass(frozen=True)
class _Asked:
    """Which windows are wanted."""

    window: float
    hop: float
    speech_only: bool
    speech_level: float

    @property
    def length(self) -> int:
        """Of a window, in samples."""
        return round(self.window * SAMPLE_RATE)

    def start(self, number: int) -> int:
        """Of the window of this number, in samples; a window that is a stretch stays one, however it is rounded."""
        return round(number * self.hop / self.window * self.length)

    def plans(self, predictor: Predictor) -> Mapping[str, DecodingPlan]:
        """How the model takes a recording. Raises InputError where it cannot, or what is asked for is out of range."""
        if predictor.reads_words:
            raise InputError(
                f"model {predictor.version} reads words, and what is said when in a recording is not known: "
                "cut it into clips, and give their transcripts"
            )
        plans = predictor.plans()
        longest = min(plan.limits.max_seconds for plan in plans.values())
        shortest = max(SHORTEST, *(plan.limits.min_seconds for plan in plans.values()))
        try:
            between("window", self.window, shortest, longest)
            between("hop", self.hop, SHORTEST, self.window)
            between("speech_level", self.speech_level, -90, 0)
        except ValueError as error:
            raise InputError(f"{error} s" if "level" not in str(error) else f"{error} dBFS") from error
        if self.hop < self.window / _MOST_WINDOWS:
            least = f"a fortieth of the window, {self.window / _MOST_WINDOWS:g} s"
            raise InputError(f"hop must be at least {least}, got {self.hop:g} s")
        return plans


@dataclass(frozen=True)
class _Encoded:
    """A stretch and its vectors over time; times are numbers of samples."""

    decoded: DecodedStretch  # without the crops
    vectors: Mapping[str, NDArray[np.float32]]  # set -> (n, D)
    times: Mapping[str, NDArray[np.float64]]  # set -> (n, 2): when each begins to count, and when it last does
    reason: str = ""  # why there are none


_Span = tuple[int, int, Sequence[_Encoded]]  # start and end of a window, and the stretches that it lies in


def _in_threads(predictor: Predictor, reader: StretchReader, stretches: Iterable[Stretch]) -> Iterator[_Encoded]:
    """The stretches in order, a thread a core, each of which searches and encodes one after another.

    Only as many are decoded ahead as there are threads and memory for them. See `engine.outcomes` on threads and GPUs.
    """
    threads = usable_cores()
    turn: AbstractContextManager[Any] = Lock() if torch.cuda.is_available() else nullcontext()
    before = torch.get_num_threads()
    pool = ThreadPoolExecutor(threads, initializer=torch.set_num_threads, initargs=(1,))
    running: deque[tuple[Future[_Encoded], int]] = deque()
    fault: ClipError | None = None

    def work(stretch: Stretch) -> _Encoded:
        decoded = reader.find_faces(stretch)
        with turn:
            return _encoded(predictor, decoded)

    try:
        most = reader.limits.memory_mb * 2**20
        try:
            for stretch in stretches:
                while running and (len(running) > threads or sum(size for _, size in running) + stretch.bytes > most):
                    yield running.popleft()[0].result()
                running.append((pool.submit(work, stretch), stretch.bytes))
        except ClipError as error:
            fault = error
        while running:
            yield running.popleft()[0].result()
        if fault:
            raise fault
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(before)


def _encoded(predictor: Predictor, stretch: DecodedStretch) -> _Encoded:
    """The vectors of all encoders; one that has nothing to encode has none."""
    if stretch.reason:
        return _Encoded(stretch, {}, {}, stretch.reason)
    vectors: dict[str, NDArray[np.float32]] = {}
    times: dict[str, NDArray[np.float64]] = {}
    reason = ""
    for name, encoder in predictor.encoders.items():
        faces = stretch.faces.get(name)
        content = stretch.sound if faces is None else faces.crops
        least = round(predictor.plans()[name].limits.min_seconds * SAMPLE_RATE) if faces is None else 1
        if len(content) < least or encoder.over_time is None:
            continue
        try:
            made = encoder.over_time(DecodedClip(content))
        except InputError as error:
            reason = f"cannot be encoded: {error}"
            break
        for key, block in made.items():
            begins = stretch.start + encoder.hop * np.arange(len(block), dtype=np.float64)
            vectors[key], times[key] = block, np.stack([begins, begins], axis=1) if faces is None else faces.times
    # The crops are done with; when there were faces is still to be told.
    bare = {name: replace(faces, crops=faces.crops[:0]) for name, faces in stretch.faces.items()}
    return _Encoded(replace(stretch, faces=bare), vectors, times, reason)


def _answers(predictor: Predictor, name: str, encoded: Iterator[_Encoded], asked: _Asked) -> Iterator[Window]:
    """The windows wanted, from all stretches; then what has ended the stretches early."""
    spans = _Spans(asked)
    fault: ClipError | None = None
    try:
        for stretch in encoded:
            yield from _decided(predictor, name, spans.take(stretch), asked)
    except ClipError as error:
        fault = error
    yield from _decided(predictor, name, spans.rest(), asked)
    if fault:
        raise fault


def _decided(predictor: Predictor, name: str, spans: Sequence[_Span], asked: _Asked) -> list[Window]:
    """Those of the windows that are wanted, decided together."""
    wanted: list[Window] = []
    found: list[Outcome] = []
    for start, end, parts in spans:
        sound = np.concatenate([_between(part.decoded, start, end) for part in parts])
        level = _level(sound)
        voice = level > asked.speech_level
        if voice or not asked.speech_only:
            undecided, face = Refusal(name, ""), _face(predictor, parts, start, end)
            wanted.append(Window(start / SAMPLE_RATE, end / SAMPLE_RATE, undecided, face, voice, level))
            found.append(_pooled(predictor, parts, sound, start, end))
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # more would wait for work on the cores that encode
    try:
        answers = predictor.decided([name] * len(found), found)
    finally:
        torch.set_num_threads(threads)
    return [replace(window, answer=answer) for window, answer in zip(wanted, answers, strict=True)]


class _Spans:
    """Where the windows lie, from stretches that come one by one."""

    def __init__(self, asked: _Asked) -> None:
        self._asked = asked
        self._held: deque[_Encoded] = deque()
        self._number, self._total = 0, 0  # of the next window, and of all stretches

    def take(self, stretch: _Encoded) -> list[_Span]:
        """The windows that the next stretch completes."""
        self._held.append(stretch)
        self._total = stretch.decoded.end
        whole: list[_Span] = []
        while (end := self._asked.start(self._number) + self._asked.length) <= self._total:
            whole.append((end - self._asked.length, end, tuple(self._held)))
            self._number += 1
            while self._held and self._held[0].decoded.end <= self._asked.start(self._number):
                self._held.popleft()
        return whole

    def rest(self) -> list[_Span]:
        """The shorter window at the end, unless it is hardly longer than what others have reached."""
        start = self._asked.start(self._number)
        reached = self._asked.start(self._number - 1) + self._asked.length
        left = not self._number or self._total - reached >= self._asked.hop * SAMPLE_RATE / 2
        if self._held and self._total > start and left:
            return [(start, self._total, tuple(self._held))]
        return []


def _pooled(
    predictor: Predictor, parts: Sequence[_Encoded], sound: NDArray[np.float32], start: int, end: int
) -> Outcome:
    """What becomes of a window, as of a clip."""
    plans = predictor.plans()
    if reason := next((part.reason for part in parts if part.reason), ""):
        return Outcome(skipped=reason)
    for plan in plans.values():
        seconds = len(sound) / SAMPLE_RATE
        if plan.kind == "sound" and seconds < plan.limits.min_seconds:
            return Outcome(skipped=f"has only {seconds:.3f} s of sound" if seconds else _NO_SOUND)
        if plan.kind == "sound" and is_silent(sound, plan.limits.silence):
            return Outcome(skipped="is silent")
    vectors: dict[str, NDArray[np.float32]] = {}
    for encoder in predictor.encoders.values():
        for key in encoder.sets:
            own = [
                part.vectors[key][(part.times[key][:, 0] < end) & (part.times[key][:, 1] >= start)]
                for part in parts
                if key in part.vectors
            ]
            if not sum(map(len, own)):
                return Outcome(skipped=_NO_SOUND if plans[encoder.name].kind == "sound" else _NO_PICTURE)
            vectors[key] = np.concatenate(own).mean(axis=0, dtype=np.float64).astype(np.float32)
    whole = [
        faces.whole_frame
        for part in parts
        for faces in part.decoded.faces.values()
        if ((faces.times[:, 0] < end) & (faces.times[:, 1] >= start)).any()
    ]
    remarks = [remark for part in parts for remark in part.decoded.remarks]
    if any(whole) and not all(whole):
        remarks.append(_PART_WITHOUT_FACE)
    return Outcome(vectors, whole_frame=bool(whole) and all(whole), remarks=tuple(dict.fromkeys(remarks)))


def _face(predictor: Predictor, parts: Sequence[_Encoded], start: int, end: int) -> bool | None:
    """Whether enough of the searched frames show a face; None where no encoder sees any."""
    if not any(plan.kind == "faces" for plan in predictor.plans().values()):
        return None
    faces = [faces for part in parts for faces in part.decoded.faces.values()]
    own = [each.seen[(each.times[:, 0] < end) & (each.times[:, 1] >= start)] for each in faces]
    seen = np.concatenate([np.zeros(0), *own])
    searched = seen[~np.isnan(seen)]
    return bool(len(searched) and searched.mean() >= LEAST_SHARE)


def _between(stretch: DecodedStretch, start: int, end: int) -> NDArray[np.float32]:
    """The part of a stretch's sound that lies in a window."""
    return stretch.sound[max(start - stretch.start, 0) : max(end - stretch.start, 0)]


def _level(sound: NDArray[np.float32]) -> float:
    """dBFS of the loudest tenth of a second; -90 for silence, or where there is no such time."""
    blocks = sound[: len(sound) // _BLOCK * _BLOCK].reshape(-1, _BLOCK)
    loudest = float(blocks.std(axis=1).max()) if len(blocks) else 0.0  # without a constant, which is no sound
    return 20 * math.log10(max(loudest, _FAINTEST))
