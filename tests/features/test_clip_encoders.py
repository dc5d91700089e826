import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.encoders.checkpoints import digest
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.encoders.manet import load_manet, preprocess
from mer_pnao.errors import InputError
from mer_pnao.features.clip_encoders import DecodedClip, build_encoder
from mer_pnao.features.extract import Clip, extract
from mer_pnao.features.store import load_sets
from mer_pnao.media.decode import MediaLimits, decode_audio

REAL = Path(__file__).parents[3] / "shared" / "data" / "media"

CONFIGS = {
    "hubert": EncoderConfig("hubert", "hubert", layers=(18, 20), precision="fp32", batch=3),
    "manet": EncoderConfig("manet", "manet.safetensors", precision="fp32", frames=3, batch=3),
    "resnet": EncoderConfig("resnet", "resnet.safetensors", precision="fp32", frames=3, batch=3),
}


@pytest.fixture
def media() -> Path:
    if not REAL.is_dir():
        pytest.skip("the real clips of ../shared/data/media are absent")
    return REAL


@pytest.mark.parametrize("name", CONFIGS)
def test_real_clips_are_all_extracted_and_the_odd_ones_listed(demo, media, tmp_path, name):
    clips = [Clip(path.stem, path) for path in sorted((media / "clips").glob("*.mp4"))]
    odd = [Clip(path.stem, path) for path in (media / "no_audio.mp4", media / "no_face_720p.mp4")]
    for clip, content in (("empty", b""), ("text", b"hello\n" * 99)):
        (tmp_path / f"{clip}.mp4").write_bytes(content)
        odd.append(Clip(clip, tmp_path / f"{clip}.mp4"))
    encoder = build_encoder(name, CONFIGS[name], demo)
    report = extract([*clips, *odd], encoder, tmp_path / "f" / name, tmp_path / "work", 10, max_skipped=0.15)

    sets = load_sets(tmp_path / "f", list(CONFIGS[name].sets(name)))
    assert {key: found.width for key, found in sets.items()} == encoder.sets
    for found in sets.values():
        assert found.names == (*(clip.name for clip in clips), "no_face_720p")
        assert found.vectors.std(axis=0).min() > 0
    actions = {entry.name: (entry.action, entry.reason) for entry in report.listed}
    faceless = {} if name == "hubert" else {"no_face_720p": ("whole_frame", "no face was found")}
    assert actions == faceless | {
        "no_audio": ("skipped", "has no audio track"),
        "empty": ("skipped", "is empty"),
        "text": ("skipped", "is not a readable video file (Invalid data found when processing input)"),
    }


def test_speech_vectors_are_the_layers_of_the_clips_sound(demo, media):
    path = media / "clips" / "01-01-01-01-01-01.mp4"
    encoder = build_encoder("voice", CONFIGS["hubert"], demo)
    vectors = encoder.encode([encoder.decode(path)])
    direct = HubertLayers(demo / "hubert", [20], "fp32")([decode_audio(path, MediaLimits())])[20]
    np.testing.assert_array_equal(vectors["voice-20"], direct)


def crops(count: int, seed: int) -> DecodedClip:
    rng = np.random.default_rng(seed)
    return DecodedClip(rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8))


def test_face_vectors_are_means_over_the_clips_own_frames(demo, monkeypatch):
    monkeypatch.setattr("mer_pnao.features.clip_encoders._IMAGES_AT_ONCE", 4)  # clips straddle the chunks
    encoder = build_encoder("manet", CONFIGS["manet"], demo)
    clips = [crops(3, 0), crops(1, 1), crops(5, 2)]
    together = encoder.encode(clips)["manet"]
    network = load_manet(demo / "manet.safetensors")
    for row, clip in zip(together, clips, strict=True):
        with torch.inference_mode():
            frames = [network.embed(preprocess(clip.content[i : i + 1]))[0] for i in range(len(clip.content))]
        np.testing.assert_allclose(row, torch.stack(frames).mean(dim=0).numpy(), atol=1e-5)
    assert encoder.encode([])["manet"].shape == (0, 128)


def test_the_order_of_the_splits_reaches_the_network(demo):
    config = EncoderConfig("manet", "manet.safetensors", precision="fp32", order="reverse")
    forward = build_encoder("manet", CONFIGS["manet"], demo).encode([crops(1, 0)])["manet"][0]
    reverse = build_encoder("manet", config, demo).encode([crops(1, 0)])["manet"][0]
    np.testing.assert_allclose(forward[:64], reverse[:64], atol=1e-6)  # the local half has no splits
    assert np.abs(forward[64:] - reverse[64:]).max() > 1e-2


def test_the_identity_tells_all_that_determines_the_vectors(demo, tmp_path):
    def identity(root: Path = demo, limits: MediaLimits | None = None, **changes) -> str:
        values = {"kind": "manet", "checkpoint": "manet.safetensors", "precision": "fp32"} | changes
        return json.dumps(build_encoder("x", EncoderConfig(**values), root, limits).identity, sort_keys=True)

    shutil.copy(demo / "manet.safetensors", tmp_path / "elsewhere.safetensors")
    assert identity() == identity(tmp_path, checkpoint="elsewhere.safetensors")
    assert digest(demo / "manet.safetensors") in identity()
    others = [
        identity(precision="bf16"),
        identity(frames=9),
        identity(order="reverse"),
        identity(limits=MediaLimits(max_seconds=5.0)),
        identity(kind="resnet", checkpoint="resnet.safetensors"),
        identity(kind="hubert", checkpoint="hubert", layers=(3,)),
        identity(kind="hubert", checkpoint="hubert", layers=(4,)),
    ]
    assert len({identity(), *others}) == 8


def test_a_missing_checkpoint_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(InputError, match=r"manet\.safetensors: no such checkpoint .*`dvc repro`"):
        build_encoder("manet", CONFIGS["manet"], tmp_path)


def test_a_layer_that_the_checkpoint_lacks_is_refused(demo):
    with pytest.raises(InputError, match=r"hubert: layers must be distinct and in \[0, 24\], got \[25\]"):
        build_encoder("hubert", EncoderConfig("hubert", "hubert", layers=(25,)), demo)
