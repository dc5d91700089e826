"""Sound and pictures out of a clip, within limits and with a reason for each refusal."""

import math
import statistics
from bisect import bisect_right
from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import chain, pairwise
from pathlib import Path
from typing import Any, TypeVar

import av
import cv2
import numpy as np
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream
from numpy.typing import NDArray

from mer_pnao.media.config import MediaLimits

SAMPLE_RATE = 16_000  # what HuBERT was trained on
_MAX_FRAME_RATE = 240  # no camera's talking head has more; a file with more only burns time
# Containers that hold their own data. Others (playlists, concatenations) name further files or addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
OPENING = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}  # of FFmpeg, for files from anywhere
# By how much a clip may end before its header says: containers round, and codecs pad.
_MISSING_SHARE, _MISSING_SECONDS = 0.05, 0.25
_CANCELLED = 0.1  # of its loudest channel's level: a mixture below that has lost the speech
_CODECS_NOISE = 0.02  # of a constant: AAC, its 16 bits included, moves a faint one by .012
_ALMOST_SQUARE = 0.01  # pixels that are wider or higher by less stay as they are: resampling would only blur them
_Track = TypeVar("_Track", bound=Stream)

# What libraries raise over content that makes no sense to them, beside FFmpeg's own errors: sizes that contradict
# each other, formats that no array holds, text in no encoding. A TypeError would be a mistake of this program.
_FAULTS_OF_CONTENT = (ValueError, ArithmeticError, LookupError, RuntimeError, OSError, cv2.error)


Say = Callable[[str], None]  # told that only a part of a clip is used, as a sentence without a full stop


class ClipError(Exception):
    """A clip that cannot be used; the message is the reason, such as `has no audio track`."""


@contextmanager
def reasons() -> Iterator[None]:
    """Whatever a library raises over a clip's content becomes a ClipError: that clip is lost and no other."""
    try:
        yield
    except MemoryError as error:
        raise ClipError("needs more memory than there is") from error
    except av.error.FFmpegError as error:
        raise ClipError(f"is damaged or truncated ({error.strerror})") from error
    except _FAULTS_OF_CONTENT as error:
        first_line = str(error).strip().partition("\n")[0]
        raise ClipError(f"cannot be decoded ({type(error).__name__}: {first_line})") from error


@dataclass(frozen=True)
class _Tracks:
    container: InputContainer
    audio: AudioStream
    video: VideoStream
    seconds: float  # by the header
    judged: tuple[Stream, ...]  # of which the last ends after so many seconds, unless the clip is truncated:
    end: float  # from the container's start
    of_sound: tuple[str, ...]  # what there is to say of the choice of a track
    of_picture: tuple[str, ...]


@dataclass(frozen=True)
class ClipHeader:
    """What a clip says of itself."""

    seconds: float  # 0 where it does not say
    width: int  # as it is shown, before it is rotated
    height: int
    remarks: tuple[str, ...]  # on tracks that are not used


def check_clip(path: Path, limits: MediaLimits) -> ClipHeader:
    """Reads a clip's header only, for what every encoder needs: both tracks, and a size within the limits.

    Raises ClipError for one that is no video file, lacks a track, has one in an unknown codec, or is too long or too
    large by its header.
    """
    with _opened(path, limits) as tracks:
        return ClipHeader(tracks.seconds, *_shown(tracks.video), (*tracks.of_sound, *tracks.of_picture))


def read_sound(path: Path, limits: MediaLimits, say: Say = lambda _: None) -> NDArray[np.float32]:
    """The sound of a clip, mixed to mono at 16 kHz: (samples,) float32, full scale 1.

    Of several tracks the one that a player takes, and of channels that cancel each other the loudest, is used.
    Raises ClipError as `check_clip` does, and for sound that is damaged, truncated, silent (a constant is), too short
    or too long.
    """
    _survey(path, limits)
    with _opened(path, limits) as tracks:
        for remark in tracks.of_sound:
            say(remark)
        channels = tracks.audio.channels
        waveform = mono(tracks.container.decode(tracks.audio), limits.max_seconds)
    seconds = len(waveform) / SAMPLE_RATE
    if seconds > limits.max_seconds:
        raise ClipError(f"has more than {limits.max_seconds:g} s of sound")
    if seconds < limits.min_seconds:
        raise ClipError(f"has only {seconds:.3f} s of sound")
    # Decoded again, which costs little beside the pictures: the loudest channel may be so much louder.
    if channels > 1 and waveform.std() < _CANCELLED:
        with _opened(path, limits) as tracks:
            apart = _resampled(tracks.container.decode(tracks.audio), limits.max_seconds)
        loudest = apart[apart.std(axis=1).argmax()]
        if waveform.std() < _CANCELLED * loudest.std():
            say(f"its {channels} channels of sound cancel each other, so the loudest was used")
            waveform = loudest
    if _is_silent(waveform, limits.silence):
        raise ClipError("is silent")
    return waveform


