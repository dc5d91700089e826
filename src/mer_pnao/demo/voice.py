"""A voice by source and filter: glottal pulses and breath through the resonances of a vocal tract.

T control frames, one every HOP samples; S samples at SAMPLE_RATE.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_pnao.demo.expression import VoiceExpression
from mer_pnao.demo.speakers import VoiceTimbre

SAMPLE_RATE = 16_000
HOP = 128
_WINDOW = 2 * HOP
_FFT = 512
_ROOM_NOISE = 0.002  # amplitude; beside it a listener blind to gain hears how loud the voice is
_BETWEEN = 0.25  # amplitude of the voice between two syllables
_MARGIN = 0.02  # seconds of silence before and after the speech

# First three formants in Hz of an adult male: a, e, i, o, u.
_VOWELS = np.array(
    [[730, 1180, 2440], [520, 1750, 2480], [290, 2200, 2950], [500, 900, 2420], [320, 820, 2300]], dtype=float
)
_UPPER_FORMANTS = (3400.0, 4500.0, 5600.0)  # without them the spectrum falls too fast
_BANDWIDTHS = np.array([80.0, 100.0, 140.0, 200.0, 280.0, 360.0])

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Prosody:
    """What the voice does over time."""

    pitch: Array  # (T,) Hz
    energy: Array  # (T,) amplitude of the voiced source, 0..1
    friction: Array  # (T,) amplitude of consonant noise, 0..1
    formants: Array  # (T, 6) Hz

    def mouth_opening(self, times: Array) -> Array:
        """How far speech opens the mouth, 0..1, at `times` in seconds: loud open vowels most."""
        voiced = np.clip((self.energy - _BETWEEN) / (1 - _BETWEEN), 0.0, 1.0)
        openness = voiced * np.clip(self.formants[:, 0] / 600.0, 0.5, 1.0)
        return np.interp(times, np.arange(len(openness)) * HOP / SAMPLE_RATE, openness)


def plan_prosody(
    duration: float, timbre: VoiceTimbre, expression: VoiceExpression, rng: np.random.Generator
) -> Prosody:
    """The syllables, melody and vowels of an utterance of `duration` seconds."""
    times = np.arange(int(np.ceil(duration * SAMPLE_RATE / HOP)) + 1) * HOP / SAMPLE_RATE
    onsets, ends = _syllables(duration, timbre.tempo * 2.0**expression.tempo, rng)
    middle = (onsets + ends) / 2
    syllable = np.clip(np.searchsorted(onsets, times, side="right") - 1, 0, len(onsets) - 1)
    within = np.clip((times - onsets[syllable]) / (ends - onsets)[syllable], 0.0, 1.0)
    speaking = (times >= onsets[0]) & (times <= ends[-1])
    loudness = rng.uniform(0.8, 1.0, len(onsets))[syllable]
    # The voice goes on between syllables: to an encoder that normalises each frame, silence is as loud.
    energy = speaking * loudness * (_BETWEEN + (1 - _BETWEEN) * np.sin(np.pi * within) ** 0.7)
    hissing = (rng.permutation(len(onsets)) % 3 == 0)[syllable]
    friction = speaking * hissing * np.clip(1 - within / 0.3, 0.0, 1.0)

    # Speech falls by a few semitones over a phrase (declination) and rises on stressed syllables.
    excursion = 2.0**expression.pitch_range
    accents = rng.normal(0.0, 1.3, len(onsets))
    melody = np.interp(times, middle, accents) - 1.5 * (times / duration - 0.5)
    tremor = max(0.0, expression.tremor) * np.sin(2 * np.pi * 6.0 * times + rng.uniform(0, 2 * np.pi))
    semitones = expression.pitch + excursion * melody + expression.pitch_slope * (times - duration / 2) + tremor
    pitch = np.clip(timbre.pitch * 2.0 ** (semitones / 12), 60.0, 600.0)

    # Each vowel about equally often, as in a real sentence: else what is said would drown how it is said.
    vowels = _VOWELS[rng.permutation(len(onsets)) % len(_VOWELS)]
    scale = timbre.formant_scale * 2.0**expression.formants
    moving = np.stack([np.interp(times, middle, vowels[:, formant]) for formant in range(3)], axis=1)
    fixed = np.broadcast_to(np.array(_UPPER_FORMANTS), (len(times), 3))
    return Prosody(pitch, energy, friction, scale * np.concatenate([moving, fixed], axis=1))


def synthesise(
    prosody: Prosody,
    duration: float,
    timbre: VoiceTimbre,
    expression: VoiceExpression,
    rng: np.random.Generator,
) -> NDArray[np.float32]:
    """The waveform, (S,) float32 within [-1, 1]."""
    samples = round(duration * SAMPLE_RATE)
    at = np.arange(samples) / HOP
    frames = np.arange(len(prosody.pitch))
    energy = np.interp(at, frames, prosody.energy)
    friction = np.interp(at, frames, prosody.friction)
    pulses = _glottal_pulses(np.interp(at, frames, prosody.pitch), expression, rng)
    noise = rng.standard_normal(samples)
    breath = 10.0 ** ((timbre.breath + 10.0 * expression.breath) / 20)
    # Breath flows while the glottis is open, so it is loud where the pulse is.
    source = energy * (pulses + breath * noise * (0.5 + np.abs(pulses)))
    voice = _filter(source, prosody.formants, expression.brightness)
    hiss = 0.08 * np.diff(noise * friction, prepend=0.0)
    room = _ROOM_NOISE * rng.standard_normal(samples)
    gain = 10.0 ** (expression.level / 20)
    wave: NDArray[np.float32] = np.tanh(gain * (voice + hiss) + room).astype(np.float32)
    return wave


def _syllables(duration: float, rate: float, rng: np.random.Generator) -> tuple[Array, Array]:
    """Onset and end of each syllable in seconds, filling the utterance."""
    speech = duration - 2 * _MARGIN
    count = max(2, round(speech * rate))
    lengths = rng.uniform(0.7, 1.3, count)
    edges = _MARGIN + speech * np.concatenate([[0.0], np.cumsum(lengths)]) / lengths.sum()
    return edges[:-1], edges[1:]


def _glottal_pulses(pitch: Array, expression: VoiceExpression, rng: np.random.Generator) -> Array:
    """The derivative of the glottal flow (S,) at a pitch of (S,) Hz: Klatt and Klatt's (1990) pulse."""
    open_quotient = float(np.clip(0.6 - 0.06 * expression.brightness, 0.4, 0.85))
    cycles = np.cumsum(pitch) / SAMPLE_RATE
    # Roughness moves each period's pulse by a random share of the period.
    wobble = rng.standard_normal(int(cycles[-1]) + 3)
    depth = 0.01 * max(0.3, 0.3 + expression.roughness)
    cycles = cycles + depth * np.interp(cycles, np.arange(len(wobble)), wobble)
    opening = np.mod(cycles, 1.0) / open_quotient
    flow: Array = np.where(opening < 1.0, 2 * opening - 3 * opening**2, 0.0)
    return flow


def _filter(source: Array, formants: Array, brightness: float) -> Array:
    """`source` (S,) through resonances that move as `formants` (T, 6); brightness in dB an octave."""
    padded = np.zeros((len(formants) + 1) * HOP)
    padded[HOP : HOP + len(source)] = source[: len(padded) - HOP]
    starts = np.arange(len(formants)) * HOP
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(_WINDOW) / _WINDOW)
    spectra = np.fft.rfft(padded[starts[:, None] + np.arange(_WINDOW)] * window, _FFT)
    frequency = np.fft.rfftfreq(_FFT, 1 / SAMPLE_RATE)
    response = 10.0 ** (brightness * np.log2(np.maximum(frequency, 100.0) / 500.0) / 20)[None, :]
    for formant, bandwidth in zip(formants.T, _BANDWIDTHS, strict=True):
        centre = formant[:, None] ** 2
        response = response * centre / (centre - frequency**2 + 1j * bandwidth * frequency)
    pieces = np.fft.irfft(spectra * response, _FFT)
    result = np.zeros(starts[-1] + _FFT)
    for start, piece in zip(starts, pieces, strict=True):
        result[start : start + _FFT] += piece
    return 0.12 * result[HOP : HOP + len(source)]
