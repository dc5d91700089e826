from pathlib import Path

import av
import cv2
import numpy as np
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_frames
from mer_pnao.media.face_reader import FaceReader
from mer_pnao.media.faces import HAAR, follow_face
from mer_pnao.media.yunet import yunet

DATA = Path(__file__).parents[3] / "shared" / "data"
REAL, MODEL = DATA / "media", DATA / "checkpoints" / "face_detection_yunet.onnx"
needs_data = pytest.mark.skipif(not (REAL.is_dir() and MODEL.is_file()), reason="../shared/data is absent")


def test_a_missing_or_foreign_file_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"absent\.onnx: no such face detector"):
        yunet(tmp_path / "absent.onnx")
    (tmp_path / "other.onnx").write_bytes(b"not a network")
    with pytest.raises(InputError, match=r"other\.onnx is not a YuNet model in ONNX"):
        yunet(tmp_path / "other.onnx")


@needs_data
def test_it_finds_the_face_in_every_frame_where_the_cascade_misses_many():
    with av.open(str(REAL / "no_audio.mp4")) as container:
        frames = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert len(frames) == 120
    (detector,) = yunet(MODEL)
    found = [detector.find(frame) for frame in frames]
    assert sum(box is not None for box in found) == 120
    assert follow_face(frames, yunet(MODEL)).share == 1.0
    thorough = HAAR[1].find
    boxes = [
        (box, seen) for box, frame in zip(found[::6], frames[::6], strict=True) if (seen := thorough(frame)) is not None
    ]
    assert len(boxes) < 20  # of 20
    for box, seen in boxes:
        # The two agree on where the face is: each centre lies well inside the other's box.
        assert np.abs(box[:2] - seen[:2]).max() < 0.3 * min(box[2], seen[2])


@needs_data
def test_a_box_is_in_pixels_of_the_frame_however_far_it_was_shrunk():
    (frame,) = read_frames(REAL / "clips" / "01-01-01-01-01-01.mp4", {41}, MediaLimits())
    large = cv2.resize(frame, None, fx=4, fy=4, interpolation=cv2.INTER_CUBIC)
    (detector,) = yunet(MODEL)
    np.testing.assert_allclose(detector.find(large) / 4, detector.find(frame), atol=0.1 * detector.find(frame)[2])


@needs_data
def test_a_cartoon_has_no_face():
    assert FaceReader(MediaLimits(), yunet(MODEL))(REAL / "no_face_720p.mp4", 4, 64).share == 0.0
