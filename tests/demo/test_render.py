"""Rendered clips, measured with tools that had no part in making them."""

import csv
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mer_pnao.demo.expression import EMOTIONS, FaceExpression, VoiceExpression
from mer_pnao.demo.plan import ClipPlan, SyntheticConfig, plan_corpus
from mer_pnao.demo.render import render_clip, render_corpus
from mer_pnao.demo.speakers import VoiceTimbre
from mer_pnao.demo.voice import plan_prosody, synthesise

SMALL = SyntheticConfig(train_clips=3, test_clips=1, speakers=4, test_speakers=1)


def _measured_pitch(wave: NDArray[np.float32]) -> float:
    """Median over voiced 40 ms frames of the lag at which the autocorrelation peaks, in Hz at 16 kHz."""
    pitches = []
    for start in range(0, len(wave) - 640, 320):
        frame = wave[start : start + 640] - wave[start : start + 640].mean()
        if frame.std() < 0.3 * wave.std():
            continue
        correlation = np.correlate(frame, frame, "full")[639:] / np.arange(640, 0, -1)
        # From the first lag where it turns negative: before that it falls from lag 0.
        low = int(np.argmax(correlation < 0))
        lag = max(low, 27) + int(np.argmax(correlation[max(low, 27) : 270]))
        if correlation[lag] > 0.5 * correlation[0]:
            pitches.append(16000 / lag)
    return float(np.median(pitches))


@pytest.mark.parametrize("base", [110.0, 190.0])
@pytest.mark.parametrize("semitones", [-3.0, 0.0, 6.0])
def test_pitch_follows_the_plan(base: float, semitones: float) -> None:
    timbre = VoiceTimbre(pitch=base, formant_scale=1.0, breath=-30.0, tempo=4.5)
    expression = VoiceExpression(pitch=semitones, pitch_range=-4.0)
    prosody = plan_prosody(2.0, timbre, expression, np.random.default_rng(0))
    wave = synthesise(prosody, 2.0, timbre, expression, np.random.default_rng(1))
    assert wave.shape == (32000,)
    assert np.abs(wave).max() <= 1
    assert _measured_pitch(wave) == pytest.approx(base * 2 ** (semitones / 12), rel=0.04)


def _voice(expression: VoiceExpression) -> NDArray[np.float32]:
    """Vowels only: consonants and breath have a spectrum of their own."""
    timbre = VoiceTimbre(pitch=120.0, formant_scale=1.0, breath=-60.0, tempo=4.5)
    prosody = plan_prosody(2.0, timbre, expression, np.random.default_rng(0))
    prosody = replace(prosody, friction=np.zeros_like(prosody.friction))
    return synthesise(prosody, 2.0, timbre, expression, np.random.default_rng(1))


def _level(wave: NDArray[np.float32], low: float, high: float) -> float:
    """dB of the wave between two frequencies in Hz."""
    power = np.abs(np.fft.rfft(wave)) ** 2
    frequency = np.fft.rfftfreq(len(wave), 1 / 16000)
    return float(10 * np.log10(power[(frequency >= low) & (frequency < high)].sum() + 1e-9))


def test_level_and_brightness_follow_the_plan() -> None:
    quiet, loud = _voice(VoiceExpression(level=-8.0)), _voice(VoiceExpression())
    assert _level(loud, 0, 8000) - _level(quiet, 0, 8000) == pytest.approx(8.0, abs=0.7)
    dark, bright = _voice(VoiceExpression(brightness=-4.0)), _voice(VoiceExpression(brightness=4.0))
    tilt_dark = _level(dark, 2000, 4000) - _level(dark, 100, 1000)
    tilt_bright = _level(bright, 2000, 4000) - _level(bright, 100, 1000)
    assert tilt_bright - tilt_dark > 12  # 8 dB an octave over the one and a half octaves or more between the bands


def _decoded(path: Path) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    with av.open(str(path)) as container:
        images = [frame.to_ndarray(format="bgr24") for frame in container.decode(video=0)]
    with av.open(str(path)) as container:
        sound = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
    return images, sound


