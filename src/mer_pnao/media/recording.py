"""A recording's sound and picture, decoded once and handed on in stretches of one length, however long it is.

Times are numbers of samples at 16 kHz on the recording's own clock, which is 0 where its file begins.
"""

import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from math import ceil
from pathlib import Path
from typing import Any

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.packet import Packet
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, Tracks, cut_short, opened, reasons, track_end
from mer_pnao.media.decode import SAMPLE_RATE, Resampler, uncancelled, upright_rgb

_JITTER = SAMPLE_RATE // 10  # by which a clock may be off before silence is put in or sound left out
# How long a picture counts that does not change, how far apart a file may keep sound and picture, or its clock go back.
_APART = 10 * SAMPLE_RATE
_MISSING = 1.0  # s of the end: containers round, and codecs pad
_LONGEST_JUMP = 3600 * SAMPLE_RATE  # of a clock; more is damage
_HALF = Fraction(1, 2)


@dataclass(frozen=True)
class Sampling:
    """How many frames of a stretch are taken: `frames`, or `per_second` where those are fewer."""

    frames: int
    per_second: float = 0.0

    def of(self, length: int) -> int:
        """The frames of so many samples' time, at least 1."""
        if not self.per_second:
            return self.frames
        return min(self.frames, max(1, round(self.per_second * length / SAMPLE_RATE)))


@dataclass(frozen=True)
class Film:
    """The frames of a stretch that were taken, (H, W, 3) uint8 RGB each, all of one size.

    Each was on screen in the middle of one of so many equal parts of the stretch's time; `times` (n, 2) are the first
    and the last such middle.
    """

    frames: list[NDArray[np.uint8]] = field(default_factory=list)
    times: list[tuple[float, float]] = field(default_factory=list)

    @property
    def bytes(self) -> int:
        """What the frames take in memory, those that another sampling has taken, too, included."""
        return sum(frame.nbytes for frame in self.frames)


@dataclass(frozen=True)
class Stretch:
    """A part of a recording."""

    start: int
    end: int  # the last one may be shorter than the others
    sound: NDArray[np.float32]  # mono, full scale 1; ends before the stretch where the recording's sound does
    films: dict[Sampling, Film]
    remarks: tuple[str, ...]  # as a clip's, on what was used of its sound and picture

    @property
    def bytes(self) -> int:
        """What its frames take in memory at most."""
        return sum(film.bytes for film in self.films.values())


def stretches(path: Path, length: int, samplings: Sequence[Sampling], limits: MediaLimits) -> Iterator[Stretch]:
    """The stretches of a recording, in order and without gaps, while it is decoded: sound and picture at once, once.

    The frames of a stretch are those that `choose_frames` takes of the clip cut out there; for the last one, the header
    must tell when the pictures end. Where they end before that, or no header tells, they are the frames of a whole
    stretch up to there, and one at least. Where there is no sound for a while it is silent, and a picture that has not
    changed for ten seconds counts no longer.

    Raises ClipError as `check_clip` does, but for the length; and behind the stretches before it, and the rest up to
    there, for what is damaged or truncated, a clock that jumps, sound and picture that lie far apart in the file, or
    more frames of a stretch than `limits.memory_mb` holds.
    """
    with opened(path, limits, math.inf) as tracks:
        reading = _Reading(tracks, length, samplings, limits)
        fault: ClipError | None = None
        try:
            with reasons():
                for packet in tracks.container.demux(*tracks.judged):
                    reading.take(packet)
                    yield from reading.finished()
        except ClipError as error:
            fault = error
        yield from reading.rest()
        if fault:
            raise ClipError(f"{fault}, after {reading.clock / SAMPLE_RATE:.1f} s") from fault
        if missing := cut_short(reading.passed, tracks.end, _MISSING):
            raise ClipError(missing)
        if not reading.clock:
            raise ClipError("has neither sound nor frames")


