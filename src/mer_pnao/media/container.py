"""A clip's file: opened within limits, its two tracks and when they end, and a reason for each refusal."""

import math
import statistics
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from fractions import Fraction
from itertools import pairwise
from pathlib import Path
from typing import TypeVar

import av
import cv2
from av.audio.stream import AudioStream
from av.container import InputContainer
from av.stream import Disposition, Stream
from av.video.stream import VideoStream

from mer_pnao.media.config import MediaLimits

_MAX_FRAME_RATE = 240  # no camera's talking head has more; a file with more only burns time
# Containers that hold their own data. Others (playlists, concatenations) name further files or addresses.
_FORMATS = "mov,mp4,m4a,3gp,3g2,mj2,matroska,webm,avi,mpegts,mpeg,flv,asf,ogg"
OPENING = {"format_whitelist": _FORMATS, "protocol_whitelist": "file"}  # of FFmpeg, for files from anywhere
# By how much a clip may end before its header says: containers round, and codecs pad.
_MISSING_SHARE, _MISSING_SECONDS = 0.05, 0.25
TOO_LONG = "lasts "  # how the reason begins for a clip that is too long
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
class Tracks:
    """The two tracks of a clip that are read, and when it ends."""

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
    with opened(path, limits) as tracks:
        return ClipHeader(tracks.seconds, *_shown(tracks.video), (*tracks.of_sound, *tracks.of_picture))


@contextmanager
def opened(path: Path, limits: MediaLimits, most_seconds: float | None = None) -> Iterator[Tracks]:
    """The two tracks of a clip whose header is within the limits; `most_seconds` is another limit of its length.

    Raises ClipError as `check_clip` does, and for every error of the library within.
    """
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
            yield _checked_tracks(container, limits, limits.max_seconds if most_seconds is None else most_seconds)


def _checked_tracks(container: InputContainer, limits: MediaLimits, most_seconds: float) -> Tracks:
    videos = [s for s in container.streams.video if not s.disposition & Disposition.attached_pic]
    if not videos:
        raise ClipError("has no video track")
    if not container.streams.audio:
        raise ClipError("has no audio track")
    video, of_picture = chosen(videos, "video")
    audio, of_sound = chosen(container.streams.audio, "audio")
    own, seconds = (audio, video), (container.duration or 0) / av.time_base
    ends = [track_end(track) - (container.start_time or 0) / av.time_base for track in own]
    # The container's length may be another track's; in ASF it is given for each.
    if len(container.streams) > len(own) and min(ends) > 0 and container.format.name != "asf":
        judged: tuple[Stream, ...] = own
        end = seconds = max(ends)
    else:
        judged, end = tuple(container.streams), seconds
        seconds = max(seconds, *(float((track.duration or 0) * (track.time_base or 0)) for track in own))
    if seconds > most_seconds:
        raise ClipError(f"{TOO_LONG}{seconds:.1f} s, more than {most_seconds:g} s")
    width, height = _shown(video)
    if width * height > limits.max_pixels:
        raise ClipError(f"is {width}x{height}, more than {limits.max_pixels} pixels")
    # Clips are decoded side by side, and threads of each one's own would only take turns.
    video.codec_context.thread_count = 1
    return Tracks(container, audio, video, seconds, judged, end, of_sound=of_sound, of_picture=of_picture)


def chosen(tracks: Sequence[_Track], kind: str) -> tuple[_Track, tuple[str, ...]]:
    """The track that a player takes, the default or else the first, of those that can be decoded; and what to say.

    Raises ClipError where there is none; `kind` is what messages call it.
    """
    usable = [track for track in tracks if track.codec_context is not None]
    if not usable:
        raise ClipError(f"has its {kind} in a codec that cannot be decoded here")
    taken = next((track for track in usable if track.disposition & Disposition.default), usable[0])
    several = f"it has {len(tracks)} {kind} tracks, of which number {tracks.index(taken) + 1} was used"
    return taken, (several,) if len(tracks) > 1 else ()


def track_end(track: Stream) -> float:
    """When a track ends by its header, in seconds; 0 where it does not say."""
    if track.duration and track.time_base:
        return float(((track.start_time or 0) + track.duration) * track.time_base)
    with suppress(ValueError):  # Matroska's tag, as in 00:00:03.040000000
        hours, minutes, seconds = track.metadata.get("DURATION", "").split(":")
        return 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    return 0.0


@dataclass(frozen=True)
class Timeline:
    """When each frame that a player would show begins, in order, and when the last one ends, in any unit."""

    begins: tuple[int, ...]
    end: int
    seconds: float  # from the first beginning to the end


def survey(path: Path, limits: MediaLimits, say: Say = lambda _: None) -> Timeline:
    """The times of a clip's frames, from a pass over its packets without decoding them.

    Headers may not tell how many there are (Matroska) or count frames that an edit list hides (MP4). The same pass
    finds clips that end long before their header says. Raises ClipError for these, as `check_clip` does, and for more
    frames than a clip can hold.
    """
    begins: list[int | None] = []
    ends: list[int] = []
    end = 0.0
    with opened(path, limits) as tracks:
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
    if missing := cut_short(end, seconds):
        raise ClipError(missing)
    known = sorted(time for time in begins if time is not None)
    if unit is None or len(known) < len(begins) or len(set(known)) < len(known) or len(known) < 2:
        return Timeline(tuple(range(len(begins))), len(begins), end)  # without times, each lasts as long as any other
    usual = statistics.median_low(later - earlier for earlier, later in pairwise(known))
    last = max(ends) if max(ends) > known[-1] else known[-1] + usual
    return Timeline(tuple(known), last, float((last - known[0]) * unit))


def cut_short(end: float, seconds: float, most: float = math.inf) -> str:
    """What is wrong with a file that ends too early, or by `most` seconds, by its header; empty when nothing is."""
    if end >= seconds - max(_MISSING_SECONDS, min(_MISSING_SHARE * seconds, most)):
        return ""
    return f"is truncated: {end:.2f} of {seconds:.2f} s"


def _shown(picture: VideoStream) -> tuple[int, int]:
    """Width and height of the pictures as a player shows them, before it rotates them."""
    return stretched(picture.width, picture.height, picture.sample_aspect_ratio)


def stretched(width: int, height: int, aspect: Fraction | None) -> tuple[int, int]:
    """The size in square pixels of a picture whose pixels are `aspect` times as wide as high."""
    if not aspect or abs(aspect - 1) < _ALMOST_SQUARE:
        return width, height
    return (round(width * aspect), height) if aspect > 1 else (width, round(height / aspect))
