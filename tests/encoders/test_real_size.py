"""The speech path at the size of the paper's encoder, once: 24 layers of 1024, layers 18 to 20, with random weights."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import HubertConfig, HubertModel

from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_sound

CLIPS = Path(__file__).parents[3] / "shared" / "data" / "media" / "clips"


@pytest.mark.slow
def test_hubert_large_is_the_librarys_alone_and_in_company(tmp_path):
    if not CLIPS.is_dir():
        pytest.skip("the real clips of ../shared/data/media are absent")
    waveforms = [read_sound(path, MediaLimits())[:32_000] for path in sorted(CLIPS.glob("*.mp4"))[:2]]  # two seconds
    waveforms[1] = waveforms[1][: len(waveforms[1]) // 2]
    torch.manual_seed(0)
    network = HubertModel(
        HubertConfig(
            hidden_size=1024,
            num_hidden_layers=24,
            num_attention_heads=16,
            intermediate_size=4096,
            feat_extract_norm="layer",
            do_stable_layer_norm=True,
            conv_bias=True,
        )
    ).eval()
    assert sum(parameter.numel() for parameter in network.parameters()) > 315e6
    network.config.save_pretrained(tmp_path)
    save_file(network.state_dict(), tmp_path / "model.safetensors", metadata={"format": "pt"})
    with torch.inference_mode():
        expected = []
        for waveform in waveforms:
            states = network(torch.from_numpy(waveform)[None], output_hidden_states=True).hidden_states
            expected.append([states[layer][0].mean(dim=0).numpy() for layer in (18, 19, 20)])
    del network

    exact = HubertLayers(tmp_path, (18, 19, 20), "fp32", batch_seconds=30.0)
    together, alone = exact(waveforms), exact(waveforms[1:2])
    for number, layer in enumerate((18, 19, 20)):
        theirs = np.stack([vectors[number] for vectors in expected])
        assert 0.1 < np.abs(theirs).mean() < 10  # neither vanished nor exploded, or the comparison says little
        np.testing.assert_allclose(together[layer], theirs, atol=1e-5 * np.abs(theirs).max())
        np.testing.assert_allclose(together[layer][1:2], alone[layer], atol=1e-5 * np.abs(theirs).max())
    del exact
    # Of one clip: a processor without bf16 takes seconds for each second of sound.
    rough = HubertLayers(tmp_path, (18, 19, 20), "bf16")(waveforms[1:])
    for layer, block in rough.items():
        for ours, theirs in zip(block, alone[layer], strict=True):
            assert np.linalg.norm(ours - theirs) / np.linalg.norm(theirs) < 0.007
            assert ours @ theirs / np.linalg.norm(ours) / np.linalg.norm(theirs) > 0.9998
