"""What stays the same through a clip: the shaded head without eyes, brows and mouth, and the scene."""

from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.demo.expression import FaceExpression
from mer_pnao.demo.speakers import Appearance, Colour, darker

SIZE = 192
CENTRE = (96.0, 98.0)  # of the face

Image = NDArray[np.uint8]
_Plane = NDArray[np.float32]
_Y, _X = np.mgrid[0:SIZE, 0:SIZE].astype(np.float32)


@dataclass(frozen=True)
class Portrait:
    head: Image  # (SIZE, SIZE, 3)
    coverage: Image  # (SIZE, SIZE, 3), 255 where the head hides the scene
    scene: Image  # (SIZE, SIZE, 3) backdrop, shoulders and neck


def paint_portrait(look: Appearance, face: FaceExpression, rng: np.random.Generator) -> Portrait:
    """The layers of a clip; chance moves the light."""
    light = float(rng.uniform(-0.06, 0.06))  # from the left or from the right
    exposure = float(rng.uniform(0.98, 1.02))
    scene, head = _scene(look), _skin(look, face, light)
    outline = _ellipse(CENTRE[0], CENTRE[1], look.face_width, look.face_height)
    hair = _hair(look)
    head = _over(head, look.hair, hair * (0.85 + 0.25 * _bump(70, 30, 45, 30)))
    coverage = np.maximum(outline, hair)
    if look.hair_style == 2:
        back = _ellipse(CENTRE[0], CENTRE[1] + 8, look.face_width + 14, look.face_height + 14)
        scene = _over(scene, darker(look.hair, 0.75), back)
    return Portrait(
        head=_image(exposure * head),
        coverage=cv2.merge([_image(255 * coverage)] * 3),
        scene=_image(exposure * scene),
    )


def _scene(look: Appearance) -> _Plane:
    backdrop = 1.08 - 0.35 * ((_X - 96) ** 2 + (_Y - 80) ** 2) / 96**2 * 0.5
    scene = _tinted(look.backdrop, backdrop)
    neck = _soft_box(CENTRE[0], CENTRE[1] + 72, 21, 30)
    shoulders = _ellipse(CENTRE[0], SIZE + 18, 82, 46)
    scene = _over(scene, darker(look.skin, 0.72), neck)
    return _over(scene, look.clothes, shoulders)


def _skin(look: Appearance, face: FaceExpression, light: float) -> _Plane:
    """Skin with the lights and darks that make an ellipse a face, and that the Haar cascade looks for."""
    x, y = (_X - CENTRE[0]) / look.face_width, (_Y - CENTRE[1]) / look.face_height
    # Darker edges would look rounder, but the cascade wants a face as bright at its sides as at its nose.
    shading = 1.06 - 0.18 * (x**2 + y**2) ** 2 + light * x
    for side in (-1.0, 1.0):
        eye_x = CENTRE[0] + side * look.eye_distance
        shading -= 0.28 * _bump(eye_x, CENTRE[1] - 14, 13, 9)
        shading += 0.13 * _bump(CENTRE[0] + side * 26, CENTRE[1] + 12, 15, 10)
        shading -= 0.16 * _bump(CENTRE[0] + side * 6.5, CENTRE[1] + 17, 3.0, 2.2)  # nostrils
    tip = CENTRE[1] - 10 + look.nose_length
    shading += 0.13 * _bump(CENTRE[0], CENTRE[1] - 4, 5, 18) + 0.07 * _bump(CENTRE[0], tip - 3, 7, 6)
    shading -= 0.15 * _bump(CENTRE[0], tip + 6.5, 8.5, 2.6)
    shading += 0.08 * _bump(CENTRE[0], CENTRE[1] - 40, 30, 11)
    shading -= 0.10 * _bump(CENTRE[0], CENTRE[1] + 48, 15, 3.5)
    skin = _tinted(look.skin, shading)
    blood = float(np.clip(face.flush, -1.3, 1.3))
    cheeks = sum(_bump(CENTRE[0] + side * 28, CENTRE[1] + 14, 15, 12) for side in (-1.0, 1.0))
    # Red skin absorbs blue and green; a pale one lacks red.
    where = 0.5 + 0.5 * np.asarray(cheeks, dtype=np.float32)
    tint = np.array([-26.0, -32.0, 12.0] if blood > 0 else [-22.0, -4.0, 26.0], dtype=np.float32)
    return skin + blood * where[..., None] * tint


def _hair(look: Appearance) -> _Plane:
    """Where hair covers the head layer, (SIZE, SIZE) in 0..1."""
    crown = _ellipse(CENTRE[0], CENTRE[1] - 6, look.face_width + 5, look.face_height + 6)
    if look.hair_style == 0:
        line = CENTRE[1] - 45 + 0.002 * (_X - CENTRE[0]) ** 2
    elif look.hair_style == 1:
        line = CENTRE[1] - 44 + 1.5 * np.sin(_X / 3.0)
    elif look.hair_style == 2:
        line = CENTRE[1] - 47 + 0.005 * (_X - CENTRE[0]) ** 2
    else:
        line = CENTRE[1] - 50 + 0.2 * np.abs(_X - CENTRE[0] + 22)
    above = np.clip((line - _Y) / 3.0 + 0.5, 0.0, 1.0)
    temples = _ellipse(CENTRE[0], CENTRE[1] + 8, look.face_width - 4, look.face_height + 30)
    beside = np.clip((CENTRE[1] - 8 - _Y) / 16.0, 0.0, 1.0) * (1 - temples)
    hair: _Plane = crown * np.maximum(above, beside).astype(np.float32)
    return hair


def _ellipse(x: float, y: float, half_width: float, half_height: float) -> _Plane:
    """1 inside, 0 outside, an edge about two pixels soft."""
    radius = np.sqrt(((_X - x) / half_width) ** 2 + ((_Y - y) / half_height) ** 2)
    distance = (1 - radius) * min(half_width, half_height)
    inside: _Plane = np.clip(distance / 2 + 0.5, 0.0, 1.0).astype(np.float32)
    return inside


def _soft_box(x: float, y: float, half_width: float, half_height: float) -> _Plane:
    distance = np.maximum(np.abs(_X - x) - half_width, np.abs(_Y - y) - half_height)
    inside: _Plane = np.clip(0.5 - distance / 2, 0.0, 1.0).astype(np.float32)
    return inside


def _bump(x: float, y: float, width: float, height: float) -> _Plane:
    """A Gaussian of height 1."""
    bump: _Plane = np.exp(-(((_X - x) / width) ** 2) - ((_Y - y) / height) ** 2)
    return bump


def _tinted(colour: Colour, brightness: _Plane) -> _Plane:
    return brightness[..., None] * np.array(colour, dtype=np.float32)


def _over(below: _Plane, colour: Colour, coverage: _Plane) -> _Plane:
    return below + coverage[..., None] * (np.array(colour, dtype=np.float32) - below)


def _image(plane: _Plane) -> Image:
    image: Image = np.clip(np.rint(plane), 0, 255).astype(np.uint8)
    return image
