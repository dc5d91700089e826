"""Noise over a clip's sound and blur over its frames, as MER 2023 made its NOISE split from clean clips."""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import av
import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import CorruptionConfig
from mer_pnao.media.container import ClipError, chosen, reasons
from mer_pnao.media.decode import mono

SOUND_FILES = (".wav", ".flac", ".mp3", ".ogg", ".m4a")
_MOST_SECONDS = 600  # that are read of one noise file: the recordings of noise collections last minutes
_TRIES = 5  # noise files drawn for a clip, should some be silent or damaged
_FAINTEST = 1e-4  # root mean square of usable noise: raised to the level of speech, less would be only rounding


@dataclass(frozen=True)
class ClipCorruption:
    """What happens to one clip."""

    snr: float  # dB
    factor: int  # of the blur
    start: float  # of the noise, as a share of its length
    noise: tuple[Path, ...]  # the first that can be used is taken

    def of_sound(self, waveform: NDArray[np.float32]) -> NDArray[np.float32]:
        """(samples,) -> (samples,), mono at 16 kHz. Raises InputError when no noise file can be used."""
        reason = ""
        for path in self.noise:
            try:
                return mix(waveform, _cut(_read_noise(path), self.start, len(waveform)), self.snr)
            except ClipError as error:
                reason = reason or f"{path} {error}"
        raise InputError(f"none of {len(self.noise)} noise files can be used; {reason}")

    def of_frame(self, frame: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """(H, W, 3) -> (H, W, 3)."""
        return blurred(frame, self.factor)


def corruption_of(config: CorruptionConfig, noise: Sequence[Path], name: str) -> ClipCorruption:
    """What is drawn for a clip: the same for the same seed, noise files and name, whatever other clips there are.

    Raises InputError where there are no noise files.
    """
    if not noise:
        raise InputError("there are no noise files to corrupt clips with")
    rng = np.random.default_rng([config.seed, zlib.crc32(name.encode())])
    snr = rng.uniform(config.snr_low, config.snr_high)
    factor = config.blur[rng.integers(len(config.blur))]
    start = rng.random()
    return ClipCorruption(snr, factor, start, tuple(noise[i] for i in rng.permutation(len(noise))[:_TRIES]))


def noise_files(folder: Path) -> tuple[Path, ...]:
    """The sound files below a folder, in the order of their paths. Raises InputError when there are none."""
    found = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SOUND_FILES)
    if not found:
        raise InputError(f"{folder} holds no sound file ({', '.join(SOUND_FILES)})")
    return tuple(found)


def mix(clean: NDArray[np.float32], noise: NDArray[np.float32], snr: float) -> NDArray[np.float32]:
    """Sound (samples,) with noise (samples,) added at a ratio in dB, both powers taken over the whole clip.

    The mixture is scaled down as a whole where its peak would pass full scale. Raises ClipError for noise too faint to
    be raised to a level.
    """
    signal, disturbance = clean.astype(np.float64), noise.astype(np.float64)
    power = np.mean(disturbance**2)
    if power < _FAINTEST**2:
        raise ClipError("is silent where it is taken")
    mixture = signal + disturbance * np.sqrt(np.mean(signal**2) / power / 10 ** (snr / 10))
    scaled: NDArray[np.float32] = (mixture / max(1.0, np.abs(mixture).max())).astype(np.float32)
    return scaled


def blurred(image: NDArray[np.uint8], factor: int) -> NDArray[np.uint8]:
    """(H, W, 3) shrunk by a power of two along an image pyramid and grown back."""
    if factor == 1:
        return image
    height, width = image.shape[:2]
    smaller = blurred(cv2.pyrDown(image), factor // 2)
    grown: NDArray[np.uint8] = cv2.pyrUp(smaller, dstsize=(width, height))  # without the size, odd ones would grow
    return grown


def _cut(noise: NDArray[np.float32], start: float, samples: int) -> NDArray[np.float32]:
    """A stretch of noise from a share of its length on, which goes round where the noise ends."""
    return noise[(int(start * len(noise)) + np.arange(samples)) % len(noise)]


def _read_noise(path: Path) -> NDArray[np.float32]:
    """The sound of a clip or a sound file, its first minutes: (samples,) mono at 16 kHz."""
    with reasons(), av.open(str(path), options={"protocol_whitelist": "file"}, metadata_errors="ignore") as container:
        if not container.streams.audio:
            raise ClipError("has no audio track")
        track, _ = chosen(container.streams.audio, "audio")
        noise = mono(container.decode(track), _MOST_SECONDS)
    if not len(noise):
        raise ClipError("has no sound")
    return noise
