"""Sound and pictures out of a clip."""

import math
from bisect import bisect_right
from collections.abc import Collection, Iterable, Iterator
from fractions import Fraction
from functools import partial
from pathlib import Path

import av
import numpy as np
from av.audio.frame import AudioFrame
from av.sidedata.sidedata import SideDataContainer
from av.video.frame import VideoFrame
from numpy.typing import NDArray

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, Say, opened, stretched, survey

SAMPLE_RATE = 16_000  # what HuBERT was trained on
_CANCELLED = 0.1  # of its loudest channel's level: a mixture below that has lost the speech
_CODECS_NOISE = 0.02  # of a constant: AAC, its 16 bits included, moves a faint one by .012


def read_sound(path: Path, limits: MediaLimits, say: Say = lambda _: None) -> NDArray[np.float32]:
    """The sound of a clip, mixed to mono at 16 kHz: (samples,) float32, full scale 1.

    Of several tracks the one that a player takes, and of channels that cancel each other the loudest, is used.
    Raises ClipError as `check_clip` does, and for sound that is damaged, truncated, silent (a constant is), too short
    or too long.
    """
    survey(path, limits)
    with opened(path, limits) as tracks:
        for remark in tracks.of_sound:
            say(remark)
        channels = tracks.audio.channels
        waveform = mono(tracks.container.decode(tracks.audio), limits.max_seconds)
    seconds = len(waveform) / SAMPLE_RATE
    if seconds > limits.max_seconds:
        raise ClipError(f"has more than {limits.max_seconds:g} s of sound")
    if seconds < limits.min_seconds:
        raise ClipError(f"has only {seconds:.3f} s of sound")
    # Decoded again, for the loudest channel may be so much louder; decoding is a hundredth of what HuBERT takes.
    if channels > 1 and waveform.std() < _CANCELLED:
        with opened(path, limits) as tracks:
            apart = _resampled(tracks.container.decode(tracks.audio), limits.max_seconds)
        waveform = uncancelled(waveform, apart, say)
    if is_silent(waveform, limits.silence):
        raise ClipError("is silent")
    return waveform


def uncancelled(mixed: NDArray[np.float32], apart: NDArray[np.float32], say: Say) -> NDArray[np.float32]:
    """The mixture (samples,), or the loudest of its channels (channels, samples) where these cancel each other."""
    if not len(mixed) or mixed.std() >= _CANCELLED:
        return mixed
    loudest: NDArray[np.float32] = apart[apart.std(axis=1).argmax()]
    if mixed.std() >= _CANCELLED * loudest.std():
        return mixed
    say(f"its {len(apart)} channels of sound cancel each other, so the loudest was used")
    return loudest


def is_silent(waveform: NDArray[np.float32], silence: float) -> bool:
    """Whether nothing moves: a constant is not sound, but codecs and filters ramp up to it and down again."""
    peak = np.abs(waveform).max()
    if peak <= silence:
        return True
    edge = min(len(waveform), SAMPLE_RATE) // 5
    within = waveform[edge : len(waveform) - edge]
    if within.std() > max(silence, _CODECS_NOISE * peak):
        return False  # it moves by more, whatever the constant: a median takes ten times as long
    constant = float(np.median(waveform))
    if abs(constant) <= silence:
        return False
    moves = np.abs(within - constant).max()
    return bool(moves <= max(silence, _CODECS_NOISE * abs(constant)))


