"""Utterance vectors from the hidden layers of Whisper's encoder (Radford et al. 2022); its decoder is never built.

Legend of shapes: B clips, W windows, M mel bands, T frames of 20 ms of a window, D the model's width.
"""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.functional import gelu
from transformers import WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import WhisperEncoder

from mer_pnao.encoders.checkpoints import load_strictly
from mer_pnao.encoders.hub import resolve
from mer_pnao.encoders.hubert import SAMPLE_RATE
from mer_pnao.encoders.model_folder import CONFIG, PREPROCESSOR, one_line, read_config, read_weights
from mer_pnao.encoders.speech_models import WHISPER, family_of, refuse_wrong_layers
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.foundations.placement import placement
from mer_pnao.foundations.precision import Precision

# What stands beside the encoder in a checkpoint.
_OTHERS = ("decoder.", "proj_out.", "projector.", "classifier.", "layer_weights")


class WhisperLayers:
    """Called with waveforms, returns the mean over time of chosen layers' un-normed outputs, as `HubertLayers` does.

    The model hears windows of one length, 30 s in published ones, as log-mel spectra of its own preprocessor. A longer
    clip is cut into such windows, the last one is filled with silence, and the mean runs over the frames of real audio.

    Args:
        checkpoint: folder in the layout of transformers, or `organisation/name@revision` in the hub's local cache.
        layers: the layers wanted; 0 is the input of the first.
        precision: see `mer_pnao.foundations.placement.placement`.
        batch_seconds: sound in one pass at most, silence included, but one window at least; 0 puts all that a call gets
            into one pass.

    Raises:
        InputError: the folder is no such checkpoint or does not fit, naming the first key; no layer is asked
            for, one twice, or one that the model lacks.
        ValueError: an unknown precision.
    """

    def __init__(
        self,
        checkpoint: Path | str,
        layers: Sequence[int],
        precision: Precision = "auto",
        batch_seconds: float = 0.0,
    ) -> None:
        self.device, self.dtype = placement(precision)
        folder = resolve(checkpoint)
        config = _config(folder)
        self._mel = _feature_extractor(folder, config)
        network = load_strictly(lambda: _build(config), _encoder_weights(read_weights(folder)), folder)
        refuse_wrong_layers(checkpoint, layers, len(network.layers))
        self.layers = tuple(layers)
        self.width: int = config.d_model
        self._window: int = self._mel.n_samples
        self.hop = self._window // config.max_source_positions  # samples from one frame to the next
        self._at_once = max(1, int(batch_seconds * SAMPLE_RATE / self._window)) if batch_seconds else 0
        network.layers = network.layers[: max(layers)]
        self._network = network.to(device=self.device, dtype=self.dtype)

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
        """B waveforms (samples,) float32 at 16 kHz -> for each layer (B, D) float32.

        The mean is over the frames of real audio, and none depends on what else is in the batch. Raises ValueError for
        a waveform that is not 1-d float32 or is empty.
        """
        totals = {layer: np.zeros((len(waveforms), self.width), dtype=np.float32) for layer in self.layers}
        frames = np.zeros((len(waveforms), 1), dtype=np.float32)
        windows = [(clip, window) for clip, waveform in enumerate(waveforms) for window in self._cut(waveform)]
        at_once = self._at_once or max(1, len(windows))
        with torch.inference_mode():
            for start in range(0, len(windows), at_once):
                together = windows[start : start + at_once]
                real = [-(-len(samples) // self.hop) for _, samples in together]
                sums = self._layer_sums([samples for _, samples in together], real)
                for row, (clip, _) in enumerate(together):
                    frames[clip] += real[row]
                    for layer, block in sums.items():
                        totals[layer][clip] += block[row]
        return {layer: total / frames for layer, total in totals.items()}

    def over_time(self, waveform: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """As `HubertLayers.over_time`."""
        frames: dict[int, list[NDArray[np.float32]]] = {layer: [] for layer in self.layers}
        with torch.inference_mode():
            for samples in self._cut(waveform):
                real = -(-len(samples) // self.hop)
                for layer, hidden in self._states([samples]):
                    frames[layer].append(hidden[0, :real].float().cpu().numpy())
        return {layer: np.concatenate(parts) for layer, parts in frames.items()}

    def _cut(self, waveform: NDArray[np.float32]) -> list[NDArray[np.float32]]:
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            raise ValueError(f"a waveform must be 1-d float32, not {waveform.ndim}-d {waveform.dtype}")
        if not len(waveform):
            raise ValueError("a waveform must have at least one sample")
        return [waveform[start : start + self._window] for start in range(0, len(waveform), self._window)]

    def _layer_sums(
        self, windows: Sequence[NDArray[np.float32]], real: Sequence[int]
    ) -> dict[int, NDArray[np.float32]]:
        """For each layer the sum over the real frames of each window, (W, D)."""
        ends = torch.tensor(real, device=self.device)[:, None]
        return {
            layer: (hidden.float() * (torch.arange(hidden.shape[1], device=self.device) < ends)[..., None])
            .sum(dim=1)
            .cpu()
            .numpy()
            for layer, hidden in self._states(windows)
        }

    def _states(self, windows: Sequence[NDArray[np.float32]]) -> Iterator[tuple[int, Tensor]]:
        """Each layer wanted, in order, and its states (W, T, D)."""
        network = self._network
        # One by one, so that no spectrum depends on its company.
        mels = [
            self._mel(samples, sampling_rate=SAMPLE_RATE, return_tensors="pt").input_features for samples in windows
        ]
        stem = gelu(network.conv1(torch.cat(mels).to(self.device, self.dtype)))  # (W, D, 2 T)
        hidden = gelu(network.conv2(stem)).permute(0, 2, 1) + network.embed_positions.weight
        for layer in range(len(network.layers) + 1):
            if layer:
                hidden = network.layers[layer - 1](hidden, None)
            if layer in self.layers:
                yield layer, hidden


def _config(folder: Path) -> Any:
    family_of(folder, (WHISPER,))
    try:
        return WhisperConfig.from_dict(read_config(folder))
    except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{folder / CONFIG} does not fit Whisper: {one_line(error)}") from error


def _build(config: Any) -> Any:
    try:
        return WhisperEncoder(config)
    except (KeyError, TypeError, RuntimeError, ZeroDivisionError) as error:
        raise ValueError(one_line(error)) from error


def _encoder_weights(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The encoder's tensors as float32, without the prefixes that the whole model and its tasks bring."""
    own: dict[str, Tensor] = {}
    for key, tensor in state.items():
        name = key.removeprefix("model.")
        if not name.startswith(_OTHERS):
            own[name.removeprefix("encoder.")] = tensor.float() if tensor.is_floating_point() else tensor
    return own


def _feature_extractor(folder: Path, config: Any) -> Any:
    """The checkpoint's own preprocessor, which must make what the encoder takes."""
    path = folder / PREPROCESSOR
    if not path.is_file():
        raise InputError(f"{folder} holds no {PREPROCESSOR}, which says how its model hears sound")
    content = read_json(path)
    kind = content.get("feature_extractor_type", "WhisperFeatureExtractor")
    if kind != "WhisperFeatureExtractor":
        raise InputError(f"{path}: the feature_extractor_type must be WhisperFeatureExtractor, not {kind!r}")
    try:
        extractor = WhisperFeatureExtractor.from_dict(content)
        facts = {
            "sampling_rate": (extractor.sampling_rate, SAMPLE_RATE),
            "feature_size": (extractor.feature_size, config.num_mel_bins),
            "dither": (extractor.dither, 0),  # noise would make every vector a matter of chance
            "frames of a window": (extractor.n_samples / extractor.hop_length, 2 * config.max_source_positions),
        }
    except (ValueError, TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
        raise InputError(f"{path} prepares no sound: {one_line(error)}") from error
    for key, (value, needed) in facts.items():
        if value != needed:
            raise InputError(f"{path}: {key} must be {needed}, not {value!r}")
    return extractor
