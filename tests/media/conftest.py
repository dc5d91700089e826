"""Clips made on the spot, with everything about them known."""

from collections.abc import Callable, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
import pytest

MakeClip = Callable[..., Path]


@pytest.fixture
def make_clip(tmp_path: Path) -> MakeClip:
    """Writes `frames` (n, H, W, 3), lossless, and `sound` (channels, samples) as PCM or AAC.

    Frames stand at 25 fps, or at `times` in seconds; `rotation` in degrees counter-clockwise is for players.
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
    ) -> Path:
        path = tmp_path / name
        with av.open(
            target or str(path), "w", format=None if target is None else "matroska", options=options or {}
        ) as out:
            video = audio = None
            if frames is not None:
                video = out.add_stream("libx264rgb" if codec != "aac" else "libx264", rate=25)
                video.height, video.width = frames.shape[1:3]
                video.pix_fmt = "rgb24" if codec != "aac" else "yuv444p"
                video.options = {"qp": "0", "preset": "ultrafast"}
                if times is not None:
                    video.codec_context.time_base = Fraction(1, 1000)
                if rotation:
                    video.set_display_rotation(rotation)
            if sound is not None:
                layout = {1: "mono", 2: "stereo", 6: "5.1"}[len(sound)]
                audio = out.add_stream(codec, rate=rate, layout=layout)
            if video is not None:
                for number, image in enumerate(frames):
                    picture = av.VideoFrame.from_ndarray(image, format="rgb24")
                    if times is not None:
                        picture.pts, picture.time_base = round(1000 * times[number]), Fraction(1, 1000)
                    out.mux(video.encode(picture))
                out.mux(video.encode())
            if audio is not None:
                packed = codec != "aac"
                for start in range(0, sound.shape[1], 1024):
                    part = np.ascontiguousarray(sound[:, start : start + 1024], dtype=np.float32)
                    frame = av.AudioFrame.from_ndarray(
                        part.T.reshape(1, -1) if packed else part,
                        format="flt" if packed else "fltp",
                        layout=layout,
                    )
                    frame.sample_rate, frame.pts = rate, start
                    out.mux(audio.encode(frame))
                out.mux(audio.encode())
        return path

    return make


@pytest.fixture
def tone() -> Callable[..., np.ndarray]:
    """A sine of 440 Hz at half of full scale, (channels, samples)."""

    def make(seconds: float = 1.0, rate: int = 16_000, channels: int = 1) -> np.ndarray:
        wave = 0.5 * np.sin(2 * np.pi * 440 * np.arange(round(seconds * rate)) / rate)
        return np.tile(wave.astype(np.float32), (channels, 1))

    return make


@pytest.fixture
def numbered() -> Callable[..., np.ndarray]:
    """Frames whose grey level is four times their number, so that a frame tells which one it is."""

    def make(count: int = 25, height: int = 64, width: int = 96) -> np.ndarray:
        levels = (4 * np.arange(count) % 256).astype(np.uint8)
        return np.broadcast_to(levels[:, None, None, None], (count, height, width, 3)).copy()

    return make
