"""Ready crops, and which way to a face the profile's values choose."""

import tracemalloc
import unicodedata
from pathlib import Path

import cv2
import numpy as np
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError
from mer_pnao.media.corruption import blurred
from mer_pnao.media.face_reader import FaceReader, OnDemand, face_reader

REAL = Path(__file__).parents[3] / "shared" / "data" / "media"
MODEL = Path(__file__).parents[3] / "shared" / "data" / "checkpoints" / "face_detection_yunet.onnx"


def coloured(count: int, side: int = 32) -> np.ndarray:
    """BGR crops: blue is five times their number, green 0, red 200."""
    crops = np.zeros((count, side, side, 3), np.uint8)
    crops[..., 0] = 5 * np.arange(count)[:, None, None]
    crops[..., 2] = 200
    return crops


def write_images(folder: Path, crops: np.ndarray, pattern: str) -> None:
    folder.mkdir(parents=True)
    for number, crop in enumerate(crops, start=1):
        assert cv2.imwrite(str(folder / pattern.format(number)), crop)


LAYOUTS = {
    "array in its own folder": lambda root, name, crops: (
        (root / name).mkdir(parents=True),
        np.save(root / name / f"{name}.npy", crops),
    ),
    "array": lambda root, name, crops: (root.mkdir(), np.save(root / f"{name}.npy", crops)),
    "images": lambda root, name, crops: write_images(root / name, crops, "{:04d}.png"),
    "OpenFace": lambda root, name, crops: write_images(root / f"{name}_aligned", crops, "frame_det_00_{:06d}.bmp"),
}


@pytest.mark.parametrize("layout", LAYOUTS)
def test_ready_crops_are_read_as_rgb_from_every_layout(make_clip, tone, numbered, tmp_path, layout):
    clip = make_clip("a b.mp4", numbered(25), tone())
    LAYOUTS[layout](tmp_path / "faces", "a b", coloured(20))
    faces = FaceReader(MediaLimits(), crops=tmp_path / "faces")(clip, 4, 48)

    assert faces.crops.shape == (4, 48, 48, 3)
    assert faces.share == 20 / 25
    middles = [2, 7, 12, 17]  # of four equal parts of twenty
    assert faces.crops[:, 24, 24].tolist() == [[200, 0, 5 * number] for number in middles]


def test_a_clip_with_an_empty_folder_of_crops_is_seen_whole(make_clip, tone, numbered, tmp_path):
    (tmp_path / "faces/clip").mkdir(parents=True)
    faces = FaceReader(MediaLimits(), crops=tmp_path / "faces")(make_clip(frames=numbered(), sound=tone()), 4, 48)
    assert (faces.crops.shape, faces.share) == ((4, 48, 48, 3), 0.0)


@pytest.mark.parametrize("clip", ["clips/01-01-01-01-01-01.mp4", "no_face_720p.mp4"])
@pytest.mark.parametrize("alter", [None, lambda frame: blurred(frame, 4)])
def test_a_clip_that_is_decoded_again_for_each_pass_has_the_crops_of_one_held(clip, alter):
    if not REAL.is_dir():
        pytest.skip("the real clips of ../shared/data/media are absent")
    held = FaceReader(MediaLimits())(REAL / clip, 6, 48, alter)
    again = FaceReader(MediaLimits(), most_held=0, most_crops=0)(REAL / clip, 6, 48, alter)
    assert isinstance(again.crops, OnDemand)
    assert again.share == held.share
    assert (held.share == 0) == (clip == "no_face_720p.mp4")
    for _ in range(2):
        np.testing.assert_array_equal(list(again.crops), held.crops)


def test_no_more_of_a_long_clip_is_in_memory_than_allowed(make_clip, tone, numbered):
    """The peak of what NumPy holds, over frames of 10.8 kB and crops of 6.9 kB."""
    frames, frame, crop = 200, 80 * 45 * 3, 48 * 48 * 3
    clip = make_clip("long.mp4", numbered(frames, 80, 45), tone(8.0))

    def peak(most_held: int, most_crops: int) -> int:
        reader = FaceReader(MediaLimits(), most_held=most_held, most_crops=most_crops)
        reader(clip, frames, 48)  # what is imported and kept for ever
        tracemalloc.start()
        try:
            assert sum(1 for _ in reader(clip, frames, 48).crops) == frames
            return tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()

    assert peak(frames * frame, frames * crop) > frames * (frame + crop)
    assert frames * crop < peak(frames * frame - 1, frames * crop) < frames * frame + frames * crop
    assert peak(frames * frame - 1, frames * crop - 1) < frames * crop / 2


