"""Any image model of transformers by its checkpoint: CLIP, DINOv2, ViT, ResNet and their like.

Legend of shapes: B images, D the width of an embedding.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoImageProcessor

from mer_pnao.encoders.config import Pool
from mer_pnao.encoders.images import ImageNetwork
from mer_pnao.encoders.library import with_weights, without_scipy
from mer_pnao.encoders.model_folder import PREPROCESSOR, one_line, read_config, read_weights
from mer_pnao.foundations.errors import InputError

# Checkpoints of two towers, of which the one for images is loaded: its class, and the starts of its keys and of the
# other's.
_TOWERS: Mapping[str, tuple[str, tuple[str, ...], tuple[str, ...]]] = {
    "clip": (
        "CLIPVisionModelWithProjection",
        ("vision_model.", "visual_projection."),
        ("text_model.", "text_projection.", "logit_scale"),
    ),
    "siglip": ("SiglipVisionModel", ("vision_model.",), ("text_model.", "logit_scale", "logit_bias")),
}
# What tasks put on top of a model.
_HEADS = ("classifier.", "cls_classifier.", "distillation_classifier.", "lm_head.")


def load_image_model(folder: Path, pool: Pool) -> ImageNetwork:
    """Loads a checkpoint strictly: each tensor has its place, but for the heads that tasks put on top.

    The folder is in the layout of transformers, with safetensors or PyTorch files and `preprocessor_config.json`.
    Raises InputError for one that is no such checkpoint, does not fit, naming the first key, or has no embedding of the
    kind `pool`, for which see `EncoderConfig`.
    """
    content = read_config(folder)
    with without_scipy():
        model, config, ours, others = _class_of(folder, content)
    state = {key: tensor for key, tensor in read_weights(folder).items() if not key.startswith(others)}
    if stray := next((key for key in state if ours and not key.startswith(ours)), None):
        raise InputError(f"{folder} does not fit: the key {stray} is unexpected")
    network, report = with_weights(model, config, state, folder)
    _refuse_misfit(folder, report, pool)
    processor = _processor(folder)

    def preprocess(images: NDArray[np.uint8]) -> Tensor:
        prepared: Tensor = processor(images=list(images), return_tensors="pt")["pixel_values"]
        return prepared

    def embed(images: Tensor) -> Tensor:
        pooled = _pooled(network(pixel_values=images), pool)
        if pooled is None or pooled.ndim != 2:
            raise InputError(f"{folder}: its model has no embedding of the kind pool = {pool!r}")
        return pooled

    sides = [side for side in dict(getattr(processor, "size", None) or {}).values() if isinstance(side, int)]
    side = max(sides, default=224)
    try:
        with torch.inference_mode():
            width = embed(preprocess(np.full((1, side, side, 3), 128, dtype=np.uint8))).shape[1]
    except InputError:
        raise
    except (ValueError, RuntimeError, TypeError, IndexError) as error:
        raise InputError(f"{folder} does not take the images of its own preprocessor: {one_line(error)}") from error
    return ImageNetwork(network, preprocess, embed, side, width)


def _class_of(folder: Path, content: Mapping[str, Any]) -> tuple[Any, Any, tuple[str, ...], tuple[str, ...]]:
    """The library's class, its configuration, and the starts of the keys that are its own and another tower's."""
    kind = content["model_type"]
    try:
        if kind in _TOWERS:
            name, ours, others = _TOWERS[kind]
            model = getattr(transformers, name)
            vision = dict(content["vision_config"])
            vision |= {"projection_dim": content["projection_dim"]} if "projection_dim" in content else {}
            return model, model.config_class.from_dict(vision), ours, others
        config = CONFIG_MAPPING[kind].from_dict(dict(content))
        model = MODEL_MAPPING[type(config)]
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder}: {kind!r} is no model of images that fits: {one_line(error)}") from error
    if model.main_input_name != "pixel_values":
        raise InputError(f"{folder}: a {kind!r} model takes {model.main_input_name} and no images")
    return model, config, (), _HEADS


def _refuse_misfit(folder: Path, report: Mapping[str, Any], pool: Pool) -> None:
    # What serves only training, or an embedding that is not taken.
    unused = ("mask_token", "pooler.") if pool != "pooled" else ("mask_token",)
    for what in ("missing", "unexpected", "mismatched"):
        for entry in sorted(report[f"{what}_keys"], key=str):
            key = entry[0] if isinstance(entry, tuple) else entry
            if what == "missing" and any(part in key for part in unused):
                continue
            way_out = "; take another pool" if what == "missing" and "pooler." in key else ""
            raise InputError(f"{folder} does not fit: the key {key} is {what}{way_out}")


def _processor(folder: Path) -> Any:
    if not (folder / PREPROCESSOR).is_file():
        raise InputError(f"{folder} holds no {PREPROCESSOR}, which says how its model wants images")
    try:
        return AutoImageProcessor.from_pretrained(folder, backend="pil", local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise InputError(f"{folder / PREPROCESSOR} prepares no images: {one_line(error)}") from error


def _pooled(output: Any, pool: Pool) -> Tensor | None:
    if pool == "pooled":
        embedding: Tensor | None = getattr(output, "image_embeds", None)
        embedding = getattr(output, "pooler_output", None) if embedding is None else embedding
        return None if embedding is None else embedding.flatten(1)
    last: Tensor = output.last_hidden_state
    if last.ndim == 4:  # a map (B, D, height, width), of a convolutional network
        return last.mean(dim=(2, 3)) if pool == "mean" else None
    return last.mean(dim=1) if pool == "mean" else last[:, 0]
