"""Utterance vectors from the hidden layers of HuBERT (Hsu et al. 2021).

Legend of shapes: B clips, T frames of 20 ms, D the model's width.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parametrize, rnn
from transformers import HubertModel
from transformers.utils import logging as transformers_logging

from mer_pnao.encoders.precision import placement
from mer_pnao.errors import InputError
from mer_pnao.precision import Precision

SAMPLE_RATE = 16_000
_UNUSED_KEYS = {"masked_spec_embed"}  # serves only training, and some published checkpoints lack it


class HubertLayers:
    """Called with waveforms, returns the mean over time of chosen layers' un-normed outputs.

    Layer k is the output of the k-th transformer layer, as in `hidden_states[k]`; 0 is the input of the
    first. What lies above the last layer asked for is dropped, with the final layer norm of models that
    normalise before each layer, which the library would apply to its last entry only.

    Args:
        checkpoint: folder in the layout of transformers, with `config.json` and safetensors.
        layers: the layers wanted.
        precision: see `mer_pnao.encoders.precision.placement`.

    Raises:
        InputError: the folder is no such checkpoint or does not fit, naming the first key; no layer is asked
            for, one twice, or one that the model lacks.
        ValueError: an unknown precision.
    """

    def __init__(self, checkpoint: Path | str, layers: Sequence[int], precision: Precision = "auto") -> None:
        checkpoint = Path(checkpoint)
        self.device, self.dtype = placement(precision)
        model = _load(checkpoint)
        depth = len(model.encoder.layers)
        if not layers or len(set(layers)) != len(layers) or not all(0 <= k <= depth for k in layers):
            raise InputError(f"{checkpoint}: layers must be distinct and in [0, {depth}], got {list(layers)}")
        self.layers = tuple(layers)
        self.width: int = model.config.hidden_size
        self.normalize = _wants_normalized_input(checkpoint)
        # One layer stays even for layer 0, because its input is what is read.
        model.encoder.layers = model.encoder.layers[: max(1, *layers)]
        # Recomputing the weight normalisation of the positional convolution at each call is wasted time.
        for module in [m for m in model.modules() if parametrize.is_parametrized(m)]:
            parametrize.remove_parametrizations(module, "weight")
        self._model = model.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
        """Vectors of clips, none of which depends on what else is in the batch.

        Args:
            waveforms: B arrays (samples,) of float32 at 16 kHz, of any lengths from 400 samples on.

        Returns:
            For each layer (B, D) float32, the mean over the frames of real audio.

        Raises:
            ValueError: a waveform is not 1-d float32 or is too short for one frame.
        """
        if not waveforms:
            return {layer: np.zeros((0, self.width), dtype=np.float32) for layer in self.layers}
        with torch.inference_mode():
            # The convolutions run clip by clip: the first one of many models normalises over time, so that
            # padding would change every frame, and the transformer alone gains from batches.
            frames = [self._frames(waveform) for waveform in waveforms]
            means = self._layer_means(frames)
        return {layer: mean.float().cpu().numpy() for layer, mean in means.items()}

    def _frames(self, waveform: NDArray[np.float32]) -> Tensor:
        """(samples,) -> (T, D)."""
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            raise ValueError(f"a waveform must be 1-d float32, not {waveform.ndim}-d {waveform.dtype}")
        if len(waveform) < 400:  # the receptive field of one frame
            raise ValueError(f"a waveform must have at least 400 samples, not {len(waveform)}")
        samples = torch.from_numpy(waveform)
        if self.normalize:
            samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        convolved = self._model.feature_extractor(samples[None].to(self.device, self.dtype))
        projected: Tensor = self._model.feature_projection(convolved.transpose(1, 2))
        return projected[0]

    def _layer_means(self, frames: Sequence[Tensor]) -> dict[int, Tensor]:
        lengths = torch.tensor([len(clip) for clip in frames], device=self.device)
        hidden = rnn.pad_sequence(list(frames), batch_first=True)
        real = torch.arange(hidden.shape[1], device=self.device)[None, :] < lengths[:, None]
        means: dict[int, Tensor] = {}

        def keep(layer: int, states: Tensor) -> None:
            if layer in self.layers:
                total = (states.float() * real[..., None]).sum(dim=1)
                means[layer] = total / lengths[:, None]

        handles = [self._model.encoder.layers[0].register_forward_pre_hook(lambda _module, args: keep(0, args[0]))]
        handles += [
            layer.register_forward_hook(lambda _module, _args, states, number=number: keep(number, states))
            for number, layer in enumerate(self._model.encoder.layers, start=1)
        ]
        try:
            self._model.encoder(hidden, attention_mask=real)
        finally:
            for handle in handles:
                handle.remove()
        return means


def _load(checkpoint: Path) -> Any:
    if not (checkpoint / "config.json").is_file():
        raise InputError(f"{checkpoint}: no such HuBERT checkpoint (a folder with config.json)")
    if not any(checkpoint.glob("*.safetensors")):
        raise InputError(f"{checkpoint} holds no safetensors weights, and pickled ones are never loaded")
    try:
        with _quietly():
            model, report = HubertModel.from_pretrained(
                checkpoint,
                local_files_only=True,
                use_safetensors=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
                dtype=torch.float32,
            )
    except (OSError, ValueError, RuntimeError, KeyError, TypeError) as error:
        raise InputError(f"{checkpoint} is not a readable HuBERT checkpoint: {error}") from error
    for what in ("missing", "unexpected", "mismatched"):
        for entry in sorted(report[f"{what}_keys"]):
            key = entry[0] if isinstance(entry, tuple) else entry
            if key not in _UNUSED_KEYS:
                raise InputError(f"{checkpoint} does not fit HuBERT: the key {key} is {what}")
    return model


@contextmanager
def _quietly() -> Iterator[None]:
    """Keeps the library's bars and reports off the terminal: what matters of them becomes one sentence."""
    verbosity, bars = transformers_logging.get_verbosity(), transformers_logging.is_progress_bar_enabled()
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(verbosity)
        if bars:
            transformers_logging.enable_progress_bar()


def _wants_normalized_input(checkpoint: Path) -> bool:
    """`do_normalize` of the checkpoint's own preprocessor, which says how the model was trained."""
    path = checkpoint / "preprocessor_config.json"
    if not path.is_file():
        return False
    try:
        value = json.loads(path.read_text()).get("do_normalize", False)
    except (ValueError, AttributeError) as error:
        raise InputError(f"{path} is not a JSON object") from error
    if not isinstance(value, bool):
        raise InputError(f"{path}: do_normalize must be true or false, not {value!r}")
    return value
