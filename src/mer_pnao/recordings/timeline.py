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
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.engine import Outcome
from mer_pnao.extraction.stretch_reader import DecodedStretch, StretchReader
from mer_pnao.foundations.files import composed
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE, is_silent
from mer_pnao.media.faces import LEAST_SHARE
from mer_pnao.predict import Prediction, Predictor, Refusal
from mer_pnao.recordings.encoding import EncodedStretch, encode_in_threads, encode_stretch
from mer_pnao.recordings.windows import SPEECH_LEVEL, Span, Spans, Windows

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
    asked = Windows(window, hop, speech_only, speech_level)
    reader = StretchReader(asked.plans(predictor), predictor.root)
    encoded = encode_in_threads(predictor, reader, reader.read(path, asked.length))
    return _answers(predictor, composed(path.stem), encoded, asked)


class DecodedTimeline:
    """As `timeline`, for a recording that is decoded elsewhere and handed over stretch by stretch, as it comes.

    Whoever hands a stretch over encodes it; nothing waits for the next one here. Raises InputError as `timeline` does.
    """

    def __init__(self, predictor: Predictor, name: str, asked: Windows) -> None:
        self._asked = asked
        self._asked.plans(predictor)
        self.length = self._asked.length  # of a stretch, in samples
        self._predictor, self._name, self._spans = predictor, name, Spans(self._asked)

    def take(self, stretch: DecodedStretch) -> list[Window]:
        """The windows that the next stretch completes.

        The stretches are those of `length` that a `StretchReader` of `predictor.plans()` reads and finds the faces of.
        """
        spans = self._spans.take(encode_stretch(self._predictor, stretch))
        return _decided(self._predictor, self._name, spans, self._asked)

    def rest(self) -> list[Window]:
        """The window at the end, if there is one, after all stretches or those before a ClipError."""
        return _decided(self._predictor, self._name, self._spans.rest(), self._asked)


def _answers(predictor: Predictor, name: str, encoded: Iterator[EncodedStretch], asked: Windows) -> Iterator[Window]:
    """The windows wanted, from all stretches; then what has ended the stretches early."""
    spans = Spans(asked)
    fault: ClipError | None = None
    try:
        for stretch in encoded:
            yield from _decided(predictor, name, spans.take(stretch), asked)
    except ClipError as error:
        fault = error
    yield from _decided(predictor, name, spans.rest(), asked)
    if fault:
        raise fault


def _decided(predictor: Predictor, name: str, spans: Sequence[Span], asked: Windows) -> list[Window]:
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


def _pooled(
    predictor: Predictor, parts: Sequence[EncodedStretch], sound: NDArray[np.float32], start: int, end: int
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


def _face(predictor: Predictor, parts: Sequence[EncodedStretch], start: int, end: int) -> bool | None:
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
