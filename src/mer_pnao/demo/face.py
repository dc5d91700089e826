"""The moving parts of a face, drawn with OpenCV frame by frame over the portrait of the clip.

F frames, P points of a curve; lengths in pixels of the frame, y downwards, colours blue green red.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mer_pnao.demo.expression import FaceExpression
from mer_pnao.demo.motion import FaceMotion
from mer_pnao.demo.portrait import CENTRE, Portrait
from mer_pnao.demo.speakers import Appearance, Colour, darker

_SUBPIXEL_BITS = 4
_U = np.linspace(-1.0, 1.0, 13)  # position along a curve, from left to right
_ARCH = 1.0 - _U**2  # (P,)

Array = NDArray[np.float64]
Image = NDArray[np.uint8]


@dataclass(frozen=True)
class _Shape:
    """A curve or area to draw in every frame, in painter's order."""

    points: NDArray[np.int32]  # (F, P, 2) in 1 / 2**_SUBPIXEL_BITS pixels
    colour: Colour
    line: int = 0  # thickness; 0 fills
    visible: NDArray[np.bool_] | None = None  # (F,); None is always


def draw_frames(portrait: Portrait, look: Appearance, face: FaceExpression, motion: FaceMotion) -> Iterator[Image]:
    """One (SIZE, SIZE, 3) BGR image a frame."""
    shapes = [*_eyes(look, face, motion), *_brows(look, face, motion), *_mouth(look, face, motion)]
    for frame in range(len(motion.apex)):
        head = portrait.head.copy()
        for shape in shapes:
            if shape.visible is not None and not shape.visible[frame]:
                continue
            points = shape.points[frame]
            if shape.line:
                cv2.polylines(head, [points], False, shape.colour, shape.line, cv2.LINE_AA, _SUBPIXEL_BITS)
            else:
                cv2.fillPoly(head, [points], shape.colour, cv2.LINE_AA, _SUBPIXEL_BITS)
        yield _pose(head, portrait, motion, frame)


def _pose(head: Image, portrait: Portrait, motion: FaceMotion, frame: int) -> Image:
    """The head turned about the neck and laid over what stands still."""
    size = head.shape[0]
    neck = (CENTRE[0], CENTRE[1] + 60.0)
    turn = cv2.getRotationMatrix2D(neck, -float(motion.tilt[frame]), 1.0)
    turn[:, 2] += motion.shift_x[frame], motion.shift_y[frame]
    # The colour is already multiplied by its coverage, so one addition composes both layers.
    moved = cv2.warpAffine(cv2.multiply(head, portrait.coverage, scale=1 / 255), turn, (size, size))
    hidden = cv2.bitwise_not(cv2.warpAffine(portrait.coverage, turn, (size, size)))
    image: Image = cv2.add(moved, cv2.multiply(portrait.scene, hidden, scale=1 / 255))
    return image


def _eyes(look: Appearance, face: FaceExpression, motion: FaceMotion) -> list[_Shape]:
    openness = np.clip(1.0 + 0.6 * face.eye_open * motion.apex, 0.35, 1.7) * motion.lids
    cheek = np.clip(face.cheek_raise, 0.0, 1.3) * motion.apex
    upper = -6.6 * openness
    lower = np.maximum(4.2 * (0.45 + 0.55 * openness) - 1.9 * cheek, 0.3) * motion.lids
    shapes = []
    for side in (-1.0, 1.0):
        x = CENTRE[0] + side * look.eye_distance + look.eye_width * _U
        # Outer corners stand a little higher, as in a resting face.
        level = CENTRE[1] - 12.0 - 0.8 * side * _U
        lid_top, lid_bottom = level + upper[:, None] * _ARCH**0.8, level + lower[:, None] * _ARCH
        iris_x = CENTRE[0] + side * look.eye_distance + 3.0 * motion.gaze_x
        iris_y = CENTRE[1] - 12.5 + 2.6 * motion.gaze_y
        socket_top, socket_bottom = level - 11.5 * _ARCH**0.8, level + 8.0 * _ARCH**0.8
        shapes += [
            _area(x, lid_top, lid_bottom, (236.0, 238.0, 240.0)),
            _disc(iris_x, iris_y, 5.4, look.iris),
            _disc(iris_x, iris_y, 2.6, (12.0, 12.0, 14.0)),
            _disc(iris_x + 1.7, iris_y - 1.9, 1.1, (250.0, 250.0, 250.0)),
            _area(x, socket_top, lid_top, darker(look.skin, 0.68)),
            _area(x, lid_bottom, socket_bottom, darker(look.skin, 0.8)),
            _curve(x, lid_bottom, darker(look.skin, 0.6), 1),
            _curve(x, lid_top, darker(look.skin, 0.3), 2),
        ]
    return shapes


