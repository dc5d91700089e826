from pathlib import Path

import cv2
import numpy as np
import pytest

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.face_reader import ClipFaces, FaceReader
from mer_pnao.media.faces import HAAR, Detector, Detectors, cut_along, follow_face

REAL = Path(__file__).parents[3] / "shared" / "data" / "media"


def draw_face(canvas: np.ndarray, x: int, y: int, size: int) -> None:
    """A shaded face that the cascade knows as one; the bright dot between the eyes marks its place."""
    unit = size / 100

    def ellipse(dx: float, dy: float, width: float, height: float, level: int) -> None:
        centre, axes = (
            (round(x + dx * unit), round(y + dy * unit)),
            (round(width * unit), round(height * unit)),
        )
        cv2.ellipse(canvas, centre, axes, 0, 0, 360, (level, level, level), -1)

    ellipse(0, 0, 42, 55, 185)
    for side in (-1, 1):
        ellipse(side * 18, -12, 13, 8, 95)  # sockets
        ellipse(side * 18, -11, 6, 4, 25)  # eyes
        ellipse(side * 18, -22, 13, 3, 60)  # brows
    ellipse(0, 2, 5, 16, 215)  # bridge of the nose
    ellipse(0, 15, 8, 4, 130)
    ellipse(0, 30, 16, 5, 80)  # mouth


def seen(*boxes: tuple[float, float, float] | None, every: int = 1) -> Detectors:
    """A detector that sees these faces, one a frame that it searches."""
    found = iter(boxes)

    def find(frame: np.ndarray) -> np.ndarray | None:
        box = next(found)
        return None if box is None else np.array([*box, 1])

    return (Detector(find, every),)


def crop_faces(frames: np.ndarray, size: int, detectors: Detectors = HAAR) -> ClipFaces:
    face = follow_face(frames, detectors)
    return ClipFaces(np.stack(list(cut_along(frames, face, size))), face.share)


def film(path: list[tuple[int, int]], size: int = 110, height: int = 240, width: int = 320) -> np.ndarray:
    frames = np.full((len(path), height, width, 3), 70, np.uint8)
    for frame, (x, y) in zip(frames, path, strict=True):
        draw_face(frame, x, y, size)
        frame[:] = cv2.GaussianBlur(frame, (0, 0), 1.5)
    return frames


def test_a_face_that_moves_stays_in_the_middle_of_its_crops():
    path = [(90 + 10 * step, 120) for step in range(12)]
    result = crop_faces(film(path), 96)

    assert result.crops.shape == (12, 96, 96, 3)
    assert result.crops.dtype == np.uint8
    assert result.share > 0.8
    first = result.crops[0].astype(float)
    for crop in result.crops[1:-1]:
        aligned = np.corrcoef(first.ravel(), crop.astype(float).ravel())[0, 1]
        assert aligned > 0.9
    still = np.corrcoef(*(film(path)[i][:, 60:260].astype(float).ravel() for i in (0, 9)))[0, 1]
    assert still < 0.7  # without following, the same frames are far less alike


def test_the_larger_of_two_faces_is_taken():
    frames = film([(90, 120)] * 3, size=120)
    for frame in frames:
        draw_face(frame, 260, 120, 60)
    crop = crop_faces(frames, 96).crops[1].astype(float)
    alone = crop_faces(film([(90, 120)] * 3, size=120), 96).crops[1].astype(float)
    assert follow_face(frames, HAAR).faces == 2
    assert np.abs(crop - alone).mean() < 12


def test_without_a_face_the_whole_frame_is_used_and_said_so():
    ramp = np.broadcast_to(np.linspace(0, 255, 160).astype(np.uint8)[None, None, :, None], (4, 120, 160, 3))
    result = crop_faces(ramp.copy(), 64)
    assert result.share == 0.0
    assert result.crops.shape == (4, 64, 64, 3)
    row = result.crops[0, 32, :, 0].astype(float)
    assert row[0] < 5
    assert row[-1] > 250  # both edges of the frame are still there


@pytest.mark.parametrize("wild", [(10.0, 10.0, 90.0), (10.0, 10.0, 40.0)])  # of another size, of the same
def test_wild_detections_and_gaps_do_not_move_the_box(wild):
    # The true face stands at (100, 60) with a side of 40; every second frame is searched.
    true = (100.0, 60.0, 40.0)
    detectors = seen(true, true, wild, true, None, true, true, every=2)
    frames = np.zeros((14, 120, 200, 3), np.uint8)
    frames[:, 34:86, 74:126] = 255  # the face with its margin of 15 %, 52 pixels wide
    result = crop_faces(frames, 52, detectors)
    assert result.share == pytest.approx(6 / 7)
    assert (result.crops == 255).all()


def test_two_detections_of_very_different_sizes_leave_one():
    detectors = seen((50.0, 50.0, 20.0), (60.0, 50.0, 80.0), every=2)
    frames = np.zeros((4, 100, 120, 3), np.uint8)
    frames[:, :, 8:112] = 255  # the larger one with its margin, 104 pixels wide
    assert (crop_faces(frames, 104, detectors).crops == 255).all()


def test_a_box_over_the_edge_repeats_the_edge():
    frames = np.full((2, 100, 100, 3), 9, np.uint8)
    assert (crop_faces(frames, 32, seen((0.0, 0.0, 40.0), (0.0, 0.0, 40.0))).crops == 9).all()


def test_a_thorough_search_follows_a_quick_one_that_finds_nothing():
    quick, thorough = seen(None, None, every=2), seen(*[(50.0, 50.0, 40.0)] * 4)
    frames = np.zeros((4, 100, 100, 3), np.uint8)
    assert crop_faces(frames, 32, (*quick, *thorough)).share == 1.0


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips of ../shared/data/media are absent")
def test_a_real_face_is_found_and_a_cartoon_has_none():
    read = FaceReader(MediaLimits())
    clips = sorted((REAL / "clips").glob("*.mp4"))[:4]
    assert all(read(clip, 8, 64).share > 0.2 for clip in clips)
    assert read(REAL / "no_face_720p.mp4", 8, 64).share == 0.0