def test_ready_crops_are_read_one_by_one_where_they_are_many(make_clip, tone, numbered, tmp_path):
    clip = make_clip("clip.mp4", numbered(25), tone())
    LAYOUTS["array"](tmp_path / "faces", "clip", coloured(20))
    read = FaceReader(MediaLimits(), crops=tmp_path / "faces", most_crops=0)(clip, 4, 48)
    assert isinstance(read.crops, OnDemand)
    assert [crop[24, 24].tolist() for crop in read.crops] == [[200, 0, 5 * number] for number in (2, 7, 12, 17)]


def test_crops_are_found_in_either_spelling_of_an_umlaut(make_clip, tone, numbered, tmp_path):
    clip = make_clip(frames=numbered(), sound=tone())
    named = clip.rename(clip.with_name(unicodedata.normalize("NFD", "gr\u00fcn") + clip.suffix))
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces" / f"{unicodedata.normalize('NFC', named.stem)}.npy", np.zeros((2, 8, 8, 3), np.uint8))
    assert FaceReader(MediaLimits(), crops=tmp_path / "faces")(named, 4, 48).share > 0


def test_a_clip_that_the_crops_do_not_know_is_left_out(make_clip, tone, numbered, tmp_path):
    """As when `media.crops` names the folder above or below the right one: nothing is found, and that is said."""
    (tmp_path / "faces/another").mkdir(parents=True)
    with pytest.raises(ClipError, match=r"has no face crops: .*faces holds neither clip/ nor clip\.npy nor"):
        FaceReader(MediaLimits(), crops=tmp_path / "faces")(make_clip(frames=numbered(), sound=tone()), 4, 48)


@pytest.mark.parametrize(
    "content",
    [
        np.zeros((3, 8, 8), np.uint8),
        np.zeros((3, 8, 8, 3), np.float32),
        np.zeros((3, 0, 8, 3), np.uint8),
        np.array([{"a": 1}], dtype=object),
    ],
)
def test_arrays_that_are_no_crops_are_a_reason_of_that_clip(make_clip, tone, numbered, tmp_path, content):
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces" / "clip.npy", content, allow_pickle=True)
    clip = make_clip(frames=numbered(), sound=tone())
    with pytest.raises(ClipError, match=r"has face crops .*clip\.npy"):
        FaceReader(MediaLimits(), crops=tmp_path / "faces")(clip, 4, 48)


@pytest.mark.parametrize("content", [b"", b"no image", b"BM" + bytes(40)])
def test_a_broken_image_is_a_reason_of_that_clip(make_clip, tone, numbered, tmp_path, content):
    folder = tmp_path / "faces" / "clip"
    folder.mkdir(parents=True)
    (folder / "1.bmp").write_bytes(content)
    with pytest.raises(ClipError, match=r"no readable image \(1\.bmp\)"):
        FaceReader(MediaLimits(), crops=tmp_path / "faces")(make_clip(frames=numbered(), sound=tone()), 4, 48)


def test_a_bad_clip_is_refused_though_it_has_crops(make_clip, numbered, tmp_path):
    (tmp_path / "faces").mkdir()
    np.save(tmp_path / "faces" / "clip.npy", coloured(5))
    with pytest.raises(ClipError, match="no audio track"):
        FaceReader(MediaLimits(), crops=tmp_path / "faces")(make_clip(frames=numbered()), 4, 48)


def test_the_profile_chooses_the_way(tmp_path):
    assert face_reader(MediaLimits()).crops is None
    (tmp_path / "faces").mkdir()
    assert face_reader(MediaLimits(crops="faces"), tmp_path).crops == tmp_path / "faces"
    with pytest.raises(InputError, match=r"gone: no such folder of face crops"):
        face_reader(MediaLimits(crops="gone"), tmp_path)
    with pytest.raises(InputError, match=r"x\.onnx: no such face detector"):
        face_reader(MediaLimits(detector="x.onnx"), tmp_path)


@pytest.mark.parametrize(
    ("values", "complaint"),
    [
        ({"detector": "../x.onnx"}, r"detector must be a relative path without '\.\.', got '\.\./x\.onnx'"),
        ({"crops": "/faces"}, "crops must be a relative path"),
        ({"crops": "faces", "detector": "x.onnx"}, "detector must be '' where crops are ready"),
    ],
)
def test_wrong_places_are_refused(values, complaint):
    with pytest.raises(ValueError, match=complaint):
        MediaLimits(**values)


@pytest.mark.skipif(not MODEL.is_file(), reason="../shared/data/checkpoints is absent")
def test_a_named_detector_is_used(tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(MODEL.read_bytes())
    (detector,) = face_reader(MediaLimits(detector="yunet.onnx"), tmp_path).detectors
    assert detector.find(np.zeros((64, 64, 3), np.uint8)) is None
