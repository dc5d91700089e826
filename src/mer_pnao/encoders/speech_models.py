"""The speech models of transformers that hear a waveform, by the `model_type` of their checkpoint.

They share one shape: convolutions (`feature_extractor`), a projection (`feature_projection`), and a transformer
(`encoder.layers`) whose layers' outputs are the hidden states.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub.errors import StrictDataclassError
from torch import Tensor
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from mer_pnao.encoders.checkpoints import load_strictly
from mer_pnao.encoders.library import without_scipy
from mer_pnao.encoders.model_folder import PREPROCESSOR, one_line, read_config, read_weights
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json

# Every `model_type` that is taken, and whether a mask keeps padding away from the real frames.
FAMILIES: Mapping[str, bool] = {
    "hubert": True,
    "wav2vec2": True,
    "unispeech": True,
    "unispeech-sat": True,
    "wavlm": False,  # beside its position bias, torch warns against the library's kind of mask
    "data2vec-audio": False,  # through a stack of positional convolutions, padding seeps in behind the mask
}
HUBERT_FAMILIES = ("hubert", "wav2vec2")
WHISPER = "whisper"  # of another shape, hence a file of its own
# What tasks put on top of the model, whose keys then bear its prefix and these do not.
_HEADS = (
    *("lm_head.", "ctc_proj."),  # recognition
    *("classifier.", "projector.", "layer_weights"),  # classification
    *("feature_extractor.", "tdnn.", "objective."),  # speakers
    *("quantizer.", "project_q.", "project_hid."),  # pre-training
    *("speaker_proj.", "label_embeddings_concat", "layer_norm_for_extract."),
)
_RENAMED = {".weight_g": ".parametrizations.weight.original0", ".weight_v": ".parametrizations.weight.original1"}
_MASKING = "masked_spec_embed"  # serves only training, and some published checkpoints lack it


@dataclass(frozen=True)
class SpeechModel:
    """A loaded model in evaluation mode, float32 on the CPU, and how it wants to be used."""

    network: Any  # the library's model
    normalize: bool  # whether a clip is brought to zero mean and unit variance first
    maskable: bool  # whether clips of different lengths may share a batch


def load_speech_model(folder: Path, families: tuple[str, ...]) -> SpeechModel:
    """Loads a checkpoint strictly: each tensor has its place, but for the heads that tasks put on top.

    The folder is in the layout of transformers, with safetensors or PyTorch files, of one of these `FAMILIES`. Raises
    InputError for one that is no such checkpoint or does not fit, naming the first key.
    """
    kind, content = family_of(folder, families), read_config(folder)
    with without_scipy():
        model: Any = MODEL_MAPPING[CONFIG_MAPPING[kind]]
    try:
        config = model.config_class.from_dict(content)
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / 'config.json'} does not fit {model.__name__}: {one_line(error)}") from error

    def build() -> Any:
        try:
            network = model(config)
        except (KeyError, TypeError, RuntimeError, ImportError) as error:
            raise ValueError(one_line(error)) from error
        if hasattr(network, _MASKING):
            delattr(network, _MASKING)
        return network

    network = load_strictly(build, _model_weights(read_weights(folder), model.base_model_prefix), folder)
    maskable = FAMILIES[kind] and not getattr(config, "conv_pos_batch_norm", False)  # its bias fills the padding
    return SpeechModel(network, _wants_normalized_input(folder), maskable)


def family_of(folder: Path, families: Sequence[str]) -> str:
    """The `model_type` of a checkpoint. Raises InputError where it is none of these, or the folder is no checkpoint."""
    kind: str = read_config(folder)["model_type"]
    if kind not in families:
        raise InputError(f"{folder}: the model_type must be one of {', '.join(families)}, not {kind!r}")
    return kind


def refuse_wrong_layers(checkpoint: Path | str, layers: Sequence[int], depth: int) -> None:
    """Raises InputError where no layer is asked for, one twice, or one that a model of this depth lacks."""
    if not layers or len(set(layers)) != len(layers) or not all(0 <= k <= depth for k in layers):
        raise InputError(f"{checkpoint}: layers must be distinct and in [0, {depth}], got {list(layers)}")


def _model_weights(state: Mapping[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """The model's own tensors as float32 under the library's present names, without the prefix that a head brings."""
    prefixed = any(key.startswith(f"{prefix}.") for key in state)
    own: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix(f"{prefix}.")
        if name == _MASKING or (prefixed and name == key and key.startswith(_HEADS)):
            continue
        for old, new in _RENAMED.items():
            name = name.removesuffix(old) + new if name.endswith(old) else name
        own[name] = tensor.float() if tensor.is_floating_point() else tensor
    return own


def _wants_normalized_input(folder: Path) -> bool:
    """`do_normalize` of the checkpoint's own preprocessor, which says how the model was trained.

    Where it does not say, sound is normalised, as `transformers` does; a folder without a preprocessor, which holds a
    bare model, takes sound as it is.
    """
    path = folder / PREPROCESSOR
    value = read_json(path).get("do_normalize", True) if path.is_file() else False
    if not isinstance(value, bool):
        raise InputError(f"{path}: do_normalize must be true or false, not {value!r}")
    return value


def frame_geometry(network: Any) -> tuple[int, int]:
    """Samples that one frame sees, and samples from one frame to the next: 400 and 320 in published models."""
    sees, step = 1, 1
    for kernel, stride in zip(network.config.conv_kernel, network.config.conv_stride, strict=True):
        sees += (kernel - 1) * step
        step *= stride
    return sees, step