class _Reading:
    """What was decoded and not yet handed on."""

    def __init__(self, tracks: Tracks, length: int, samplings: Sequence[Sampling], limits: MediaLimits) -> None:
        self._zero = Fraction(tracks.container.start_time or 0, av.time_base)
        # Some writers of Matroska count a file's length from 0, wherever it begins.
        self._counted_from = Fraction(0) if "matroska" in tracks.container.format.name else self._zero
        self._by_header = round((Fraction(tracks.end) + self._counted_from - self._zero) * SAMPLE_RATE)  # its end
        self._length, self._number = length, 0  # of the stretch that comes next
        self._sound = _Sound(tracks.audio.channels)
        shown = round((Fraction(track_end(tracks.video)) - self._zero) * SAMPLE_RATE)
        self._picture = _Picture(tracks.video, length, samplings, limits, shown if shown > 0 else self._by_header)
        self._wanted = (tracks.audio, tracks.video) if samplings else (tracks.audio,)
        self._remarks = (*tracks.of_sound, *tracks.of_picture)
        self._most = limits.memory_mb * 2**20
        self.passed = 0.0  # seconds of the file's packets, as its header counts them

    @property
    def clock(self) -> int:
        """How far sound and picture go."""
        return max(self._sound.end, ceil(self._picture.end))

    def take(self, packet: "Packet[Any]") -> None:
        """Decode what a packet holds."""
        if packet.pts is not None and packet.time_base is not None and packet.size:
            end = (packet.pts + (packet.duration or 0)) * packet.time_base - self._counted_from
            self.passed = max(self.passed, float(end))
        if packet.stream not in self._wanted:
            return
        for frame in packet.decode():
            stamp = frame.dts if frame.pts is None else frame.pts
            unit = frame.time_base
            begin = None if stamp is None or unit is None else (stamp * unit - self._zero) * SAMPLE_RATE
            if isinstance(frame, AudioFrame):
                self._sound.take(frame, begin)
            else:
                self._picture.take(frame, begin)
        if self._picture.bytes > self._most:
            most = f"{self._most // 2**20} MB, memory_mb of its media"
            raise ClipError(f"has more frames in {self._length / SAMPLE_RATE:g} s than fit into {most}")

    def finished(self) -> Iterator[Stretch]:
        """The stretches that both sound and picture have passed, or one of them by far."""
        first, last = sorted((self._sound.end, int(self._picture.end)))
        if len(self._wanted) == 1:
            first = last
        while max(first, last - _APART) >= (self._number + 1) * self._length:
            yield self._next((self._number + 1) * self._length)

    def rest(self) -> Iterator[Stretch]:
        """What is left in the end."""
        self._sound.flush()
        self._picture.close(max(self._sound.end, self._by_header))
        while self.clock > self._number * self._length:
            yield self._next(min((self._number + 1) * self._length, self.clock))

    def _next(self, end: int) -> Stretch:
        start, films = self._number * self._length, self._picture.cut(self._number, end)
        sound, remarks = self._sound.cut(end)
        self._number += 1
        return Stretch(start, end, sound, films, (*self._remarks, *remarks))


class _Sound:
    """The track of sound: what is missing is silence, what comes twice is left out."""

    def __init__(self, channels: int) -> None:
        self._resamplers = [Resampler("mono"), *([Resampler()] if channels > 1 else [])]
        self._held: list[deque[NDArray[np.float32]]] = [deque() for _ in self._resamplers]  # (channels, samples) each
        self._filled = [0 for _ in self._resamplers]  # samples, with those that were handed on
        self._heard = Fraction(0)  # up to where frames have come
        self._handed_on = 0

    @property
    def end(self) -> int:
        """Up to where there is sound, or silence in its place."""
        return self._filled[0]

    def take(self, frame: AudioFrame, begin: Fraction | None) -> None:
        """Take a frame that begins then."""
        begin = self._heard if begin is None else begin
        _refuse_jump(self._heard, begin, self._handed_on)
        if begin < self._heard - _JITTER:
            return
        if begin > self._heard + _JITTER:
            self._fill(ceil(begin))
            self._heard = begin
        for place, resampler in enumerate(self._resamplers):
            self._keep(place, resampler(frame))
        self._heard += Fraction(frame.samples * SAMPLE_RATE, frame.sample_rate)

    def flush(self) -> None:
        """Take what the filters still hold."""
        for place, resampler in enumerate(self._resamplers):
            self._keep(place, resampler.rest())

    def cut(self, end: int) -> tuple[NDArray[np.float32], tuple[str, ...]]:
        """What was not handed on up to there, less where the sound has ended, and what there is to say of channels."""
        mixed, *apart = [_taken(held, end - self._handed_on) for held in self._held]
        self._handed_on = end
        self._filled = [max(filled, end) for filled in self._filled]
        remarks: list[str] = []
        return uncancelled(mixed[0], apart[0], remarks.append) if apart else mixed[0], tuple(remarks)

    def _fill(self, end: int) -> None:
        self.flush()
        for place, filled in enumerate(self._filled):
            if end > filled:
                self._keep(place, [np.broadcast_to(np.float32(0), (1, end - filled))])  # takes no memory

    def _keep(self, place: int, chunks: Sequence[NDArray[np.float32]]) -> None:
        self._held[place].extend(chunks)
        self._filled[place] += sum(chunk.shape[1] for chunk in chunks)


def _taken(held: deque[NDArray[np.float32]], samples: int) -> NDArray[np.float32]:
    """(channels, samples) of the front, or all that there is."""
    parts: list[NDArray[np.float32]] = [np.zeros((1, 0), np.float32)]
    while samples and held:
        chunk = held.popleft()
        parts.append(chunk[:, :samples])
        if chunk.shape[1] > samples:
            held.appendleft(chunk[:, samples:])
        samples -= parts[-1].shape[1]
    channels = max(map(len, parts))
    return np.concatenate([np.broadcast_to(part, (channels, part.shape[1])) for part in parts], axis=1)


