"""Every family of speech models, tiny and random, against the library's own forward pass."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import CONFIG_MAPPING, MODEL_MAPPING

from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.encoders.speech_models import FAMILIES, HUBERT_FAMILIES
from mer_pnao.foundations.errors import InputError

TINY = {
    "hidden_size": 32,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 48,
    "conv_dim": (16,) * 7,
    "num_conv_pos_embedding_groups": 4,
    "feat_extract_norm": "layer",
    "conv_bias": True,
    "do_stable_layer_norm": True,
}


def tiny_model(kind: str, head: str = "Model", **changes: object) -> torch.nn.Module:
    """A random model with a head; biases and norms are moved off their initial values."""
    torch.manual_seed(11)
    model = getattr(transformers, MODEL_MAPPING[CONFIG_MAPPING[kind]].__name__.removesuffix("Model") + head)
    positions = 3 if kind == "data2vec-audio" else 16
    config = model.config_class(**TINY | {"num_conv_pos_embeddings": positions} | changes)
    network = model(config).eval()
    with torch.no_grad():
        for name, parameter in network.named_parameters():
            if parameter.ndim == 1 or "rel_attn_embed" in name:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def write(network: torch.nn.Module, folder: Path, pickled: bool = False) -> Path:
    folder.mkdir(exist_ok=True)
    network.config.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": False}))
    state = {key: tensor.contiguous() for key, tensor in network.state_dict().items()}
    if pickled:  # the names of the published checkpoints, from before weight norm was a parametrisation
        old = {".parametrizations.weight.original0": ".weight_g", ".parametrizations.weight.original1": ".weight_v"}
        for new, name in old.items():
            state = {key.replace(new, name): tensor for key, tensor in state.items()}
        torch.save(state, folder / "pytorch_model.bin")
    else:
        save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(1)
    return [
        (rng.normal(0.01, 0.1, length) * np.linspace(0.3, 1, length)).astype(np.float32) for length in (5000, 12_345)
    ]


def reference(network: torch.nn.Module, waveform: np.ndarray, layer: int) -> np.ndarray:
    with torch.inference_mode():
        states = network(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states
    return states[layer][0].mean(dim=0).numpy()


@pytest.mark.parametrize("kind", FAMILIES)
def test_layers_are_the_librarys_and_independent_of_the_batch(kind, waveforms, tmp_path):
    network = tiny_model(kind)
    vectors = HubertLayers(write(network, tmp_path / "x"), [0, 1, 2], "fp32")(waveforms)
    for layer, block in vectors.items():
        for row, waveform in zip(block, waveforms, strict=True):
            np.testing.assert_allclose(row, reference(network, waveform, layer), atol=1e-5, rtol=1e-5)


def test_positions_behind_a_batch_norm_are_independent_of_the_batch(waveforms, tmp_path):
    network = tiny_model("hubert", conv_pos_batch_norm=True)
    vectors = HubertLayers(write(network, tmp_path / "x"), [2], "fp32")(waveforms)[2]
    for row, waveform in zip(vectors, waveforms, strict=True):
        np.testing.assert_allclose(row, reference(network, waveform, 2), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pickled", [False, True])
@pytest.mark.parametrize(
    ("kind", "head"),
    [
        ("hubert", "Model"),
        ("hubert", "ForCTC"),
        ("hubert", "ForSequenceClassification"),
        ("wav2vec2", "ForCTC"),
        ("wav2vec2", "ForPreTraining"),
        ("wavlm", "ForXVector"),
        ("unispeech-sat", "ForPreTraining"),
    ],
)
def test_checkpoints_with_heads_are_read_as_published(kind, head, pickled, waveforms, tmp_path):
    network = tiny_model(kind, head, use_weighted_layer_sum=True)
    vector = HubertLayers(write(network, tmp_path / "x", pickled), [2], "fp32")(waveforms[:1])[2][0]
    base = getattr(network, network.base_model_prefix, network)
    np.testing.assert_allclose(vector, reference(base, waveforms[0], 2), atol=1e-5, rtol=1e-5)


def test_half_precision_checkpoints_compute_in_full(waveforms, tmp_path):
    network = tiny_model("wav2vec2")
    folder = write(network.half(), tmp_path / "x")
    vector = HubertLayers(folder, [2], "fp32")(waveforms[:1])[2][0]
    np.testing.assert_allclose(vector, reference(network.float(), waveforms[0], 2), atol=1e-5, rtol=1e-5)


def test_shards_are_put_together(waveforms, tmp_path):
    network = tiny_model("hubert")
    whole, parts = write(network, tmp_path / "whole"), write(network, tmp_path / "parts")
    state = load_file(parts / "model.safetensors")
    (parts / "model.safetensors").unlink()
    names = {key: f"model-0000{1 + number % 2}-of-00002.safetensors" for number, key in enumerate(state)}
    for name in set(names.values()):
        save_file({key: state[key] for key in state if names[key] == name}, parts / name)
    (parts / "model.safetensors.index.json").write_text(json.dumps({"weight_map": names}))
    ours, theirs = (HubertLayers(folder, [2], "fp32")(waveforms)[2] for folder in (parts, whole))
    np.testing.assert_array_equal(ours, theirs)


@pytest.mark.parametrize(
    ("index", "message"),
    [
        ('{"weight_map": {"a": "../model.safetensors"}}', "names '../model.safetensors', which is no file beside it"),
        ('{"weight_map": {"a": "absent.safetensors"}}', "names 'absent.safetensors', which is no file"),
        ('{"weight_map": {}}', "names no files of weights"),
        ('{"weight_map": 3}', "names no files of weights"),
        ("[]", "is not a JSON object"),
        ("{", "is not readable JSON"),
    ],
)
def test_an_index_that_names_no_shards_is_refused(tmp_path, index, message):
    write(tiny_model("hubert"), tmp_path)  # whose weights lie outside the folder
    folder = tmp_path / "folder"
    folder.mkdir()
    shutil.copy(tmp_path / "config.json", folder)
    (folder / "model.safetensors.index.json").write_text(index)
    with pytest.raises(InputError, match=message):
        HubertLayers(folder, [1])


def with_state(folder: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> Path:
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors")
    return folder


@pytest.mark.parametrize(
    ("head", "change", "message"),
    [
        ("ForCTC", lambda s: s.update({"hubert.extra": torch.zeros(1)}), "the key extra is unexpected"),
        ("ForCTC", lambda s: s.update({"stray.weight": torch.zeros(1)}), r"the key stray\.weight is unexpected"),
        ("ForCTC", lambda s: s.pop("hubert.encoder.layer_norm.bias"), r"encoder\.layer_norm\.bias is missing"),
        ("Model", lambda s: s.update({"lm_head.weight": torch.zeros(1)}), r"the key lm_head\.weight is unexpected"),
    ],
)
def test_what_is_no_head_is_refused(tmp_path, head, change, message):
    folder = with_state(write(tiny_model("hubert", head), tmp_path / "x"), change)
    with pytest.raises(InputError, match=message):
        HubertLayers(folder, [1])


@pytest.mark.parametrize("content", ["", "[]", '{"hidden_size": 3}', '{"model_type": 3}', '{"model_type": "whisper"}'])
def test_what_is_no_speech_model_is_refused(tmp_path, content):
    (tmp_path / "config.json").write_text(content)
    with pytest.raises(InputError, match=r"config\.json|model_type must be one of hubert, .*, not 'whisper'"):
        HubertLayers(tmp_path, [1])


@pytest.mark.parametrize(
    "change", [{"hidden_size": "wide"}, {"num_attention_heads": 5}, {"hidden_act": "no"}, {"conv_dim": [8]}]
)
def test_a_configuration_that_makes_no_model_is_refused(tmp_path, change):
    folder = write(tiny_model("hubert"), tmp_path / "x")
    content = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="does not fit") as refusal:
        HubertLayers(folder, [1])
    assert "\n" not in str(refusal.value)


def test_other_families_can_be_kept_out(tmp_path):
    folder = write(tiny_model("wavlm"), tmp_path / "x")
    with pytest.raises(InputError, match="must be one of hubert, wav2vec2, not 'wavlm'"):
        HubertLayers(folder, [1], families=HUBERT_FAMILIES)


def test_a_folder_without_weights_is_refused(tmp_path):
    folder = write(tiny_model("hubert"), tmp_path / "x")
    shutil.move(folder / "model.safetensors", folder / "tf_model.h5")
    with pytest.raises(InputError, match=r"holds no weights: neither model\.safetensors nor pytorch_model\.bin"):
        HubertLayers(folder, [1])