def _brows(look: Appearance, face: FaceExpression, motion: FaceMotion) -> list[_Shape]:
    inner, outer, furrow = (
        (np.clip(control, -1.4, 1.4) * motion.apex)[:, None]
        for control in (face.brow_inner, face.brow_outer, max(face.furrow, 0.0))
    )
    outward = (_U + 1) / 2  # 0 at the nose, 1 at the temple
    shapes = []
    for side in (-1.0, 1.0):
        offset = look.eye_distance - 13.0 + 27.0 * outward - 3.5 * furrow * (1 - outward)
        x = CENTRE[0] + side * offset
        raised = 8.0 * inner * (1 - outward) ** 1.2 + 6.5 * outer * outward + 3.0 * _ARCH
        middle = CENTRE[1] - 12.0 - look.brow_height - raised + 1.0 + 1.5 * furrow
        half = 0.5 * look.brow_thickness * (1.15 - 0.75 * outward**1.5) + 0.3
        shapes.append(_area(x, middle - half, middle + half, darker(look.hair, 0.6)))
    # The crease between the brows.
    y = np.linspace(CENTRE[1] - 29.0, CENTRE[1] - 20.0, 4)[None, :] + np.zeros_like(furrow)
    depth = float(np.clip(face.furrow, 0.0, 1.0))
    for side in (-1.0, 1.0):
        x = CENTRE[0] + side * (3.2 + np.linspace(0.8, 0.0, 4)) + np.zeros_like(y)
        shapes.append(_curve(x, y, darker(look.skin, 0.86 - 0.3 * depth), 1, furrow[:, 0] > 0.3))
    return shapes


def _mouth(look: Appearance, face: FaceExpression, motion: FaceMotion) -> list[_Shape]:
    apex = motion.apex[:, None]
    corner = np.clip(look.mouth_corner + face.mouth_corner, -1.3, 1.5) * apex
    width = look.mouth_width * (1 + 0.3 * np.clip(face.mouth_width, -1.2, 1.4) * apex)
    gap = 18.0 * np.clip(face.mouth_open, 0.0, 1.2) * apex + 8.0 * motion.jaw[:, None]
    x = CENTRE[0] + width * _U
    middle = CENTRE[1] + 33.5 - 10.0 * corner * (_U**2 - 0.35)
    inner_top, inner_bottom = middle - 0.3 * gap * _ARCH, middle + 0.7 * gap * _ARCH
    swell = np.sqrt(_ARCH)
    bow = 1.0 - 0.3 * np.exp(-((_U / 0.18) ** 2))
    outer_top, outer_bottom = inner_top - look.lip * swell * bow, inner_bottom + 1.2 * look.lip * swell
    teeth = np.minimum(0.55 * gap, 5.0 * np.clip(face.teeth, 0.0, 1.3)) * _ARCH**1.5
    lip = tuple(0.55 * skin + 0.45 * red for skin, red in zip(look.skin, (70.0, 60.0, 170.0), strict=True))
    crease = darker(look.skin, 0.92 - 0.3 * float(np.clip(face.cheek_raise, 0.0, 1.0)))
    smiling = face.cheek_raise * motion.apex > 0.25
    shapes = [
        _area(x, outer_top, inner_bottom, darker(lip, 0.9)),
        _area(x, inner_top, outer_bottom, lip),
        _area(x, inner_top, inner_bottom, (34.0, 24.0, 62.0), gap[:, 0] >= 1.0),
        _area(x, inner_bottom - 0.35 * gap * _ARCH**2, inner_bottom, (92.0, 84.0, 186.0), gap[:, 0] > 5.0),
        _area(x, inner_top, inner_top + teeth, (226.0, 234.0, 238.0), teeth.max(axis=1) > 1.0),
        _curve(x, middle, darker(lip, 0.5), 1, gap[:, 0] < 1.5),
    ]
    for side in (-1.0, 1.0):
        along = np.linspace(0.0, 1.0, 5)
        fold_x = CENTRE[0] + side * (12.0 + (width - 7.0) * along**0.8)
        fold_y = CENTRE[1] + 13.0 + 19.0 * along - 3.0 * corner * along
        shapes.append(_curve(fold_x, fold_y, crease, 1, smiling))
    return shapes


def _area(x: Array, top: Array, bottom: Array, colour: Colour, visible: NDArray[np.bool_] | None = None) -> _Shape:
    """The area between two curves over the same `x`, each (P,) or (F, P), but not all of them (P,).

    OpenCV draws the outline even of an area without any height, so what may vanish needs `visible`.
    """
    x, top, bottom = np.broadcast_arrays(x, top, bottom)
    outline_x, outline_y = np.hstack([x, x[:, ::-1]]), np.hstack([top, bottom[:, ::-1]])
    return _Shape(_subpixels(outline_x, outline_y), colour, visible=visible)


def _curve(x: Array, y: Array, colour: Colour, line: int, visible: NDArray[np.bool_] | None = None) -> _Shape:
    return _Shape(_subpixels(np.broadcast_to(x, y.shape), y), colour, line, visible)


def _disc(x: Array, y: Array, radius: float, colour: Colour) -> _Shape:
    angle = np.linspace(0.0, 2 * np.pi, 16, endpoint=False)
    return _Shape(_subpixels(x[:, None] + radius * np.cos(angle), y[:, None] + radius * np.sin(angle)), colour)


def _subpixels(x: Array, y: Array) -> NDArray[np.int32]:
    points: NDArray[np.int32] = np.rint(np.stack([x, y], axis=-1) * 2**_SUBPIXEL_BITS).astype(np.int32)
    return points
