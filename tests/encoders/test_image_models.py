"""Image models, tiny and random, against the library's own forward pass."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from safetensors.torch import load_file, save_file

from mer_pnao.encoders.image_models import load_image_model
from mer_pnao.foundations.errors import InputError

SMALL = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "image_size": 32,
    "patch_size": 8,
}
TEXT = {**SMALL, "vocab_size": 20, "max_position_embeddings": 8}
MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


def tiny(kind: str) -> torch.nn.Module:
    torch.manual_seed(2)
    t = transformers
    config = {
        "vit": lambda: t.ViTConfig(**SMALL),
        "dinov2": lambda: t.Dinov2Config(**SMALL),
        "clip": lambda: t.CLIPConfig(text_config=TEXT, vision_config=SMALL, projection_dim=24),
        "siglip": lambda: t.SiglipConfig(text_config=TEXT, vision_config=SMALL),
        "resnet": lambda: t.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1]),
    }[kind]()
    network = t.AutoModel.from_config(config).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def write(network: torch.nn.Module, folder: Path, processor: str) -> Path:
    network.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(
        json.dumps(
            {
                "image_processor_type": processor,
                "do_resize": True,
                "size": {"height": 32, "width": 32},
                "resample": 2,
                "do_rescale": True,
                "rescale_factor": 1 / 255,
                "do_normalize": True,
                "image_mean": MEAN,
                "image_std": STD,
                "do_center_crop": False,
            }
        )
    )
    return folder


PROCESSORS = {
    "vit": "ViTImageProcessor",
    "dinov2": "ViTImageProcessor",
    "clip": "CLIPImageProcessor",
    "siglip": "SiglipImageProcessor",
    "resnet": "ViTImageProcessor",
}


@pytest.fixture
def images() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (3, 40, 40, 3), dtype=np.uint8)


def prepared(images: np.ndarray) -> torch.Tensor:
    """By hand: Pillow's bilinear resizing, then the mean and deviation of each channel."""
    small = np.stack(
        [np.asarray(Image.fromarray(image).resize((32, 32), Image.Resampling.BILINEAR)) for image in images]
    )
    return torch.from_numpy(((small / 255 - MEAN) / STD).transpose(0, 3, 1, 2).astype(np.float32))


def expected(network: torch.nn.Module, kind: str, pool: str, images: np.ndarray) -> np.ndarray:
    with torch.inference_mode():
        pixels = prepared(images)
        if kind in ("clip", "siglip"):
            seen = network.vision_model(pixel_values=pixels)
            if kind == "clip" and pool == "pooled":
                return network.visual_projection(seen.pooler_output).numpy()
        else:
            seen = network(pixel_values=pixels)
        if pool == "pooled":
            return seen.pooler_output.flatten(1).numpy()
        last = seen.last_hidden_state
        if last.ndim == 4:
            return last.mean(dim=(2, 3)).numpy()
        return (last[:, 0] if pool == "cls" else last.mean(dim=1)).numpy()


@pytest.mark.parametrize(
    ("kind", "pool", "width"),
    [
        ("clip", "pooled", 24),
        ("clip", "cls", 32),
        ("dinov2", "pooled", 32),
        ("dinov2", "mean", 32),
        ("vit", "pooled", 32),
        ("vit", "mean", 32),
        ("siglip", "pooled", 32),
        ("resnet", "pooled", 16),
        ("resnet", "mean", 16),
    ],
)
def test_embeds_as_the_library_does(kind, pool, width, images, tmp_path, capfd):
    network = tiny(kind)
    folder = write(network, tmp_path / "x", PROCESSORS[kind])
    capfd.readouterr()  # the library's bar while it writes
    model = load_image_model(folder, pool)
    assert (model.width, model.crop_side) == (width, 32)
    with torch.inference_mode():
        ours = model.embed(model.preprocess(images)).numpy()
        alone = model.embed(model.preprocess(images[1:2])).numpy()
    np.testing.assert_allclose(ours, expected(network, kind, pool, images), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(ours[1:2], alone, atol=1e-5)
    assert capfd.readouterr() == ("", "")


def classifier(tmp_path: Path) -> Path:
    """A ViT as it is fine-tuned: a head, and no pooler."""
    torch.manual_seed(2)
    return write(
        transformers.ViTForImageClassification(transformers.ViTConfig(**SMALL)), tmp_path / "x", "ViTImageProcessor"
    )


def test_a_head_is_left_out_and_a_pooler_that_is_not_there_is_not_made_up(images, tmp_path):
    folder = classifier(tmp_path)
    model = load_image_model(folder, "cls")
    network = transformers.ViTForImageClassification.from_pretrained(folder).eval()
    with torch.inference_mode():
        ours = model.embed(model.preprocess(images)).numpy()
    np.testing.assert_allclose(ours, expected(network.vit, "vit", "cls", images), atol=1e-5)
    with pytest.raises(InputError, match=r"the key pooler\.dense\.bias is missing; take another pool"):
        load_image_model(folder, "pooled")


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("dinov2", lambda s: s.pop("layernorm.bias"), r"layernorm\.bias is missing"),
        ("dinov2", lambda s: s.update({"stray": torch.zeros(1)}), "the key stray is unexpected"),
        ("dinov2", lambda s: s.update({"layernorm.bias": torch.zeros(3)}), r"layernorm\.bias is mismatched"),
        ("clip", lambda s: s.update({"stray": torch.zeros(1)}), "the key stray is unexpected"),
        ("clip", lambda s: s.pop("visual_projection.weight"), r"visual_projection\.weight is missing"),
    ],
)
def test_a_misfit_is_refused_by_its_first_key(tmp_path, kind, change, message):
    folder = write(tiny(kind), tmp_path / "x", PROCESSORS[kind])
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=message):
        load_image_model(folder, "pooled")


def test_an_embedding_that_the_model_lacks_is_refused(tmp_path):
    folder = write(tiny("resnet"), tmp_path / "x", PROCESSORS["resnet"])
    with pytest.raises(InputError, match="no embedding of the kind pool = 'cls'"):
        load_image_model(folder, "cls")


@pytest.mark.parametrize("kind", ["bert", "hubert", "no-such-model"])
def test_what_sees_no_images_is_refused(tmp_path, kind):
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    with pytest.raises(InputError, match=f"'{kind}'"):
        load_image_model(tmp_path, "pooled")


@pytest.mark.parametrize("text", [None, "{", '{"image_processor_type": "NoSuch"}'])
def test_without_a_preprocessor_nothing_is_guessed(tmp_path, text):
    folder = write(tiny("vit"), tmp_path / "x", PROCESSORS["vit"])
    path = folder / "preprocessor_config.json"
    path.unlink()
    if text is not None:
        path.write_text(text)
    with pytest.raises(InputError, match=r"preprocessor_config\.json"):
        load_image_model(folder, "pooled")


def test_code_from_a_checkpoint_is_never_run(tmp_path):
    folder = write(tiny("vit"), tmp_path / "x", PROCESSORS["vit"])
    (folder / "evil.py").write_text("import pathlib; pathlib.Path('evil').mkdir()")
    for name in ("config.json", "preprocessor_config.json"):
        content = json.loads((folder / name).read_text())
        content["auto_map"] = {"AutoModel": "evil.Evil", "AutoConfig": "evil.Evil", "AutoImageProcessor": "evil.Evil"}
        (folder / name).write_text(json.dumps(content))
    load_image_model(folder, "pooled")
    assert not Path("evil").exists()
