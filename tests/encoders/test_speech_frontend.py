import copy

import numpy as np
import pytest
import torch
from transformers import HubertConfig, HubertModel

from mer_pnao.encoders.speech_frontend import SpeechFrontEnd


@pytest.fixture(scope="module", params=["gelu", "relu"])
def extractor(request) -> torch.nn.Module:
    """The library's convolutions, with norms that are not at their initial values."""
    torch.manual_seed(5)
    config = HubertConfig(
        hidden_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        intermediate_size=16,
        conv_dim=(48, 40, 48, 48, 48, 32, 48),
        num_conv_pos_embeddings=4,
        num_conv_pos_embedding_groups=2,
        feat_extract_norm="layer",
        conv_bias=request.param == "gelu",
        feat_extract_activation=request.param,
    )
    module = HubertModel(config).feature_extractor.eval().requires_grad_(False)
    for name, parameter in module.named_parameters():
        if "conv.weight" not in name:
            parameter.add_(0.3 * torch.randn_like(parameter))
    return module


def front_end(extractor: torch.nn.Module, dtype: torch.dtype) -> SpeechFrontEnd:
    return SpeechFrontEnd(extractor, torch.device("cpu"), dtype)


def waveform(samples: int) -> torch.Tensor:
    rng = np.random.default_rng(samples)
    return torch.from_numpy((rng.normal(0.01, 0.1, samples) * np.linspace(0.1, 1, samples)).astype(np.float32))


@pytest.mark.parametrize("samples", [400, 719, 720, 16_001])
def test_computes_what_the_librarys_convolutions_compute(extractor, samples):
    ours = front_end(extractor, torch.float32)(waveform(samples))
    theirs = extractor(waveform(samples)[None])[0].T
    assert ours.shape == theirs.shape
    torch.testing.assert_close(ours, theirs, atol=1e-5, rtol=1e-5)


def test_a_stretch_in_the_middle_of_a_recording_is_read_from_where_it_starts(extractor):
    recording = waveform(9000)
    stretch = front_end(extractor, torch.float32)(recording[1000:5000])
    torch.testing.assert_close(stretch, front_end(extractor, torch.float32)(recording[1000:5000].clone()))


def test_bfloat16_stays_within_the_fields_bounds(extractor):
    exact = extractor(waveform(32_000)[None])[0].mean(dim=1)
    rough = front_end(extractor, torch.bfloat16)(waveform(32_000)).float().mean(dim=0)
    assert (rough - exact).norm() / exact.norm() < 0.007
    assert torch.cosine_similarity(rough, exact, dim=0) > 0.9998


def test_casting_the_librarys_module_afterwards_changes_nothing(extractor):
    module = copy.deepcopy(extractor)
    ours = front_end(module, torch.float32)
    before = ours(waveform(2000))
    module.bfloat16()
    assert torch.equal(ours(waveform(2000)), before)


def test_a_front_end_without_layer_norms_is_refused():
    config = HubertConfig(
        conv_dim=(8,) * 7,
        feat_extract_norm="group",
        num_hidden_layers=0,
        hidden_size=16,
        num_conv_pos_embedding_groups=4,
    )
    with pytest.raises(ValueError, match="must have a layer norm, not GroupNorm"):
        front_end(HubertModel(config).feature_extractor, torch.float32)
