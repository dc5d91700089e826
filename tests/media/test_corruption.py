import wave
from pathlib import Path

import cv2
import numpy as np
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import CorruptionConfig
from mer_pnao.media.container import ClipError
from mer_pnao.media.corruption import blurred, corruption_of, mix, noise_files


def write_wave(path: Path, samples: np.ndarray, rate: int = 16_000) -> Path:
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, rate, 0, "NONE", ""))
        file.writeframes(np.round(32767 * samples).astype("<i2").tobytes())
    return path


@pytest.fixture
def noise(tmp_path: Path) -> tuple[Path, ...]:
    rng = np.random.default_rng(1)
    return tuple(write_wave(tmp_path / f"{n}.wav", 0.1 * (n + 1) * rng.uniform(-1, 1, 8000)) for n in range(4))


def decibels(clean: np.ndarray, mixture: np.ndarray) -> float:
    """The ratio by hand, where the mixture is a scaled sum: the scale is what fits the clean part best."""
    clean, mixture = clean.astype(np.float64), mixture.astype(np.float64)
    return 10 * np.log10(np.sum(clean**2) / np.sum((mixture - clean) ** 2))


@pytest.mark.parametrize("snr", [-5.0, 0.0, 5.0, 7.3, 10.0, 30.0])
def test_the_ratio_of_powers_is_the_one_asked_for(snr):
    rng = np.random.default_rng(0)
    clean = (0.02 * rng.standard_normal(16_000)).astype(np.float32)
    mixture = mix(clean, (0.3 * rng.standard_normal(16_000)).astype(np.float32), snr)
    assert mixture.dtype == np.float32
    assert decibels(clean, mixture) == pytest.approx(snr, abs=1e-3)


def test_a_mixture_over_full_scale_is_turned_down_as_a_whole():
    clean = 0.9 * np.sin(np.arange(8000, dtype=np.float32))
    other = np.cos(0.7 * np.arange(8000, dtype=np.float32))
    mixture = mix(clean, other, 0.0)
    gain = np.sqrt(np.mean(clean**2) / np.mean(other**2))
    whole = clean + gain * other
    assert np.abs(mixture).max() == pytest.approx(1.0)
    np.testing.assert_allclose(mixture, whole / np.abs(whole).max(), atol=1e-5)


def test_noise_that_is_silent_where_it_is_taken_is_refused():
    with pytest.raises(ClipError, match="silent"):
        mix(np.ones(100, np.float32), np.zeros(100, np.float32), 5.0)


@pytest.mark.parametrize("size", [(64, 96), (63, 97), (2, 3)])
def test_blur_is_a_pyramid_down_and_up(size):
    frame = np.random.default_rng(0).integers(0, 256, (*size, 3), dtype=np.uint8)
    np.testing.assert_array_equal(blurred(frame, 1), frame)
    height, width = size
    half = cv2.pyrDown(frame)
    np.testing.assert_array_equal(blurred(frame, 2), cv2.pyrUp(half, dstsize=(width, height)))
    back = cv2.pyrUp(cv2.pyrDown(half), dstsize=(half.shape[1], half.shape[0]))
    np.testing.assert_array_equal(blurred(frame, 4), cv2.pyrUp(back, dstsize=(width, height)))


def test_the_same_seed_and_name_draw_the_same_whatever_the_order(noise):
    config = CorruptionConfig(seed=3)
    names = [f"clip{n}" for n in range(40)]
    drawn = {name: corruption_of(config, noise, name) for name in names}
    again = {name: corruption_of(config, noise, name) for name in reversed(names)}
    assert drawn == again
    assert all(5 <= one.snr <= 10 for one in drawn.values())
    assert {one.factor for one in drawn.values()} == {1, 2, 4}
    assert {one.noise[0] for one in drawn.values()} == set(noise)
    other = corruption_of(CorruptionConfig(seed=4), noise, "clip0")
    assert other.snr != drawn["clip0"].snr

    sound = np.sin(np.arange(20_000, dtype=np.float32) / 20) / 3
    first, second = (drawn["clip0"].of_sound(sound) for _ in range(2))
    assert first.tobytes() == second.tobytes()
    assert decibels(sound, first) == pytest.approx(drawn["clip0"].snr, abs=1e-3)  # longer than its noise, too


def test_the_noise_is_the_files_own_from_where_it_was_drawn(noise):
    drawn = corruption_of(CorruptionConfig(snr_low=5, snr_high=5), noise, "clip")
    clean = (0.01 * np.sin(np.arange(12_000) / 20)).astype(np.float32)
    with wave.open(str(drawn.noise[0])) as file:
        samples = np.frombuffer(file.readframes(8000), "<i2") / 32768
    rest = drawn.of_sound(clean).astype(np.float64) - clean
    turned = np.roll(samples, -int(drawn.start * 8000))
    expected = np.concatenate([turned, turned])[:12_000]
    assert np.corrcoef(rest, expected)[0, 1] > 0.9999


def test_damaged_and_silent_noise_gives_way_to_the_next(tmp_path, noise):
    silent = write_wave(tmp_path / "silent.wav", np.zeros(8000))
    (tmp_path / "broken.wav").write_bytes(b"RIFF")
    sound = np.sin(np.arange(8000, dtype=np.float32))
    drawn = corruption_of(CorruptionConfig(), [noise[0]], "clip")
    with_bad = type(drawn)(drawn.snr, drawn.factor, drawn.start, (silent, tmp_path / "broken.wav", noise[0]))
    assert with_bad.of_sound(sound).tobytes() == drawn.of_sound(sound).tobytes()
    only_bad = type(drawn)(drawn.snr, drawn.factor, drawn.start, (silent, tmp_path / "broken.wav"))
    with pytest.raises(InputError, match=r"none of 2 noise files can be used; .*silent\.wav is silent"):
        only_bad.of_sound(sound)


def test_what_clips_say_serves_as_noise(make_clip, tone, numbered):
    clip = make_clip(frames=numbered(), sound=tone())
    sound = np.random.default_rng(0).uniform(-0.3, 0.3, 16_000).astype(np.float32)
    rest = corruption_of(CorruptionConfig(), [clip], "x").of_sound(sound) - sound
    assert np.abs(np.fft.rfft(rest)).argmax() == 440


def test_sound_files_are_found_below_their_folder(tmp_path):
    (tmp_path / "b").mkdir()
    for name in ("b/2.WAV", "1.flac", "readme.txt"):
        (tmp_path / name).write_bytes(b"x")
    assert noise_files(tmp_path) == (tmp_path / "1.flac", tmp_path / "b" / "2.WAV")
    with pytest.raises(InputError, match="holds no sound file"):
        noise_files(tmp_path / "none")
    with pytest.raises(InputError, match="no noise files"):
        corruption_of(CorruptionConfig(), [], "x")


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"noise": "../x"}, r"noise must be a relative path without '\.\.', got '\.\./x'"),
        ({"snr_low": 11.0}, r"snr_high must lie in \[11, 60\], got 10"),
        ({"snr_low": -100.0}, r"snr_low must lie in \[-60, 60\]"),
        ({"blur": ()}, r"blur must name at least one factor"),
        ({"blur": (1, 3)}, r"blur must hold powers of two from 1 to 16, got 3"),
        ({"seed": -1}, r"seed must lie in \[0, "),
    ],
)
def test_values_out_of_range_are_refused_by_name(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        CorruptionConfig(**values)
