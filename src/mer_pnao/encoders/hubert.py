"""Utterance vectors from the hidden layers of HuBERT (Hsu et al. 2021) and models of its shape.

Legend of shapes: B clips or stretches of clips, N samples, T frames of 20 ms, C channels, D the model's width.
"""

import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils import parametrize, rnn

from mer_pnao.encoders.batching import by_length, spans
from mer_pnao.encoders.hub import resolve
from mer_pnao.encoders.speech_frontend import SpeechFrontEnd
from mer_pnao.encoders.speech_models import FAMILIES, frame_geometry, load_speech_model, refuse_wrong_layers
from mer_pnao.foundations.placement import placement
from mer_pnao.foundations.precision import Precision

SAMPLE_RATE = 16_000


class _Stretch(NamedTuple):
    """A part of a clip that is encoded at once."""

    clip: int
    samples: Tensor  # (N,)
    frames: int


class HubertLayers:
    """Called with waveforms, returns the mean over time of chosen layers' un-normed outputs.

    Layer k is the output of the k-th transformer layer, as in `hidden_states[k]`; 0 is the input of the
    first. What lies above the last layer asked for is dropped, with the final layer norm of models that
    normalise before each layer, which the library would apply to its last entry only.

    Args:
        checkpoint: folder in the layout of transformers, or `organisation/name@revision` in the hub's local cache.
        layers: the layers wanted.
        precision: see `mer_pnao.foundations.placement.placement`.
        window_seconds: longer clips are cut into even stretches of at most so much, which do not hear each other,
            and averaged over all their frames; 0 never cuts. Attention costs grow with the square of a stretch.
        batch_seconds: sound in one pass at most, padding included, stretches of like length together; 0 puts all that
            a call gets into one pass.
        families: the keys of `speech_models.FAMILIES` that the checkpoint may be of.

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
        *,
        window_seconds: float = 0.0,
        batch_seconds: float = 0.0,
        families: Sequence[str] = tuple(FAMILIES),
    ) -> None:
        self.device, self.dtype = placement(precision)
        loaded = load_speech_model(resolve(checkpoint), tuple(families))
        model = loaded.network
        refuse_wrong_layers(checkpoint, layers, len(model.encoder.layers))
        self.layers = tuple(layers)
        self.width: int = model.config.hidden_size
        self._normalize, self._maskable = loaded.normalize, loaded.maskable
        self._receptive, self.hop = frame_geometry(model)  # samples that a frame sees, and from one to the next
        self._window, self._most = (
            round(seconds * SAMPLE_RATE / self.hop) for seconds in (window_seconds, batch_seconds)
        )
        # One layer stays even for layer 0, because its input is what is read.
        model.encoder.layers = model.encoder.layers[: max(1, *layers)]
        # Recomputing the weight normalisation of the positional convolution at each call is wasted time.
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # sums in another order have other last digits
        for module in [m for m in model.modules() if parametrize.is_parametrized(m)]:
            parametrize.remove_parametrizations(module, "weight")
        torch.set_num_threads(threads)
        self._convolved = _front_end(model, self.device, self.dtype)
        self._model = model.to(device=self.device, dtype=self.dtype)
        self._of_thread = threading.local()  # what the layers of a pass in this thread are handed to
        self._hook_layers()

    def __call__(self, waveforms: Sequence[NDArray[np.float32]]) -> dict[int, NDArray[np.float32]]:
        """B waveforms (samples,) float32 at 16 kHz -> for each layer (B, D) float32.

        The mean is over the frames of real audio, and none depends on what else is in the batch. Raises ValueError for
        a waveform that is not 1-d float32 or is too short for one frame (400 samples).
        """
        totals = {layer: np.zeros((len(waveforms), self.width), dtype=np.float32) for layer in self.layers}
        frames = np.zeros((len(waveforms), 1), dtype=np.float32)
        stretches = [stretch for clip, waveform in enumerate(waveforms) for stretch in self._cut(clip, waveform)]
        with torch.inference_mode():
            lengths = [stretch.frames for stretch in stretches]
            # Where padding would be heard, each stretch goes alone.
            groups = by_length(lengths, self._most) if self._maskable else [[place] for place in range(len(lengths))]
            for group in groups:
                together = [stretches[place] for place in group]
                sums = self._layer_sums([self._frames(stretch.samples) for stretch in together])
                for row, stretch in enumerate(together):
                    frames[stretch.clip] += stretch.frames
                    for layer, block in sums.items():
                        totals[layer][stretch.clip] += block[row]
        return {layer: total / frames for layer, total in totals.items()}

    def over_time(self, waveform: NDArray[np.float32]) -> dict[int, NDArray[np.float32]]:
        """A waveform as for a call -> for each layer the frames (T, D) float32 whose mean the call returns.

        Frame t begins at the sample t * hop. Raises as a call does.
        """
        frames: dict[int, list[NDArray[np.float32]]] = {layer: [] for layer in self.layers}
        with torch.inference_mode():
            for stretch in self._cut(0, waveform):
                projected = self._frames(stretch.samples)[None]
                self._encode(
                    projected,
                    torch.ones(projected.shape[:2], dtype=torch.bool, device=self.device),
                    lambda layer, states: frames[layer].append(states[0].float().cpu().numpy()),
                )
        return {layer: np.concatenate(parts) for layer, parts in frames.items()}

    def _cut(self, clip: int, waveform: NDArray[np.float32]) -> list[_Stretch]:
        if waveform.ndim != 1 or waveform.dtype != np.float32:
            raise ValueError(f"a waveform must be 1-d float32, not {waveform.ndim}-d {waveform.dtype}")
        if len(waveform) < self._receptive:
            raise ValueError(f"a waveform must have at least {self._receptive} samples, not {len(waveform)}")
        samples = torch.from_numpy(waveform)
        if self._normalize:  # over the clip and not the stretch, whose silence would be blown up
            samples = (samples - samples.mean()) / torch.sqrt(samples.var(correction=0) + 1e-7)
        cuts = spans((len(waveform) - self._receptive) // self.hop + 1, self._window)
        # A frame sees more than one hop, so neighbours share a few samples and no frame is lost between them. The
        # last stretch keeps the rest that makes no frame: models with a norm over time have seen it in training.
        ends = [(end - 1) * self.hop + self._receptive for _, end in cuts[:-1]] + [len(waveform)]
        return [
            _Stretch(clip, samples[first * self.hop : stop], end - first)
            for (first, end), stop in zip(cuts, ends, strict=True)
        ]

    def _frames(self, samples: Tensor) -> Tensor:
        """(N,) -> (T, D).

        Clip by clip: the first convolution of many models normalises over time, so that padding would change every
        frame, and the transformer alone gains from batches.
        """
        projected = self._model.feature_projection(self._convolved(samples.to(self.device))[None])
        batch: Tensor = projected[0] if isinstance(projected, tuple) else projected
        return batch[0]

    def _layer_sums(self, frames: Sequence[Tensor]) -> dict[int, NDArray[np.float32]]:
        """For each layer the sum over the real frames of each stretch, (B, D)."""
        lengths = torch.tensor([len(stretch) for stretch in frames], device=self.device)
        hidden = rnn.pad_sequence(list(frames), batch_first=True)
        real = torch.arange(hidden.shape[1], device=self.device)[None, :] < lengths[:, None]
        sums: dict[int, NDArray[np.float32]] = {}

        def keep(layer: int, states: Tensor) -> None:
            sums[layer] = (states.float() * real[..., None]).sum(dim=1).cpu().numpy()

        self._encode(hidden, real, keep)
        return sums

    def _encode(self, hidden: Tensor, real: Tensor, keep: Callable[[int, Tensor], None]) -> None:
        """Hand the states (B, T, D) of each layer to `keep`; `real` (B, T) is false where there is padding."""
        self._of_thread.keep = keep
        self._model.encoder(hidden, attention_mask=real if self._maskable else None)

    def _hook_layers(self) -> None:
        """Hand on the output of every layer asked for; once, for threads share the model."""

        def hand_on(layer: int, states: Tensor | tuple[Tensor, ...]) -> None:
            # Some layers also hand on a position bias.
            self._of_thread.keep(layer, states[0] if isinstance(states, tuple) else states)

        layers = self._model.encoder.layers
        for layer in self.layers:
            if layer == 0:
                layers[0].register_forward_pre_hook(lambda _module, args: hand_on(0, args[0]))
            else:
                layers[layer - 1].register_forward_hook(lambda _module, _args, states, of=layer: hand_on(of, states))


def _front_end(network: Any, device: torch.device, dtype: torch.dtype) -> Callable[[Tensor], Tensor]:
    """The convolutions of a model, (N,) -> (T, C): rewritten where that is faster, for one norm alone does not pay."""
    if network.config.feat_extract_norm == "layer":
        return SpeechFrontEnd(network.feature_extractor, device, dtype)
    extractor = network.feature_extractor
    return lambda samples: extractor(samples[None].to(dtype))[0].T