def _is_silent(waveform: NDArray[np.float32], silence: float) -> bool:
    """Whether nothing moves: a constant is not sound, but codecs and filters ramp up to it and down again."""
    constant = float(np.median(waveform))
    if abs(constant) <= silence:
        return bool(np.abs(waveform).max() <= silence)
    edge = min(len(waveform), SAMPLE_RATE) // 5
    moves = np.abs(waveform[edge : len(waveform) - edge] - constant).max()
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
    line = _survey(path, limits, say)
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
    with _opened(path, limits) as tracks:
        for number, frame in enumerate(tracks.container.decode(tracks.video)):
            if frame.width * frame.height > limits.max_pixels:
                raise ClipError(f"has a frame of {frame.width}x{frame.height}, more than {limits.max_pixels} pixels")
            if number in numbers:
                pixels = _upright_rgb(frame, tracks.video.sample_aspect_ratio, limits, shape)
                shape = pixels.shape
                yield pixels
        if shape is None:
            raise ClipError("has no frames")


def count_frames(path: Path, limits: MediaLimits) -> int:
    """Number of frames that a player would show. Raises ClipError for what a pass over the packets tells."""
    return len(_survey(path, limits).begins)


@contextmanager
def _opened(path: Path, limits: MediaLimits) -> Iterator[_Tracks]:
    """The two tracks of a clip whose header is within the limits; every error of the library has a reason."""
    with reasons():
        try:
            if path.stat().st_size == 0:
                raise ClipError("is empty")
            # Absolute, for FFmpeg takes what stands before a colon for a protocol, as in `10:20.mp4`.
            container = av.open(str(path.absolute()), options=OPENING, metadata_errors="ignore")
        except OSError as error:  # the library's own errors for files are kinds of this one
            raise ClipError(f"cannot be opened ({error.strerror})") from error
        except av.error.FFmpegError as error:
            raise ClipError(f"is not a readable video file ({error.strerror})") from error
        with container:
            yield _checked_tracks(container, limits)


def _checked_tracks(container: InputContainer, limits: MediaLimits) -> _Tracks:
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise ClipError("has no video track")
    if not container.streams.audio:
        raise ClipError("has no audio track")
    video, of_picture = chosen(videos, "video")
    audio, of_sound = chosen(container.streams.audio, "audio")
    own, seconds = (audio, video), (container.duration or 0) / av.time_base
    ends = [_end(track) - (container.start_time or 0) / av.time_base for track in own]
    # The container's length may be another track's; in ASF it is given for each.
    if len(container.streams) > len(own) and min(ends) > 0 and container.format.name != "asf":
        judged: tuple[Stream, ...] = own
        end = seconds = max(ends)
    else:
        judged, end = tuple(container.streams), seconds
        seconds = max(seconds, *(float((track.duration or 0) * (track.time_base or 0)) for track in own))
    if seconds > limits.max_seconds:
        raise ClipError(f"lasts {seconds:.1f} s, more than {limits.max_seconds:g} s")
    width, height = _shown(video)
    if width * height > limits.max_pixels:
        raise ClipError(f"is {width}x{height}, more than {limits.max_pixels} pixels")
    # Clips are decoded side by side, and threads of each one's own would only take turns.
    video.codec_context.thread_count = 1
    return _Tracks(container, audio, video, seconds, judged, end, of_sound=of_sound, of_picture=of_picture)


def chosen(tracks: Sequence[_Track], kind: str) -> tuple[_Track, tuple[str, ...]]:
    """The track that a player takes, the default or else the first, of those that can be decoded; and what to say.

    Raises ClipError where there is none; `kind` is what messages call it.
    """
    usable = [track for track in tracks if track.codec_context is not None]
    if not usable:
        raise ClipError(f"has its {kind} in a codec that cannot be decoded here")
    chosen = next((track for track in usable if track.disposition & Disposition.default), usable[0])
    several = f"it has {len(tracks)} {kind} tracks, of which number {tracks.index(chosen) + 1} was used"
    return chosen, (several,) if len(tracks) > 1 else ()


def _end(track: Stream) -> float:
    """When a track ends by its header, in seconds; 0 where it does not say."""
    if track.duration and track.time_base:
        return float(((track.start_time or 0) + track.duration) * track.time_base)
    with suppress(ValueError):  # Matroska's tag, as in 00:00:03.040000000
        hours, minutes, seconds = track.metadata.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return 0.0


@dataclass(frozen=True)
class _Timeline:
    """When each frame that a player would show begins, in order, and when the last one ends, in any unit."""

    begins: tuple[int, ...]
    end: int
    seconds: float  # from the first beginning to the end


