"""Whisper's encoder, tiny and random, against the library's own model run by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import transformers
from safetensors.torch import load_file, save_file
from transformers import WhisperConfig, WhisperFeatureExtractor

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.whisper import WhisperLayers
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.foundations.errors import InputError

SECOND = 16_000
TINY = {
    "d_model": 16,
    "encoder_layers": 3,
    "encoder_attention_heads": 2,
    "encoder_ffn_dim": 24,
    "decoder_layers": 1,
    "decoder_attention_heads": 2,
    "decoder_ffn_dim": 8,
    "vocab_size": 30,
    "num_mel_bins": 20,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
    "decoder_start_token_id": 3,
}


def tiny_model(head: str = "Model", seconds: int = 30) -> torch.nn.Module:
    """A random model with windows of so many seconds; biases and norms are moved off their initial values."""
    torch.manual_seed(5)
    network = getattr(transformers, f"Whisper{head}")(WhisperConfig(**TINY, max_source_positions=50 * seconds)).eval()
    with torch.no_grad():
        for parameter in network.parameters():
            if parameter.ndim == 1:
                parameter.add_(0.3 * torch.randn_like(parameter))
    return network


def write(network: torch.nn.Module, folder: Path) -> Path:
    """As it is published."""
    network.save_pretrained(folder)
    positions = network.config.max_source_positions
    WhisperFeatureExtractor(feature_size=20, chunk_length=positions // 50).save_pretrained(folder)
    return folder


def sound(seconds: float, seed: int = 1) -> np.ndarray:
    rng = np.random.default_rng(seed)
    length = round(seconds * SECOND)
    return (rng.normal(0, 0.1, length) * np.linspace(0.2, 1, length)).astype(np.float32)


def reference(network: torch.nn.Module, window: np.ndarray, layer: int) -> torch.Tensor:
    """All frames of a window, the padding to its full length included, (T, D)."""
    positions = network.config.max_source_positions
    extractor = WhisperFeatureExtractor(feature_size=20, chunk_length=positions // 50)
    mel = extractor(window, sampling_rate=SECOND, return_tensors="pt").input_features
    encoder, last = network.get_encoder(), []
    hook = encoder.layers[-1].register_forward_hook(lambda _module, _args, out: last.append(out))
    with torch.inference_mode():
        states = encoder(mel, output_hidden_states=True).hidden_states
    hook.remove()
    # The library's last entry is behind the final norm.
    return (*states[:-1], last[0])[layer][0]


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> tuple[torch.nn.Module, Path]:
    network = tiny_model()
    return network, write(network, tmp_path_factory.mktemp("whisper") / "x")


@pytest.fixture
def short(tmp_path: Path) -> tuple[torch.nn.Module, Path]:
    network = tiny_model(seconds=2)
    return network, write(network, tmp_path / "x")


def test_layers_are_the_librarys_over_the_frames_of_real_audio_alone(published):
    network, folder = published
    clips = [sound(1.3), sound(4.0, seed=2)]
    vectors = WhisperLayers(folder, [0, 1, 3], "fp32")(clips)
    for layer, block in vectors.items():
        for row, clip, frames in zip(block, clips, (65, 200), strict=True):
            states = reference(network, clip, layer)
            assert states.shape == (1500, 16)
            np.testing.assert_allclose(row, states[:frames].mean(dim=0), atol=1e-5, rtol=1e-5)
            assert np.abs(row - states.mean(dim=0).numpy()).max() > 1e-3  # the padding would be heard


def test_a_longer_clip_is_cut_into_windows_of_thirty_seconds(published):
    network, folder = published
    clip = sound(61.01)
    vector = WhisperLayers(folder, [2], "fp32")([clip])[2][0]
    windows = [clip[start : start + 30 * SECOND] for start in (0, 30 * SECOND, 60 * SECOND)]
    frames = [reference(network, window, 2)[: -(-len(window) // 320)] for window in windows]
    assert [len(states) for states in frames] == [1500, 1500, 51]
    np.testing.assert_allclose(vector, torch.cat(frames).mean(dim=0), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("samples", [1, 319, 320, 321, 2 * SECOND, 2 * SECOND + 1])
def test_a_frame_is_real_if_any_of_its_samples_is(short, samples):
    network, folder = short
    clip = sound(3)[:samples]
    parts = [clip[: 2 * SECOND], clip[2 * SECOND :]]
    frames = [reference(network, part, 1)[: -(-len(part) // 320)] for part in parts if len(part)]
    layers = WhisperLayers(folder, [1], "fp32")
    np.testing.assert_allclose(layers([clip])[1][0], torch.cat(frames).mean(dim=0), atol=1e-5, rtol=1e-5)
    np.testing.assert_allclose(layers.over_time(clip)[1], torch.cat(frames), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("batch_seconds", [0.0, 1.0, 5.0])
def test_a_vector_does_not_depend_on_its_company(short, batch_seconds):
    _, folder = short
    clips = [sound(seconds, seed) for seed, seconds in enumerate((0.4, 5.0, 2.0, 1.1))]
    layers = WhisperLayers(folder, [3], "fp32", batch_seconds=batch_seconds)
    passes = []
    layers._network.conv1.register_forward_hook(lambda _module, args, _out: passes.append(len(args[0])))
    together = layers(clips)[3]
    assert passes == {0.0: [6], 1.0: [1] * 6, 5.0: [2, 2, 2]}[batch_seconds]
    alone = np.concatenate([layers([clip])[3] for clip in clips])
    np.testing.assert_allclose(together, alone, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("head", ["ForConditionalGeneration", "ForAudioClassification"])
def test_checkpoints_with_heads_are_read_as_published(head, tmp_path):
    network = tiny_model(head, seconds=2).half()
    vector = WhisperLayers(write(network, tmp_path / "x"), [2], "fp32")([sound(2)])[2][0]
    np.testing.assert_allclose(vector, reference(network.float(), sound(2), 2).mean(dim=0), atol=1e-5, rtol=1e-5)


def test_what_lies_above_the_last_layer_is_dropped_and_half_precision_stays_close(short):
    _, folder = short
    layers = WhisperLayers(folder, [1], "bf16")
    assert len(layers._network.layers) == 1
    assert layers.dtype == torch.bfloat16
    rough, exact = layers([sound(2)])[1], WhisperLayers(folder, [1], "fp32")([sound(2)])[1]
    assert 0 < np.linalg.norm(rough - exact) / np.linalg.norm(exact) < 0.02


def test_it_is_an_encoder_of_speech(short):
    _, folder = short
    encoder = build_encoder("w", EncoderConfig("speech", str(folder), layers=(0, 2), precision="fp32"))
    assert encoder.sets == {"w-0": 16, "w-2": 16}
    vectors = encoder.encode([DecodedClip(sound(1))])
    np.testing.assert_array_equal(vectors["w-2"], WhisperLayers(folder, [2], "fp32")([sound(1)])[2])
    with pytest.raises(InputError, match="must be one of hubert, wav2vec2, not 'whisper'"):
        build_encoder("w", EncoderConfig("hubert", str(folder), layers=(1,)))
    with pytest.raises(InputError, match=r"Whisper has windows of its own, so window_seconds must be 0, not 5\.0"):
        build_encoder("w", EncoderConfig("speech", str(folder), layers=(1,), window_seconds=5.0))


@pytest.mark.filterwarnings("ignore:At least one mel filter has all zero values")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"feature_size": 80}, "feature_size must be 20, not 80"),
        ({"sampling_rate": 8000}, "sampling_rate must be 16000, not 8000"),
        ({"dither": 0.1}, r"dither must be 0, not 0\.1"),
        ({"chunk_length": 30}, r"frames of a window must be 200, not 3000"),
        ({"hop_length": 0}, "prepares no sound"),
        ({"feature_size": "many"}, "prepares no sound"),
        ({"feature_extractor_type": "Wav2Vec2FeatureExtractor"}, "must be WhisperFeatureExtractor, not 'Wav2Vec2"),
    ],
)
def test_a_preprocessor_of_another_model_is_refused(short, change, message):
    path = short[1] / "preprocessor_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match=message) as refusal:
        WhisperLayers(short[1], [1])
    assert "\n" not in str(refusal.value)


def test_without_a_preprocessor_nothing_is_guessed(short):
    (short[1] / "preprocessor_config.json").unlink()
    with pytest.raises(InputError, match=r"holds no preprocessor_config\.json"):
        WhisperLayers(short[1], [1])


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.pop("encoder.conv1.bias"), r"the key conv1\.bias is missing"),
        (lambda s: s.update({"stray": torch.zeros(1)}), "the key stray is unexpected"),
        (lambda s: s.update({"encoder.conv1.bias": torch.zeros(3)}), r"conv1\.bias has the shape \(3,\)"),
    ],
)
def test_a_misfit_is_refused_by_its_first_key(short, change, message):
    path = short[1] / "model.safetensors"
    state = load_file(path)
    change(state)
    save_file(state, path)
    with pytest.raises(InputError, match=message):
        WhisperLayers(short[1], [1])


@pytest.mark.parametrize("change", [{"d_model": "wide"}, {"encoder_attention_heads": 3}, {"activation_function": "no"}])
def test_a_configuration_that_makes_no_model_is_refused(short, change):
    path = short[1] / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(InputError, match="does not fit") as refusal:
        WhisperLayers(short[1], [1])
    assert "\n" not in str(refusal.value)


@pytest.mark.parametrize("layers", [[], [4], [1, 1]])
def test_wrong_layers_are_refused(short, layers):
    with pytest.raises(InputError, match=r"layers must be distinct and in \[0, 3\], got"):
        WhisperLayers(short[1], layers)


@pytest.mark.parametrize(
    ("waveform", "message"),
    [
        (np.zeros(0, np.float32), "at least one sample"),
        (np.zeros(9), "1-d float32"),
        (np.zeros((2, 9), np.float32), "1-d"),
    ],
)
def test_what_is_no_waveform_is_refused(short, waveform, message):
    with pytest.raises(ValueError, match=message):
        WhisperLayers(short[1], [1])([waveform])


def test_another_model_is_refused(tmp_path):
    (tmp_path / "config.json").write_text('{"model_type": "bert"}')
    with pytest.raises(InputError, match=r"must be one of hubert, .*, whisper, not 'bert'"):
        build_encoder("w", EncoderConfig("speech", str(tmp_path), layers=(1,)))
    with pytest.raises(InputError, match="must be one of whisper, not 'bert'"):
        WhisperLayers(tmp_path, [1])