class _Picture:
    """The track of pictures: how long a frame is on screen is known when the next one begins."""

    def __init__(
        self, video: VideoStream, length: int, samplings: Sequence[Sampling], limits: MediaLimits, last: int
    ) -> None:
        self._video, self._length, self._samplings, self._limits = video, length, samplings, limits
        self._last = last  # when it ends by the header, not above 0 where that is not known
        self._frame: VideoFrame | None = None  # that is on screen
        self._pixels: NDArray[np.uint8] | None = None  # of it, if a stretch has taken it
        self._since = self._taken = Fraction(0)  # when it came, and up to where it was taken for stretches
        self._usual = Fraction(SAMPLE_RATE) / (video.average_rate or 25)  # time of a frame
        self._films: dict[int, dict[Sampling, Film]] = {}  # by the stretch's number
        self._handed_on = 0
        self.bytes = 0  # of the frames held
        self.end = Fraction(0)

    def take(self, frame: VideoFrame, begin: Fraction | None) -> None:
        """Take a frame that begins then."""
        if frame.width * frame.height > self._limits.max_pixels:
            size = f"{frame.width}x{frame.height}"
            raise ClipError(f"has a frame of {size}, more than {self._limits.max_pixels} pixels")
        if begin is None:
            begin = self._since + (self._usual if self._frame else 0)
        _refuse_jump(self._since, begin, self._handed_on)
        begin = max(begin, self._since)
        self._show(begin)
        if self._frame and begin > self._since:
            self._usual = begin - self._since
        self._frame, self._pixels = frame, None
        self._since = self._taken = self.end = begin

    def close(self, latest: int) -> None:
        """The last frame stays for as long as the one before it, but not past the latest end that there may be."""
        if self._frame:
            left = latest - self._since
            self.end = self._since + min(self._usual, left if left > 0 else SAMPLE_RATE)  # a header may be wrong
            self._show(self.end)
            number = self._since // self._length
            for sampling in self._samplings:  # of a stretch that ends before the header said, the last frame at least
                if sampling not in self._films.get(number, {}) and self._since >= self._handed_on:
                    self._keep(self._frame, number, sampling, (float(self._since), float(self._since)))
            self._frame = None

    def cut(self, number: int, end: int) -> dict[Sampling, Film]:
        """The frames of the stretch of this number; the one on screen stays at least up to its end."""
        self._show(Fraction(end))
        self._handed_on = end
        films = self._films.pop(number, {})
        self.bytes -= sum(film.bytes for film in films.values())
        return {sampling: films.get(sampling, Film()) for sampling in self._samplings}

    def _show(self, until: Fraction) -> None:
        """Keep the frame on screen for every middle up to this time, without it, that it was not yet kept for."""
        if self._frame is None or until <= self._taken:
            return
        begin, self._taken = self._taken, until
        until = min(until, self._since + _APART)
        for number in range(begin // self._length, ceil(until / self._length)):
            start = number * self._length
            # Where the pictures end within it, the middles are those of the time up to there, as in a clip.
            length = min(self._length, self._last - start) if self._last > start else self._length
            for sampling in self._samplings:
                count = sampling.of(length)
                step = Fraction(length, count)
                first = max(0, ceil((begin - start) / step - _HALF))
                last = min(count, ceil((until - start) / step - _HALF)) - 1
                if first <= last:
                    times = float(start + (first + _HALF) * step), float(start + (last + _HALF) * step)
                    self._keep(self._frame, number, sampling, times)

    def _keep(self, frame: VideoFrame, number: int, sampling: Sampling, times: tuple[float, float]) -> None:
        films = self._films.setdefault(number, {})
        pixels = self._rgb(frame, films)
        film = films.setdefault(sampling, Film())
        film.frames.append(pixels)
        film.times.append(times)
        self.bytes += pixels.nbytes

    def _rgb(self, frame: VideoFrame, films: Mapping[Sampling, Film]) -> NDArray[np.uint8]:
        """The frame's pixels, of the first frame's shape in its stretch."""
        shape = next((film.frames[0].shape for film in films.values()), None)
        if self._pixels is None or shape not in (None, self._pixels.shape):
            self._pixels = upright_rgb(frame, self._video.sample_aspect_ratio, self._limits, shape)
        return self._pixels


def _refuse_jump(before: Fraction, begin: Fraction, handed_on: int) -> None:
    """Refuse a frame at a time that makes no sense behind one at `before`, and one of a stretch that is handed on."""
    if begin - before > _LONGEST_JUMP or before - begin > _APART:
        was, now = (float(time / SAMPLE_RATE) for time in (before, begin))
        raise ClipError(f"jumps from {was:.1f} s to {now:.1f} s in its clock")
    if before <= begin < handed_on - _JITTER:
        raise ClipError(f"has sound and picture more than {_APART // SAMPLE_RATE} s apart in its file")
