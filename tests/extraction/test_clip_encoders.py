import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.nn.modules.module import register_module_forward_pre_hook
from transformers import ViTConfig, ViTModel

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.encoders.image_models import load_image_model
from mer_pnao.encoders.manet import load_manet, preprocess
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.extraction import clip_encoders
from mer_pnao.extraction import clip_reader as decoding
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip
from mer_pnao.features.sets import load_sets
from mer_pnao.foundations.errors import InputError
from mer_pnao.media import face_reader
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_sound
from mer_pnao.media.face_reader import OnDemand

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
    assert {key: found.vectors.shape[1] for key, found in sets.items()} == encoder.sets
    for found in sets.values():
        assert sorted(found.names) == sorted([*(clip.name for clip in clips), "no_face_720p"])
        assert found.vectors.std(axis=0).min() > 0
    actions = {entry.name: (entry.action, entry.reason) for entry in report.remarks}
    faceless = {} if name == "hubert" else {"no_face_720p": ("whole_frame", "no face was found")}
    assert actions == faceless | {
        "no_audio": ("skipped", "has no audio track"),
        "empty": ("skipped", "is empty"),
        "text": ("skipped", "is not a readable video file (Invalid data found when processing input)"),
    }


def test_speech_vectors_are_the_layers_of_the_clips_sound(demo, media):
    path = media / "clips" / "01-01-01-01-01-01.mp4"
    encoder = build_encoder("voice", CONFIGS["hubert"], demo)
    vectors = encoder.encode([encoder.reader(path)])
    direct = HubertLayers(demo / "hubert", [20], "fp32")([read_sound(path, MediaLimits())])[20]
    np.testing.assert_array_equal(vectors["voice-20"], direct)


def crops(count: int, seed: int) -> DecodedClip:
    rng = np.random.default_rng(seed)
    return DecodedClip(rng.integers(0, 256, (count, 224, 224, 3), dtype=np.uint8))


def test_face_vectors_are_means_over_the_clips_own_frames(demo, monkeypatch):
    monkeypatch.setitem(clip_encoders._IMAGES_AT_ONCE, "cpu", 4)  # clips straddle the chunks
    encoder = build_encoder("manet", CONFIGS["manet"], demo)
    clips = [crops(3, 0), crops(1, 1), crops(5, 2)]
    together = encoder.encode(clips)["manet"]
    network = load_manet(demo / "manet.safetensors")
    for row, clip in zip(together, clips, strict=True):
        with torch.inference_mode():
            frames = [network.embed(preprocess(clip.content[i : i + 1]))[0] for i in range(len(clip.content))]
        np.testing.assert_allclose(row, torch.stack(frames).mean(dim=0).numpy(), atol=1e-5)


def test_crops_cut_on_demand_give_the_vectors_of_those_held(demo, media, monkeypatch):
    monkeypatch.setenv("MER_WORKERS", "2")  # which share the memory
    clip = media / "clips" / "01-01-01-01-01-01.mp4"
    config = EncoderConfig("manet", "manet.safetensors", precision="fp32", frames=1000, frames_per_second=5.0)
    held, again = (
        build_encoder("x", config, demo, MediaLimits(memory_mb=memory, frame_side=240)) for memory in (4096, 64)
    )
    assert held.identity == again.identity
    long = again.reader(clip)
    assert isinstance(long.content, OnDemand)
    assert len(long.content) == len(held.reader(clip).content) == 16  # of 82 frames at 25 a second
    np.testing.assert_array_equal(again.encode([long])["x"], held.encode([held.reader(clip)])["x"])


def test_the_order_of_the_splits_reaches_the_network(demo):
    config = EncoderConfig("manet", "manet.safetensors", precision="fp32", order="reverse")
    forward = build_encoder("manet", CONFIGS["manet"], demo).encode([crops(1, 0)])["manet"][0]
    reverse = build_encoder("manet", config, demo).encode([crops(1, 0)])["manet"][0]
    np.testing.assert_allclose(forward[:64], reverse[:64], atol=1e-6)  # the local half has no splits
    assert np.abs(forward[64:] - reverse[64:]).max() > 1e-2


CHANGES = {
    "manet": (
        {"precision": "bf16"},
        {"frames": 9},
        {"frames_per_second": 2.0},
        {"order": "reverse"},
        {"limits": MediaLimits(max_seconds=5.0)},
        {"kind": "resnet", "checkpoint": "resnet.safetensors"},
    ),
    "hubert": (
        {"layers": (4,)},
        {"layers": (3, 4)},
        {"precision": "bf16"},
        {"window_seconds": 2.0},
        {"batch_seconds": 20.0},
        {"limits": MediaLimits(silence=0.01)},
    ),
    "vit": ({"pool": "cls"}, {"precision": "bf16"}, {"frames": 9}),
}


@pytest.fixture(scope="module")
def checkpoints(demo, tmp_path_factory) -> Path:
    """The demo's, and a ViT."""
    folder = tmp_path_factory.mktemp("checkpoints")
    shutil.copytree(demo, folder, dirs_exist_ok=True)
    torch.manual_seed(1)
    config = ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=32, patch_size=16
    )
    ViTModel(config).save_pretrained(folder / "vit")
    (folder / "vit" / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "ViTImageProcessor", "size": {"height": 32, "width": 32}})
    )
    return folder