def _survey(path: Path, limits: MediaLimits, say: Say = lambda _: None) -> _Timeline:
    """The times of a clip's frames, from a pass over its packets without decoding them.

    Headers may not tell how many there are (Matroska) or count frames that an edit list hides (MP4). The same pass
    finds clips that end long before their header says.
    """
    begins: list[int | None] = []
    ends: list[int] = []
    end = 0.0
    with _opened(path, limits) as tracks:
        start = (tracks.container.start_time or 0) / av.time_base
        unit = tracks.video.time_base
        for remark in tracks.of_picture:
            say(remark)
        for packet in tracks.container.demux(*tracks.judged):
            if not packet.size or packet.is_discard:
                continue
            if packet.stream is tracks.video:
                begins.append(packet.pts)
                ends.append((packet.pts or 0) + (packet.duration or 0))
            if packet.pts is not None and packet.time_base is not None:
                end = max(end, float((packet.pts + (packet.duration or 0)) * packet.time_base) - start)
            if len(begins) > _MAX_FRAME_RATE * limits.max_seconds:
                raise ClipError(f"has more frames than {limits.max_seconds:g} s can hold")
        seconds = tracks.end
    if end < seconds - max(_MISSING_SECONDS, _MISSING_SHARE * seconds):
        raise ClipError(f"is truncated: {end:.2f} of {seconds:.2f} s")
    known = sorted(time for time in begins if time is not None)
    if unit is None or len(known) < len(begins) or len(set(known)) < len(known) or len(known) < 2:
        return _Timeline(tuple(range(len(begins))), len(begins), end)  # without times, each lasts as long as any other
    usual = statistics.median_low(later - earlier for earlier, later in pairwise(known))
    last = max(ends) if max(ends) > known[-1] else known[-1] + usual
    return _Timeline(tuple(known), last, float((last - known[0]) * unit))


def mono(frames: Iterable[AudioFrame], most_seconds: float) -> NDArray[np.float32]:
    """Decoded sound as mono at 16 kHz, (samples,), up to the frame that goes beyond so many seconds.

    Raises ClipError when its form changes midway, or samples are no numbers.
    """
    waveform: NDArray[np.float32] = _resampled(frames, most_seconds, "mono")[0]
    return waveform


def _resampled(frames: Iterable[AudioFrame], most_seconds: float, layout: str | None = None) -> NDArray[np.float32]:
    """As `mono`, but of the layout's channels, or without one of all that there are: (channels, samples)."""
    # 16 bits, as in the wave files that the challenge's features were made from; asked for floats, the
    # library would also add channels up without dividing by their weights.
    resampler = av.AudioResampler(format="s16p", layout=layout, rate=SAMPLE_RATE)
    chunks, samples = list[NDArray[Any]](), 0
    # None empties the resampler.
    for frame in chain(frames, [None]):
        if frame is not None and frame.format.name[:3] in ("flt", "dbl") and not np.isfinite(frame.to_ndarray()).all():
            raise ClipError("has samples of sound that are NaN or infinite")
        try:
            parts = resampler.resample(frame)
        except ValueError as error:
            raise ClipError("changes the form of its sound midway") from error
        chunks += [part.to_ndarray() for part in parts]
        samples += sum(part.samples for part in parts)
        if samples > most_seconds * SAMPLE_RATE:
            break
    whole = np.concatenate(chunks, axis=1) if chunks else np.zeros((1, 0))
    return whole.astype(np.float32) / np.float32(32768)


def _shown(picture: VideoStream) -> tuple[int, int]:
    """Width and height of the pictures as a player shows them, before it rotates them."""
    return _stretched(picture.width, picture.height, picture.sample_aspect_ratio)


def _stretched(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size in square pixels of a picture whose pixels are `aspect` times as wide as high."""
    if not aspect or abs(aspect - 1) < _ALMOST_SQUARE:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))


def shrunk(width: int, height: int, limits: MediaLimits) -> tuple[int, int]:
    """Width and height of a kept frame."""
    scale = min(1.0, limits.frame_side / min(width, height))
    return round(width * scale), round(height * scale)


def _upright_rgb(
    frame: VideoFrame, aspect: Fraction | None, limits: MediaLimits, shape: tuple[int, ...] | None
) -> NDArray[np.uint8]:
    """(H, W, 3), turned and mirrored as a player would; of the first frame's shape when the size changes midway."""
    a, b, c, d = _matrix(frame)
    turned = abs(b) > abs(a)
    width, height = shrunk(*_stretched(frame.width, frame.height, aspect), limits)
    if shape is not None:
        height, width = (shape[1], shape[0]) if turned else (shape[0], shape[1])
    pixels = frame.to_ndarray(format="rgb24", width=width, height=height)
    if turned:
        pixels, a, d = pixels.transpose(1, 0, 2), c, b
    return np.ascontiguousarray(pixels[:: -1 if d < 0 else 1, :: -1 if a < 0 else 1])


def _matrix(frame: VideoFrame) -> tuple[float, float, float, float]:
    """a, b, c, d: a player shows what is at x, y in the direction of ax + cy to the right and bx + dy downwards."""
    try:
        data = frame.side_data["DISPLAYMATRIX"]  # type: ignore[typeddict-item]
        a, b, _, c, d, *_ = np.frombuffer(data, np.int32).tolist()
    except (KeyError, ValueError):  # none, or beside it something that PyAV has no name for; this it tells all the same
        angle = math.radians(frame.rotation)
        return math.cos(angle), -math.sin(angle), math.sin(angle), math.cos(angle)
    return a, b, c, d
