import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import HubertConfig, HubertModel

from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.foundations.errors import InputError


@pytest.fixture(scope="module", params=["group", "layer"])
def checkpoint(request, tmp_path_factory) -> Path:
    """A small model of each published kind: HuBERT-base's, and HuBERT-large's with norms before layers."""
    large = request.param == "layer"
    torch.manual_seed(3)
    config = HubertConfig(
        hidden_size=32,
        num_hidden_layers=4,
        num_attention_heads=4,
        intermediate_size=48,
        conv_dim=(16,) * 7,
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,  # of 16 channels: narrower ones oneDNN 3.12 gets wrong in bfloat16 on AMX
        feat_extract_norm=request.param,
        do_stable_layer_norm=large,
        conv_bias=large,
    )
    model = HubertModel(config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "layer_norm" in name:  # at their initial values, a norm too much would hardly show
                parameter.add_(0.5 * torch.randn_like(parameter))
    folder = tmp_path_factory.mktemp(request.param)
    config.save_pretrained(folder)
    save_file(model.state_dict(), folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "preprocessor_config.json").write_text(json.dumps({"do_normalize": large}))
    return folder


@pytest.fixture(scope="module")
def waveforms() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [
        (rng.normal(0.02, 0.1, length) * np.linspace(0.2, 1, length)).astype(np.float32)
        for length in (8000, 3777, 16_001, 400)
    ]


def reference(folder: Path, waveform: np.ndarray) -> list[np.ndarray]:
    """Means of the library's own hidden states, of the whole model and without any batch."""
    model = HubertModel.from_pretrained(folder).eval()
    if json.loads((folder / "preprocessor_config.json").read_text())["do_normalize"]:
        waveform = (waveform - waveform.mean()) / np.sqrt(waveform.var() + 1e-7)
    with torch.inference_mode():
        states = model(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states
    return [state[0].mean(dim=0).numpy() for state in states]


def test_threads_that_share_the_model_hear_their_own_clips_only(checkpoint, waveforms):
    layers = HubertLayers(checkpoint, [0, 2, 3], "fp32")
    alone = [layers([waveform]) for waveform in waveforms]
    together = threading.Barrier(len(waveforms))

    def work(waveform: np.ndarray) -> list[dict[int, np.ndarray]]:
        torch.set_num_threads(1)
        together.wait()
        return [layers([waveform]) for _ in range(5)]

    with ThreadPoolExecutor(len(waveforms)) as pool:
        for own, heard in zip(alone, pool.map(work, waveforms), strict=True):
            for vectors in heard:
                for layer in (0, 2, 3):
                    np.testing.assert_allclose(vectors[layer], own[layer], atol=1e-6)


def test_layers_are_the_librarys_and_independent_of_the_batch(checkpoint, waveforms):
    vectors = HubertLayers(checkpoint, [0, 2, 3], "fp32")(waveforms)
    assert {layer: block.shape for layer, block in vectors.items()} == dict.fromkeys((0, 2, 3), (4, 32))
    for row, waveform in enumerate(waveforms):
        expected = reference(checkpoint, waveform)
        for layer, block in vectors.items():
            np.testing.assert_allclose(block[row], expected[layer], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("window", [0.0, 1.0])
def test_the_mean_of_the_frames_over_time_is_the_vector(checkpoint, waveforms, window):
    encoder = HubertLayers(checkpoint, [0, 2, 3], "fp32", window_seconds=window)
    long = np.concatenate(3 * [waveforms[2]])
    vectors = encoder([long])
    for layer, frames in encoder.over_time(long).items():
        assert frames.shape == ((len(long) - 400) // encoder.hop + 1, encoder.width)
        np.testing.assert_allclose(frames.mean(axis=0), vectors[layer][0], atol=1e-5)


def test_the_last_layer_comes_without_the_final_norm(checkpoint, waveforms):
    model = HubertModel.from_pretrained(checkpoint).eval()
    stable = model.config.do_stable_layer_norm
    kept = []
    model.encoder.layers[-1].register_forward_hook(lambda module, args, output: kept.append(output))
    samples = waveforms[0]
    if stable:
        samples = (samples - samples.mean()) / np.sqrt(samples.var() + 1e-7)
    with torch.inference_mode():
        normed = model(torch.from_numpy(samples)[None]).last_hidden_state
    ours = HubertLayers(checkpoint, [4], "fp32")(waveforms[:1])[4][0]
    np.testing.assert_allclose(ours, kept[0][0].mean(dim=0).numpy(), atol=1e-5)
    assert stable == (not np.allclose(ours, normed[0].mean(dim=0).numpy(), atol=1e-2))


def test_the_same_clip_alone_and_in_company_has_the_same_vector(checkpoint, waveforms):
    encoder = HubertLayers(checkpoint, [1, 4], "fp32")
    together = encoder(waveforms)
    for row, waveform in enumerate(waveforms):
        alone = encoder([waveform])
        for layer in (1, 4):
            np.testing.assert_allclose(together[layer][row], alone[layer][0], atol=1e-5)


def test_bfloat16_stays_close(checkpoint, waveforms):
    exact = HubertLayers(checkpoint, [3], "fp32")(waveforms)[3]
    rough = HubertLayers(checkpoint, [3], "bf16")(waveforms)[3]
    assert rough.dtype == np.float32
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.03


def test_loudness_is_removed_only_when_the_checkpoint_says_so(checkpoint, waveforms, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    (folder / "preprocessor_config.json").write_text('{"do_normalize": true}')
    encoder = HubertLayers(folder, [1], "fp32")
    quiet, loud = encoder([0.1 * waveforms[0], waveforms[0]])[1]
    np.testing.assert_allclose(quiet, loud, atol=1e-3)


def test_no_clips_give_no_rows(checkpoint):
    assert HubertLayers(checkpoint, [1])([])[1].shape == (0, 32)


@pytest.mark.parametrize("waveform", [np.zeros(399, np.float32), np.zeros(8000), np.zeros((2, 8000), np.float32)])
def test_what_is_no_waveform_is_refused(checkpoint, waveform):
    with pytest.raises(ValueError, match="waveform must"):
        HubertLayers(checkpoint, [1])([waveform])


@pytest.mark.parametrize("layers", [[5], [-1], [], [2, 2]])
def test_layers_that_the_model_lacks_are_refused(checkpoint, layers):
    with pytest.raises(InputError, match=r"layers must be distinct and in \[0, 4\]"):
        HubertLayers(checkpoint, layers)


def test_an_unknown_precision_is_refused(checkpoint):
    with pytest.raises(ValueError, match="precision must be one of"):
        HubertLayers(checkpoint, [1], "fp8")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.layers.0.final_layer_norm.bias"), r"final_layer_norm\.bias is missing"),
        (lambda s: s.update({"extra.weight": torch.zeros(1)}), r"extra\.weight is unexpected"),
        (
            lambda s: s.update({"feature_projection.projection.bias": torch.zeros(5)}),
            r"feature_projection\.projection\.bias has the shape \(5,\) and not \(32,\)",
        ),
    ],
)
def test_a_misfit_is_refused_by_its_first_key(checkpoint, tmp_path, change, message, capfd):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    state = load_file(folder / "model.safetensors")
    change(state)
    save_file(state, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=message):
        HubertLayers(folder, [1])
    assert capfd.readouterr() == ("", "")  # the one sentence is all that a person sees


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_foreign_pickled_objects_are_never_loaded(checkpoint, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copy(checkpoint / "config.json", tmp_path)
    torch.save(load_file(checkpoint / "model.safetensors") | {"extra": Evil()}, tmp_path / "pytorch_model.bin")
    with pytest.raises(InputError, match=r"pytorch_model\.bin holds the foreign pickled object posix\.mkdir"):
        HubertLayers(tmp_path, [1])
    assert not (tmp_path / "evil").exists()


def test_a_checkpoint_has_a_name_in_the_hubs_cache(checkpoint, tmp_path, monkeypatch):
    monkeypatch.setattr("mer_pnao.encoders.hub._cached", lambda name: checkpoint if name.revision == "v1" else None)
    assert HubertLayers("lab/voice@v1", [1], "fp32").width == 32
    with pytest.raises(InputError, match="lab/voice@v2: not there"):
        HubertLayers("lab/voice@v2", [1], "fp32")


def test_batches_by_length_change_nothing_but_the_last_bits(checkpoint, waveforms):
    together = HubertLayers(checkpoint, [1, 4], "fp32")(waveforms)
    for seconds in (0.03, 0.6, 1.1, 100.0):
        apart = HubertLayers(checkpoint, [1, 4], "fp32", batch_seconds=seconds)(waveforms)
        for layer in (1, 4):
            np.testing.assert_allclose(apart[layer], together[layer], atol=1e-5)


def test_a_pass_holds_no_more_than_its_share_of_sound(checkpoint, waveforms):
    encoder = HubertLayers(checkpoint, [1], "fp32", batch_seconds=1.2)
    passes = []
    encoder._model.encoder.register_forward_pre_hook(lambda module, args: passes.append(tuple(args[0].shape[:2])))
    encoder(waveforms)
    assert passes == [(1, 49), (2, 24), (1, 1)]  # frames of the 16,001, the 8000 and 3777, and the 400 samples


def test_windows_are_averaged_over_all_their_frames(checkpoint, waveforms):
    long = waveforms[2]  # 49 frames
    encoder = HubertLayers(checkpoint, [0, 2], "fp32", window_seconds=0.4)  # of 20 frames at most: 16, 16, 17
    if json.loads((checkpoint / "preprocessor_config.json").read_text())["do_normalize"]:
        shared = ((long - long.mean()) / np.sqrt(long.var() + 1e-7)).astype(np.float32)
    else:
        shared = long
    whole = HubertLayers(checkpoint, [0, 2], "fp32")
    whole._normalize = False
    parts = whole([shared[: 15 * 320 + 400], shared[16 * 320 : 31 * 320 + 400], shared[32 * 320 :]])
    for layer, block in encoder([waveforms[0], long, waveforms[1]]).items():
        expected = (np.array([16, 16, 17])[:, None] * parts[layer]).sum(axis=0) / 49
        np.testing.assert_allclose(block[1], expected, atol=1e-5)


def test_what_fits_into_a_window_is_not_cut(checkpoint, waveforms):
    whole = HubertLayers(checkpoint, [2], "fp32")(waveforms)[2]
    np.testing.assert_array_equal(HubertLayers(checkpoint, [2], "fp32", window_seconds=1.0)(waveforms)[2], whole)


def test_no_layer_above_the_last_one_asked_for_is_kept(checkpoint):
    assert len(HubertLayers(checkpoint, [1, 2], "fp32")._model.encoder.layers) == 2


@pytest.mark.parametrize(("capabilities", "dtype"), [({}, "float32"), ({"avx512_bf16": True}, "bfloat16")])
def test_automatic_precision_follows_the_processor(checkpoint, monkeypatch, capabilities, dtype):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.cpu, "get_capabilities", lambda: capabilities)
    assert str(HubertLayers(checkpoint, [1]).dtype) == f"torch.{dtype}"


@pytest.mark.parametrize("text", ["[]", "{", '{"do_normalize": 1}'])
def test_a_broken_preprocessor_is_refused(checkpoint, tmp_path, text):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    (folder / "preprocessor_config.json").write_text(text)
    with pytest.raises(InputError, match="preprocessor_config"):
        HubertLayers(folder, [1])


def test_sound_is_normalised_where_a_preprocessor_does_not_say_and_taken_as_it_is_without_one(checkpoint, tmp_path):
    folder = tmp_path / "copy"
    shutil.copytree(checkpoint, folder)
    (folder / "preprocessor_config.json").write_text("{}")
    assert HubertLayers(folder, [1])._normalize
    (folder / "preprocessor_config.json").unlink()
    assert not HubertLayers(folder, [1])._normalize