def choose_frames(
    path: Path, count: int, limits: MediaLimits, per_second: float = 0.0, say: Say = lambda _: None
) -> frozenset[int]:
    """The numbers of frames evenly spread over a clip, found without decoding it.

    All of them when there are no more than `count`, or than `per_second` times the clip's length where that is less;
    else those that are on screen in the middle of so many equal parts of the clip's time, so that a clip of variable
    frame rate is not seen mostly where it has most frames. One that stays on over several middles is kept once.

    Raises ClipError as `check_clip` does, and for a clip that is truncated or has more frames than it may, and
    ValueError for a count that is not positive.
    """
    if count < 1:
        raise ValueError(f"count must be at least 1, not {count}")
    line = survey(path, limits, say)
    if per_second:
        count = min(count, max(1, round(per_second * line.seconds)))
    if len(line.begins) <= count:
        return frozenset(range(len(line.begins)))
    length = line.end - line.begins[0]
    # In integers, for a frame may begin in the very middle of a part.
    middles = (line.begins[0] + (2 * part + 1) * length // (2 * count) for part in range(count))
    return frozenset(bisect_right(line.begins, middle) - 1 for middle in middles)


def read_frames(path: Path, numbers: Collection[int], limits: MediaLimits) -> Iterator[NDArray[np.uint8]]:
    """The frames of these numbers, in order, each (H, W, 3) uint8 RGB as a player shows it: upright and in proportion.

    One is in memory at a time, shrunk to `limits.frame_side` when its short side is longer. Raises ClipError as
    `check_clip` does, and for pictures that are damaged, truncated, too long or too large.
    """
    shape: tuple[int, ...] | None = None
    with opened(path, limits) as tracks:
        for number, frame in enumerate(tracks.container.decode(tracks.video)):
            if frame.width * frame.height > limits.max_pixels:
                raise ClipError(f"has a frame of {frame.width}x{frame.height}, more than {limits.max_pixels} pixels")
            if number in numbers:
                pixels = upright_rgb(frame, tracks.video.sample_aspect_ratio, limits, shape)
                shape = pixels.shape
                yield pixels
        if shape is None:
            raise ClipError("has no frames")


def count_frames(path: Path, limits: MediaLimits) -> int:
    """Number of frames that a player would show. Raises ClipError for what a pass over the packets tells."""
    return len(survey(path, limits).begins)


class Resampler:
    """Decoded sound at 16 kHz, in the layout's channels, or without one in those that there are.

    Gives blocks (channels, samples) float32, full scale 1. Raises ClipError when the form of the sound changes midway,
    or samples are no numbers.
    """

    def __init__(self, layout: str | None = None) -> None:
        # 16 bits, as in the wave files that the challenge's features were made from; asked for floats, the
        # library would also add channels up without dividing by their weights.
        self._make = partial(av.AudioResampler, format="s16p", layout=layout, rate=SAMPLE_RATE)
        self._resampler = self._make()

    def __call__(self, frame: AudioFrame) -> list[NDArray[np.float32]]:
        """What comes out when a frame goes in."""
        if frame.format.name[:3] in ("flt", "dbl") and not np.isfinite(frame.to_ndarray()).all():
            raise ClipError("has samples of sound that are NaN or infinite")
        return self._blocks(frame)

    def rest(self) -> list[NDArray[np.float32]]:
        """What is still inside; the next frame is the first of other sound."""
        blocks, self._resampler = self._blocks(None), self._make()
        return blocks

    def _blocks(self, frame: AudioFrame | None) -> list[NDArray[np.float32]]:
        try:
            parts = self._resampler.resample(frame)
        except ValueError as error:
            raise ClipError("changes the form of its sound midway") from error
        return [part.to_ndarray().astype(np.float32) / np.float32(32768) for part in parts]


def mono(frames: Iterable[AudioFrame], most_seconds: float) -> NDArray[np.float32]:
    """Decoded sound as mono at 16 kHz, (samples,), up to the frame that goes beyond so many seconds.

    Raises ClipError when its form changes midway, or samples are no numbers.
    """
    waveform: NDArray[np.float32] = _resampled(frames, most_seconds, "mono")[0]
    return waveform


def _resampled(frames: Iterable[AudioFrame], most_seconds: float, layout: str | None = None) -> NDArray[np.float32]:
    """As `mono`, but of the layout's channels, or without one of all that there are: (channels, samples)."""
    resampler, chunks, samples = Resampler(layout), list[NDArray[np.float32]](), 0
    for frame in frames:
        blocks = resampler(frame)
        chunks += blocks
        samples += sum(block.shape[1] for block in blocks)
        if samples > most_seconds * SAMPLE_RATE:
            break
    else:
        chunks += resampler.rest()
    return np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0), np.float32)


def shrunk(width: int, height: int, limits: MediaLimits) -> tuple[int, int]:
    """Width and height of a kept frame."""
    scale = min(1.0, limits.frame_side / min(width, height))
    return round(width * scale), round(height * scale)


def upright_rgb(
    frame: VideoFrame, aspect: Fraction | None, limits: MediaLimits, shape: tuple[int, ...] | None
) -> NDArray[np.uint8]:
    """(H, W, 3), turned and mirrored as a player would; of the first frame's shape when the size changes midway."""
    a, b, c, d = _matrix(frame)
    turned = abs(b) > abs(a)
    width, height = shrunk(*stretched(frame.width, frame.height, aspect), limits)
    if shape is not None:
        height, width = (shape[1], shape[0]) if turned else (shape[0], shape[1])
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    if turned:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    """a, b, c, d: a player shows what is at x, y in the direction of ax + cy to the right and bx + dy downwards."""
    try:
        # Not by frame.side_data, which keeps what keeps the frame: until the garbage is collected, all are in memory.
        data = bytes(SideDataContainer(frame)["DISPLAYMATRIX"])  # type: ignore[call-arg]
        a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
    except (KeyError, ValueError):  # none, or beside it something that PyAV has no name for; this it tells all the same
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return a, b, c, d