def test_a_clip_has_the_promised_format(tmp_path: Path) -> None:
    clip = plan_corpus(SMALL)[0]
    path = render_clip(clip, tmp_path)
    with av.open(str(path)) as container:
        picture, sound = container.streams.video[0], container.streams.audio[0]
        assert (picture.codec_context.name, picture.pix_fmt, picture.average_rate) == ("h264", "yuv420p", 12)
        assert (picture.width, picture.height) == (192, 192)
        assert (sound.codec_context.name, sound.rate, sound.channels) == ("aac", 16000, 1)
    images, samples = _decoded(path)
    assert len(images) == clip.frames
    assert len(samples) / 16000 == pytest.approx(clip.duration, abs=2 * 1024 / 16000)
    assert list(tmp_path.iterdir()) == [path]


def test_the_mouth_opens_with_the_voice(tmp_path: Path) -> None:
    lags = (0, -2, -1, 1, 2)  # frames
    correlations = []
    for clip in plan_corpus(SMALL):
        # A calm face whose head hardly moves, so that the picture of the mouth changes by speech alone.
        calm = replace(clip, frames=60, face=FaceExpression(sway=-3.0, blink=-2.0))
        images, samples = _decoded(render_clip(calm, tmp_path))
        grey = np.array([cv2.cvtColor(image, cv2.COLOR_BGR2GRAY) for image in images], dtype=float)
        mouths = grey[:, 124:150, 84:108]
        cavity = (mouths < mouths.min() + 40).mean(axis=(1, 2))[1:59]
        # Below 1 kHz there are vowels only: consonants are loud with a closed mouth.
        moments = [round(16000 / 12 * frame) for frame in range(1, 59)]
        around = [samples[moment - 320 : moment + 320] for moment in moments]
        loudness = np.array([10 ** (_level(wave, 100, 1000) / 20) for wave in around])
        correlations.append([np.corrcoef(np.roll(cavity, lag), loudness)[0, 1] for lag in lags])
    together, *shifted = np.mean(correlations, axis=0)
    assert together > 0.3
    assert together > max(shifted) + 0.15


def _one_clip_for_each_speaker(clips: tuple[ClipPlan, ...]) -> list[ClipPlan]:
    """The emotions in turn, so that 24 speakers show each of the six four times."""
    speakers = sorted({clip.speaker.name for clip in clips})
    return [
        next(
            clip
            for clip in clips
            if clip.speaker.name == speaker and clip.emotion in (EMOTIONS[turn % 6], EMOTIONS[turn % 5])
        )
        for turn, speaker in enumerate(speakers)
    ]


def test_the_haar_cascade_finds_the_faces(tmp_path: Path) -> None:
    cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / "haarcascade_frontalface_default.xml"))
    found = []
    for clip in _one_clip_for_each_speaker(plan_corpus(SyntheticConfig())):
        images, _ = _decoded(render_clip(clip, tmp_path))
        for image in images[::5]:
            grey = cv2.cvtColor(image, cv2.COLOR_BGR2GRAY)
            found.append(len(cascade.detectMultiScale(grey, 1.1, 5)) > 0)
    assert len(found) > 90
    assert np.mean(found) >= 0.9


def test_same_seed_same_bytes_for_any_number_of_workers(tmp_path: Path) -> None:
    finished: list[int] = []
    render_corpus(SMALL, tmp_path / "one", workers=1, progress=finished.append)
    render_corpus(SMALL, tmp_path / "two", workers=2)
    assert finished == [1, 1, 1, 1]
    one, two = ({path.name: path.read_bytes() for path in (tmp_path / folder).iterdir()} for folder in ("one", "two"))
    assert sorted(one) == ["clip0001.mp4", "clip0002.mp4", "clip0003.mp4", "clip0004.mp4", "labels.csv"]
    assert one == two
    with (tmp_path / "one" / "labels.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for row, clip in zip(rows, plan_corpus(SMALL), strict=True):
        assert row == {
            "name": clip.name,
            "discrete": clip.label,
            "valence": f"{clip.valence:.2f}",
            "speaker": clip.speaker.name,
            "split": clip.split,
        }


def test_another_seed_gives_other_bytes(tmp_path: Path) -> None:
    pictures = set()
    for seed in (1, 2):
        folder = tmp_path / str(seed)
        folder.mkdir()
        pictures.add(render_clip(plan_corpus(replace(SMALL, seed=seed))[0], folder).read_bytes())
    assert len(pictures) == 2


def test_a_failing_clip_leaves_nothing_under_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr("mer_pnao.demo.render.draw_frames", broken)
    with pytest.raises(OSError, match="no space left"):
        render_clip(plan_corpus(SMALL)[0], tmp_path)
    assert not list(tmp_path.glob("*.mp4"))
