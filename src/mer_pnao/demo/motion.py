"""How a face moves through a clip: expression, speech, blinks and the head. F frames."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mer_pnao.demo.expression import FaceExpression

Array = NDArray[np.float64]


@dataclass(frozen=True)
class FaceMotion:
    """One value a frame, each (F,)."""

    apex: Array  # how far the expression has developed, 0..1
    jaw: Array  # mouth opening by speech, 0..1
    lids: Array  # 1 open, 0 closed in a blink
    gaze_x: Array  # -1..1
    gaze_y: Array  # + down
    tilt: Array  # degrees, + clockwise
    shift_x: Array  # pixels
    shift_y: Array  # pixels, + down


def plan_motion(times: Array, jaw: Array, face: FaceExpression, rng: np.random.Generator) -> FaceMotion:
    """The motion at `times` (F,) in seconds of a face whose speech opens the mouth by `jaw` (F,)."""
    duration = float(times[-1]) + 1e-6
    sway = 2.0 ** float(np.clip(face.sway, -1.5, 1.2))
    rate = 0.6 * 2.0 ** float(np.clip(face.tempo, -1.5, 1.5))

    def swing(amplitude: float, speed: float) -> Array:
        phase = rng.uniform(0, 2 * np.pi)
        wave: Array = amplitude * sway * np.sin(2 * np.pi * rate * speed * times + phase)
        return wave

    side = rng.choice([-1.0, 1.0])
    tilt = side * face.head_tilt + swing(1.5, 1.0)
    glance = np.interp(times, np.linspace(0, duration, 4), rng.uniform(-0.5, 0.5, 4))
    return FaceMotion(
        apex=0.75 + 0.25 * np.sin(np.pi * times / duration) ** 0.8,
        jaw=jaw,
        lids=_blinks(times, 0.3 * 2.0 ** float(np.clip(face.blink, -2.0, 2.0)), rng),
        gaze_x=glance,
        gaze_y=np.full_like(times, np.clip(face.gaze_down, -0.4, 1.2)),
        tilt=np.clip(tilt, -9.0, 9.0),  # the Haar cascade loses a face beyond about 12 degrees
        shift_x=swing(1.5, 0.8),
        # Speakers nod on loud syllables.
        shift_y=2.5 * float(np.clip(face.head_down, -1.5, 1.5)) + swing(1.2, 1.3) + 1.5 * sway * jaw,
    )


def _blinks(times: Array, rate: float, rng: np.random.Generator) -> Array:
    """1 minus a bump of about 0.2 s at `rate` random moments a second."""
    moments = rng.uniform(0, times[-1], rng.poisson(rate * times[-1]))
    closing = np.exp(-(((times[:, None] - moments) / 0.06) ** 2))
    lids: Array = 1.0 - np.clip(closing.sum(axis=1), 0.0, 1.0)
    return lids
