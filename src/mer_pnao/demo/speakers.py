"""The people of the synthetic corpus: how each looks, sounds and how strongly each expresses."""

from dataclasses import dataclass

import numpy as np

Colour = tuple[float, ...]  # blue, green, red in 0..255, OpenCV's order

# Close together: to encoders with random weights a change of skin or hair is many times that of a smile.
_SKINS: tuple[Colour, ...] = (
    (155, 185, 226), (150, 180, 222), (145, 175, 218), (140, 170, 214), (135, 165, 210), (130, 160, 206),
)  # fmt: skip
_HAIRS: tuple[Colour, ...] = (
    (38, 42, 50), (40, 48, 62), (44, 56, 76), (48, 66, 90), (58, 60, 66), (38, 50, 84),
)  # fmt: skip
_IRISES: tuple[Colour, ...] = ((38, 52, 82), (96, 78, 48), (62, 92, 66), (34, 40, 52))


@dataclass(frozen=True)
class Appearance:
    """Lengths in pixels of the 192-pixel frame, angles in degrees."""

    skin: Colour
    hair: Colour
    iris: Colour
    clothes: Colour
    backdrop: Colour
    hair_style: int  # 0 short, 1 fringe, 2 long, 3 parted
    face_width: float
    face_height: float
    eye_distance: float
    eye_width: float
    brow_thickness: float
    brow_height: float
    nose_length: float
    mouth_width: float
    lip: float
    mouth_corner: float  # of the mouth at rest, as in FaceExpression


@dataclass(frozen=True)
class VoiceTimbre:
    pitch: float  # Hz
    formant_scale: float  # 1 is an adult male vocal tract
    breath: float  # aspiration noise in dB relative to the voice
    tempo: float  # syllables a second


@dataclass(frozen=True)
class Speaker:
    name: str
    look: Appearance
    timbre: VoiceTimbre
    expressiveness: float  # scales every expression


def plan_speakers(count: int, seed: int) -> tuple[Speaker, ...]:
    """`count` speakers; high and low voices alternate so that each split holds both."""
    digits = max(2, len(str(count)))
    return tuple(
        _speaker(f"speaker{number:0{digits}d}", number % 2 == 0, np.random.default_rng([seed, number]))
        for number in range(1, count + 1)
    )


def _speaker(name: str, high_voice: bool, rng: np.random.Generator) -> Speaker:
    look = Appearance(
        skin=_SKINS[rng.integers(len(_SKINS))],
        hair=_HAIRS[rng.integers(len(_HAIRS))],
        iris=_IRISES[rng.integers(len(_IRISES))],
        clothes=_muted_colour(rng, 40, 170),
        backdrop=_muted_colour(rng, 120, 150),
        hair_style=int(rng.choice([1, 2, 3] if high_voice else [0, 0, 1, 3])),
        face_width=float(rng.uniform(49, 55)),
        face_height=float(rng.uniform(64, 70)),
        eye_distance=float(rng.uniform(22.0, 24.0)),
        eye_width=float(rng.uniform(12.0, 13.5)),
        brow_thickness=float(rng.uniform(3.0, 3.8) if high_voice else rng.uniform(3.6, 4.8)),
        brow_height=float(rng.uniform(14.0, 16.5)),
        nose_length=float(rng.uniform(22.0, 26.0)),
        mouth_width=float(rng.uniform(18.0, 20.5)),
        lip=float(rng.uniform(3.2, 4.8) if high_voice else rng.uniform(2.4, 3.8)),
        mouth_corner=float(rng.normal(0.0, 0.08)),
    )
    timbre = VoiceTimbre(
        pitch=float(rng.uniform(175, 205) if high_voice else rng.uniform(108, 130)),
        formant_scale=float(rng.normal(1.10 if high_voice else 1.0, 0.02)),
        breath=float(rng.normal(-24.0 if high_voice else -28.0, 2.0)),
        tempo=float(rng.uniform(4.2, 5.2)),
    )
    return Speaker(name, look, timbre, expressiveness=float(rng.uniform(0.88, 1.15)))


def _muted_colour(rng: np.random.Generator, darkest: float, lightest: float) -> Colour:
    grey = rng.uniform(darkest, lightest)
    return tuple(np.clip(grey + rng.normal(0.0, 12.0, 3), 15, 225).tolist())


def darker(colour: Colour, factor: float) -> Colour:
    """The colour with each channel times a factor below 1."""
    return tuple(factor * channel for channel in colour)