BASE = {
    "manet": {"kind": "manet", "checkpoint": "manet.safetensors", "precision": "fp32"},
    "hubert": {"kind": "hubert", "checkpoint": "hubert", "precision": "fp32", "layers": (3,)},
    "vit": {"kind": "image", "checkpoint": "vit", "precision": "fp32", "pool": "mean"},
}


def built(root: Path, limits: MediaLimits | None = None, **values):
    return build_encoder("x", EncoderConfig(**values), root, limits)


@pytest.mark.parametrize("name", BASE)
def test_the_identity_tells_all_that_determines_the_vectors(checkpoints, tmp_path, name):
    base = BASE[name]
    ours = built(checkpoints, **base).identity
    where = tmp_path / "elsewhere.safetensors"
    source = checkpoints / base["checkpoint"]
    if source.is_dir():
        where = shutil.copytree(source, where.with_suffix(""))
        (where / "README.md").write_text("decides nothing")
    else:
        shutil.copy(source, where)
    assert built(tmp_path, **base | {"checkpoint": where.name}).identity == ours
    others = [built(checkpoints, **base | change).identity for change in CHANGES[name]]
    if where.is_dir():  # another preprocessor means other vectors from the same weights
        preprocessor = json.loads((where / "preprocessor_config.json").read_text())
        preprocessor |= {"do_normalize": not preprocessor.get("do_normalize", True)}
        (where / "preprocessor_config.json").write_text(json.dumps(preprocessor))
        others.append(built(tmp_path, **base | {"checkpoint": where.name}).identity)
    assert len({json.dumps(identity, sort_keys=True) for identity in (ours, *others)}) == 1 + len(others)
    assert checkpoint_digest(source) in json.dumps(ours)


@pytest.mark.parametrize("name", BASE)
def test_no_feature_set_is_used_again_for_another(checkpoints, media, tmp_path, monkeypatch, name):
    """Three clips are decoded again after each change, and not after none."""
    clips = [Clip(path.stem, path) for path in sorted((media / "clips").glob("*.mp4"))[:3]]
    decoded: list[Path] = []

    sound, frame = np.full(8000, 0.1, np.float32), np.zeros((64, 64, 3), np.uint8)
    monkeypatch.setattr(decoding, "read_sound", lambda path, *_: decoded.append(path) or sound)
    monkeypatch.setattr(face_reader, "read_frames", lambda path, *_: decoded.append(path) or iter([frame]))

    def times(**values) -> int:
        decoded.clear()
        extract(clips, built(checkpoints, **values), tmp_path / "out", tmp_path / "work", 10)
        return len(decoded)

    base = BASE[name]
    assert times(**base) == 3
    assert times(**base) == 0
    for change in CHANGES[name]:
        assert times(**base | change) == 3, change
    assert times(**base) == 0


def test_an_image_model_is_a_feature_set_by_its_checkpoint(checkpoints, media):
    encoder = built(checkpoints, **BASE["vit"], frames=3)
    clip = encoder.reader(media / "clips" / "01-01-01-01-01-01.mp4")
    assert clip.content.shape == (3, 32, 32, 3)
    model = load_image_model(checkpoints / "vit", "mean")
    with torch.inference_mode():
        frames = [model.embed(model.preprocess(clip.content[i : i + 1]))[0] for i in range(3)]
    np.testing.assert_allclose(encoder.encode([clip])["x"][0], torch.stack(frames).mean(dim=0), atol=1e-5)


@pytest.mark.parametrize("name", ["manet", "resnet"])
def test_faces_in_bfloat16_lie_channels_last_and_stay_close(demo, name):
    clips = [crops(2, 0), crops(1, 1)]
    config = EncoderConfig(name, f"{name}.safetensors", precision="bf16")
    encoder = build_encoder(name, config, demo)
    seen = []

    def watch(module, args):
        if not seen and isinstance(module, torch.nn.Conv2d):
            seen.extend([args[0], module.weight])

    hook = register_module_forward_pre_hook(watch)
    rough = encoder.encode(clips)[name]
    hook.remove()
    exact = build_encoder(name, CONFIGS[name], demo).encode(clips)[name]
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.03
    assert len(seen) == 2
    assert all(x.is_contiguous(memory_format=torch.channels_last) and x.dtype == torch.bfloat16 for x in seen)


def test_a_checkpoint_on_the_hub_is_named_or_refused_with_the_way_out(demo, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "mer_pnao.encoders.hub._cached", lambda name: demo / "hubert" if str(name) == "lab/voice@v1" else None
    )
    values = {"kind": "hubert", "layers": (3,), "precision": "fp32"}
    named = built(tmp_path, checkpoint="lab/voice@v1", **values)
    assert named.identity == built(demo, checkpoint="hubert", **values).identity
    with pytest.raises(InputError, match=r"lab/voice@v2: not there, .*`mer fetch` downloads it"):
        built(tmp_path, checkpoint="lab/voice@v2", **values)


def test_a_missing_checkpoint_is_refused_with_the_way_out(tmp_path):
    with pytest.raises(
        InputError, match=r"manet\.safetensors: no such checkpoint for manet; one on the hub is data/hub/"
    ):
        build_encoder("manet", CONFIGS["manet"], tmp_path)


def test_a_layer_that_the_checkpoint_lacks_is_refused(demo):
    with pytest.raises(InputError, match=r"hubert: layers must be distinct and in \[0, 24\], got \[25\]"):
        build_encoder("hubert", EncoderConfig("hubert", "hubert", layers=(25,)), demo)
