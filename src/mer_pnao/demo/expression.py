"""What each emotion does to a face and to a voice, and how several emotions mix."""

from collections.abc import Mapping
from dataclasses import astuple, dataclass
from typing import Generic, TypeVar

import numpy as np
from numpy.typing import NDArray

EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprise")


@dataclass(frozen=True)
class FaceExpression:
    """Muscle-like controls of a face; 0 is the face at rest, 1 a full expression of that control."""

    mouth_corner: float = 0.0  # + up
    mouth_open: float = 0.0  # apart from speech
    mouth_width: float = 0.0
    teeth: float = 0.0
    brow_inner: float = 0.0  # + up
    brow_outer: float = 0.0  # + up
    furrow: float = 0.0  # brows drawn together
    eye_open: float = 0.0  # + wide
    cheek_raise: float = 0.0  # lower lids pushed up
    flush: float = 0.0  # + red, - pale
    gaze_down: float = 0.0
    head_down: float = 0.0
    head_tilt: float = 0.0  # degrees
    sway: float = 0.0  # how much the head moves, in octaves of its resting amplitude
    tempo: float = 0.0  # how fast it moves, in octaves
    blink: float = 0.0  # how often the eyes blink, in octaves


@dataclass(frozen=True)
class VoiceExpression:
    """Controls of the source and filter; 0 is the speaker's habit."""

    pitch: float = 0.0  # semitones
    pitch_range: float = 0.0  # octaves of the resting excursion
    pitch_slope: float = 0.0  # semitones a second
    level: float = 0.0  # dB
    tempo: float = 0.0  # octaves of the syllable rate
    brightness: float = 0.0  # dB an octave of spectral tilt, + bright
    breath: float = 0.0  # + more aspiration noise, in units of 10 dB
    roughness: float = 0.0  # random pitch jitter, percent
    tremor: float = 0.0  # depth of a 6 Hz pitch modulation, semitones
    formants: float = 0.0  # octaves; a smile shortens the vocal tract


Expression = TypeVar("Expression", FaceExpression, VoiceExpression)


@dataclass(frozen=True)
class Channel(Generic[Expression]):
    """How one of the two channels, face or voice, shows emotions."""

    prototypes: Mapping[str, Expression]  # of a full emotion
    of_valence: Expression  # what a unit of valence adds to it: it makes valence visible within a class
    spread: Expression  # of each control from clip to clip at difficulty 1

    def shown(
        self, strengths: NDArray[np.float64], valence: float, scatter: float, rng: np.random.Generator
    ) -> Expression:
        """The expression of the emotions of `EMOTIONS` with `strengths` (6,), and of this valence (-5..5).

        `scatter` in [0, 1] scales how far chance moves each control.
        """
        prototypes = np.array([astuple(self.prototypes[emotion]) for emotion in EMOTIONS])  # (6, controls)
        spread = np.array(astuple(self.spread))
        controls = strengths @ prototypes + valence * np.array(astuple(self.of_valence))
        controls = controls + scatter * spread * rng.standard_normal(len(spread))
        return type(self.spread)(*controls.tolist())


# After Ekman and Friesen's FACS (e.g. happy AU 6+12, sad AU 1+4+15, surprise AU 1+2+5+26).
_FACES = {
    "neutral": FaceExpression(),
    "angry": FaceExpression(
        mouth_corner=-0.5, mouth_open=0.05, mouth_width=-0.15, teeth=0.5, brow_inner=-1.0, brow_outer=0.35,
        furrow=1.0, eye_open=-0.2, flush=1.0, head_down=0.5, sway=0.7, tempo=0.8,
    ),
    "happy": FaceExpression(
        mouth_corner=1.0, mouth_open=0.3, mouth_width=0.6, teeth=1.0, brow_inner=0.15, brow_outer=0.25,
        eye_open=-0.25, cheek_raise=1.0, flush=0.35, head_down=-0.2, sway=0.5, tempo=0.3,
    ),
    "sad": FaceExpression(
        mouth_corner=-1.0, mouth_width=-0.1, brow_inner=0.8, brow_outer=-0.6, furrow=0.3, eye_open=-0.45,
        flush=-0.5, gaze_down=0.9, head_down=1.0, head_tilt=4.0, sway=-0.6, tempo=-0.7,
    ),
    "worried": FaceExpression(
        mouth_corner=-0.5, mouth_open=0.12, mouth_width=0.1, teeth=0.3, brow_inner=0.9, brow_outer=-0.2,
        furrow=0.7, eye_open=0.3, flush=-0.6, gaze_down=0.2, head_tilt=2.0, sway=0.2, tempo=0.6, blink=1.2,
    ),
    "surprise": FaceExpression(
        mouth_corner=0.1, mouth_open=1.0, mouth_width=-0.4, teeth=0.2, brow_inner=1.0, brow_outer=1.0,
        eye_open=1.0, flush=0.1, head_down=-0.6, sway=0.1, tempo=0.2, blink=-1.0,
    ),
}  # fmt: skip

# Directions after Juslin and Laukka (2003), "Communication of emotions in vocal expression", table 7.
_VOICES = {
    "neutral": VoiceExpression(),
    "angry": VoiceExpression(
        pitch=4.0, pitch_range=-0.2, level=10.0, tempo=0.35, brightness=5.0, breath=-0.6, roughness=3.0,
        pitch_slope=-2.0, formants=0.02,
    ),
    "happy": VoiceExpression(
        pitch=6.0, pitch_range=1.0, level=4.0, tempo=0.15, brightness=2.0, breath=-0.2, pitch_slope=1.5,
        formants=0.12,
    ),
    "sad": VoiceExpression(
        pitch=-3.0, pitch_range=-1.2, level=-9.0, tempo=-0.6, brightness=-5.0, breath=1.0, pitch_slope=-2.5,
        roughness=0.3, formants=-0.08,
    ),
    "worried": VoiceExpression(
        pitch=2.5, pitch_range=-0.8, level=-4.0, tempo=0.1, brightness=-1.5, breath=1.6, roughness=1.0,
        tremor=0.9, formants=-0.05,
    ),
    "surprise": VoiceExpression(
        pitch=10.0, pitch_range=1.2, level=3.0, tempo=-0.1, brightness=0.5, breath=0.3, pitch_slope=5.0,
        formants=0.06,
    ),
}  # fmt: skip

FACE = Channel(
    _FACES,
    of_valence=FaceExpression(mouth_corner=0.2, cheek_raise=0.1, brow_outer=0.05, flush=0.05, head_down=-0.1),
    spread=FaceExpression(
        mouth_corner=0.5, mouth_open=0.3, mouth_width=0.4, teeth=0.4, brow_inner=0.5, brow_outer=0.5, furrow=0.4,
        eye_open=0.45, cheek_raise=0.4, flush=0.5, gaze_down=0.4, head_down=0.6, head_tilt=3.0, sway=0.5,
        tempo=0.5, blink=0.7,
    ),
)  # fmt: skip
VOICE = Channel(
    _VOICES,
    of_valence=VoiceExpression(
        pitch=0.5, pitch_range=0.18, pitch_slope=0.5, brightness=0.6, formants=0.03, breath=-0.12,
    ),
    spread=VoiceExpression(
        pitch=2.0, pitch_range=0.7, pitch_slope=2.0, level=3.0, tempo=0.25, brightness=1.5, breath=0.5,
        roughness=0.6, tremor=0.3, formants=0.04,
    ),
)  # fmt: skip
