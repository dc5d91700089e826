"""Clips made on the spot, with everything about them known."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest
from av.stream import Disposition

MakeClip = Callable[..., Path]
SUBTITLES = b"""[Script Info]
ScriptType: v4.00+
[V4+ Styles]
Format: Name, Fontname, Fontsize
Style: Default,Arial,16
[Events]
Format: Layer, Start, End, Style, Text
"""


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Writes `frames` (n, H, W, 3), lossless, and `sound` (channels, samples) as PCM or AAC.

    Frames stand at 25 fps, or at `times` in seconds; for players are `rotation` in degrees counter-clockwise,
    `mirrored` along x and y after it, and `aspect`, the width of a pixel. `more` are further tracks of sound, of which
    (the first included) that of the number `default` is marked; `subtitle` tells when one begins and ends.
    """

    def make(
        name: str = "clip.mp4",
        frames: np.ndarray | None = None,
        sound: np.ndarray | None = None,
        rate: int = 16_000,
        codec: str = "aac",
        options: dict[str, str] | None = None,
        target: Any = None,
        times: Sequence[float] | None = None,
        rotation: int = 0,
        mirrored: tuple[bool, bool] = (False, False),
        aspect: Fraction | None = None,
        more: Sequence[np.ndarray] = (),
        default: int | None = None,
        subtitle: tuple[float, float] | None = None,
    ) -> Path:
        path = tmp_path / name
        with av.open(
            target or str(path), "w", format=None if target is None else "matroska", options=options or {}
        ) as out:
            video = text = None
            tracks: list[tuple[Any, np.ndarray]] = []
            if frames is not None:
                video = out.add_stream("libx264rgb" if codec != "aac" else "libx264", rate=25)
                video.height, video.width = frames.shape[1:3]
                video.pix_fmt = "rgb24" if codec != "aac" else "yuv444p"
                video.options = {"qp": "0", "preset": "ultrafast"}
                if times is not None:
                    video.codec_context.time_base = Fraction(1, 1000)
                if rotation or any(mirrored):
                    video.set_display_rotation(rotation, *mirrored)
                if aspect:
                    video.sample_aspect_ratio = aspect
            for number, wave in enumerate([] if sound is None else [sound, *more]):
                audio = out.add_stream(codec, rate=rate, layout={1: "mono", 2: "stereo", 6: "5.1"}[len(wave)])
                if default is not None:
                    audio.disposition = Disposition.default if number == default else Disposition(0)
                tracks.append((audio, wave))
            if subtitle:
                text = out.add_stream("mov_text" if path.suffix == ".mp4" else "subrip")
                text.codec_context.subtitle_header = SUBTITLES
            if video is not None:
                for number, image in enumerate(frames):
                    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                    if times is not None:
                        picture.pts, picture.time_base = round(1000 * times[number]), Fraction(1, 1000)
                    out.mux(video.encode(picture))
                out.mux(video.encode())
            for audio, wave in tracks:
                packed = codec != "aac"
                for start in range(0, wave.shape[1], 1024):
                    part = np.ascontiguousarray(wave[:, start : start + 1024], dtype=np.float32)
                    frame = av.AudioFrame.from_ndarray(
                        part.T.reshape(1, -1) if packed else part,
                        format="flt" if packed else "fltp",
                        layout=audio.layout,
                    )
                    frame.sample_rate, frame.pts = rate, start
                    out.mux(audio.encode(frame))
                out.mux(audio.encode())
            if text is not None:
                packet = av.Packet(b"\0\2hi" if path.suffix == ".mp4" else b"hi")
                packet.stream, packet.time_base = text, Fraction(1, 1000)
                packet.pts = packet.dts = round(1000 * subtitle[0])
                packet.duration = round(1000 * (subtitle[1] - subtitle[0]))
                out.mux(packet)
        return path

    return make


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """A sine at half of full scale, (channels, samples)."""

    def make(seconds: float = 1.0, rate: int = 16_000, channels: int = 1, pitch: float = 440) -> np.ndarray:
        wave = 0.5 * np.sin(2 * np.pi * pitch * np.arange(round(seconds * rate)) / rate)
        return np.tile(wave.astype(np.float32), (channels, 1))

    return make


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    """Frames whose grey level is four times their number, so that a frame tells which one it is."""

    def make(count: int = 25, height: int = 64, width: int = 96) -> np.ndarray:
        levels = (4 * np.arange(count) % 256).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()

    return make
