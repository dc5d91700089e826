"""What extraction does with noisy twins, detectors and ready crops, through the demo's encoders."""

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip
from mer_pnao.features.sets import read_set
from mer_pnao.foundations.files import digest
from mer_pnao.media.config import CorruptionConfig, MediaLimits
from mer_pnao.media.corruption import corruption_of
from mer_pnao.media.decode import read_sound

DATA = Path(__file__).parents[3] / "shared" / "data"
FACES = EncoderConfig("manet", "manet.safetensors", precision="fp32", frames=3)
SPEECH = EncoderConfig("hubert", "hubert", layers=(2,), precision="fp32")


@pytest.fixture
def media() -> Path:
    if not DATA.is_dir():
        pytest.skip("../shared/data is absent")
    return DATA / "media"


@pytest.fixture
def clips(media: Path) -> list[Clip]:
    return [Clip(path.stem, path) for path in sorted((media / "clips").glob("*.mp4"))[:3]]


def twins(clips: list[Clip], noise: list[Path], seed: int = 0) -> list[Clip]:
    config = CorruptionConfig(snr_low=0, snr_high=0, blur=(4,), seed=seed)
    return [Clip(f"{c.name}_noisy", c.path, corruption_of(config, noise, f"{c.name}_noisy")) for c in clips]


@pytest.mark.parametrize(("name", "config"), [("hubert", SPEECH), ("manet", FACES)])
def test_a_noisy_twin_has_a_vector_of_its_own_and_leaves_the_others_alone(demo, clips, tmp_path, name, config):
    encoder = build_encoder(name, config, demo)
    noise = [clips[2].path]
    (set_name,) = encoder.sets

    def vectors(listed: list[Clip], out: str) -> np.ndarray:
        extract(listed, encoder, tmp_path / out, tmp_path / f"work-{out}")
        return read_set(tmp_path / out / set_name).vectors

    clean = vectors(clips, "clean")
    both = vectors([*clips, *twins(clips[:2], noise)], "both")
    np.testing.assert_allclose(both[:3], clean, atol=1e-5)
    spread = np.abs(clean[0] - clean[1]).mean()
    assert (np.abs(both[3:] - clean[:2]).mean(axis=1) > 0.05 * spread).all()
    np.testing.assert_array_equal(vectors([*clips, *twins(clips[:2], noise)], "again"), both)

    told = json.loads((tmp_path / "both" / "identity.json").read_text())
    assert told.pop("corrupted") == {f"{clip.name}_noisy": {"snr": 0.0, "blur": 4} for clip in clips[:2]}
    assert told == json.loads((tmp_path / "clean" / "identity.json").read_text())


def test_the_twins_sound_is_the_clip_with_noise(demo, clips):
    encoder = build_encoder("hubert", SPEECH, demo)
    (twin,) = twins(clips[:1], [clips[2].path])
    clean = read_sound(twin.path, MediaLimits()).astype(np.float64)
    mixture = encoder.reader(twin.path, twin.corruption).content.astype(np.float64)
    scale = 1 / max(1.0, np.abs(mixture).max())  # turned down only when it is at full scale
    assert scale == 1.0
    rest = mixture - clean * (mixture @ clean) / (clean @ clean)
    assert 10 * np.log10(np.mean(clean**2) / np.mean(rest**2)) == pytest.approx(0.0, abs=1.0)  # voices correlate a bit


def test_finished_shards_of_twins_serve_only_the_same_noise(tmp_path, stub, write_clips):
    clips = write_clips(["one", "two", "three"])
    noise = [tmp_path / "noise.wav"]
    noise[0].write_bytes(b"first")

    def decoded(listed: list[Clip]) -> int:
        encoder = stub()
        extract(listed, encoder, tmp_path / "out", tmp_path / "work")
        return len(encoder.decoded)

    assert decoded(clips) == 3
    assert decoded([*clips, *twins(clips, noise)]) == 6
    assert decoded([*clips, *twins(clips, noise)]) == 0
    assert decoded([*clips, *twins(clips, noise, seed=1)]) == 6
    noise[0].write_bytes(b"second")
    assert decoded([*clips, *twins(clips, noise)]) == 6


def test_the_share_of_frames_with_a_face_is_recorded(demo, media, clips, tmp_path):
    clips.append(Clip("cartoon, with a comma", media / "no_face_720p.mp4"))
    clips.append(Clip("mute", media / "no_audio.mp4"))
    extract(clips, build_encoder("manet", FACES, demo), tmp_path / "faces", tmp_path / "work", 2, max_skipped=0.5)
    with (tmp_path / "faces" / "faces.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["name"] for row in rows] == [clip.name for clip in clips[:4]]
    assert {row["frames"] for row in rows} == {"3"}
    assert [float(row["share"]) > 0 for row in rows] == [True, True, True, False]

    extract(clips, build_encoder("hubert", SPEECH, demo), tmp_path / "speech", tmp_path / "work", 2, max_skipped=0.5)
    assert not (tmp_path / "speech" / "faces.csv").exists()


def test_a_detector_and_ready_crops_are_told_by_content_and_only_of_images(demo, media, tmp_path):
    model = DATA / "checkpoints" / "face_detection_yunet.onnx"
    for name in ("manet.safetensors", "hubert"):
        (tmp_path / name).symlink_to(demo / name)
    (tmp_path / "a.onnx").write_bytes(model.read_bytes())
    (tmp_path / "b.onnx").write_bytes(model.read_bytes())
    (tmp_path / "crops").mkdir()
    np.save(tmp_path / "crops" / "x.npy", np.zeros((2, 8, 8, 3), np.uint8))

    def identity(config: EncoderConfig, **places: str) -> dict[str, object]:
        return dict(build_encoder("x", config, tmp_path, MediaLimits(**places)).identity)

    plain = identity(FACES)
    assert identity(FACES, detector="a.onnx") == plain | {"detector_sha256": digest(model)}
    assert identity(FACES, detector="b.onnx") == identity(FACES, detector="a.onnx")
    first = identity(FACES, crops="crops")
    np.save(tmp_path / "crops" / "x.npy", np.ones((2, 8, 8, 3), np.uint8))
    assert len({str(one) for one in (plain, first, identity(FACES, crops="crops"))}) == 3
    assert identity(SPEECH, detector="a.onnx", crops="") == identity(SPEECH)
