"""From a clip's file to its vectors: what each encoder needs decoded, and how frames become one vector.

Legend of shapes: B clips, n frames of a clip, S the side of a face crop, D the width of a set.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from mer_pnao.encoders import manet, resnet
from mer_pnao.encoders.config import SPEECH_KINDS, EncoderConfig
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.extraction.clip_reader import ClipReader, DecodedClip, DecodingPlan, clip_reader
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.foundations.precision import placement
from mer_pnao.media.corruption import ClipCorruption
from mer_pnao.media.decode import MediaLimits

if TYPE_CHECKING:
    from mer_pnao.encoders.hubert import HubertLayers

# Whatever the number of frames a clip: a full-width MA-Net then needs under a GB on a CPU, and a GPU is kept busy.
_IMAGES_AT_ONCE = {"cpu": 32, "cuda": 256}
_VERSION = 2  # of decoding, cropping and averaging; raised when vectors of the same clip change


class ClipEncoder(Protocol):
    """One encoder of a profile, ready to run."""

    @property
    def name(self) -> str: ...

    @property
    def sets(self) -> Mapping[str, int]:
        """Width of each feature set that it makes."""

    @property
    def identity(self) -> Mapping[str, object]:
        """All that determines the vectors of a clip, as plain values."""

    @property
    def batch(self) -> int:
        """Clips to encode together."""

    @property
    def device(self) -> torch.device:
        """Where it computes."""

    @property
    def plan(self) -> DecodingPlan:
        """How clips are decoded for it, for a process that does only that."""

    def decode(self, path: Path, corruption: ClipCorruption | None = None) -> DecodedClip:
        """Reads a clip; called from several threads. Raises ClipError with the reason for a useless one."""

    def encode(self, clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        """B clips -> for each set (B, D) float32; no clip's vector depends on the others."""


@dataclass(frozen=True)
class SpeechEncoder:
    """The layers of HuBERT, or of a model of its shape, over the sound of a clip."""

    name: str
    batch: int
    reader: ClipReader
    identity: Mapping[str, object]
    layers: "HubertLayers"

    @property
    def sets(self) -> Mapping[str, int]:
        return {f"{self.name}-{layer}": self.layers.width for layer in self.layers.layers}

    @property
    def device(self) -> torch.device:
        return self.layers.device

    @property
    def plan(self) -> DecodingPlan:
        return self.reader.plan

    def decode(self, path: Path, corruption: ClipCorruption | None = None) -> DecodedClip:
        return self.reader(path, corruption)

    def encode(self, clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        vectors = self.layers([np.asarray(clip.content) for clip in clips])
        return {f"{self.name}-{layer}": vectors[layer] for layer in self.layers.layers}


@dataclass(frozen=True)
class FaceEncoder:
    """A convolutional network over the face in some frames of a clip, averaged over the frames."""

    name: str
    batch: int
    reader: ClipReader
    identity: Mapping[str, object]
    width: int
    preprocess: Callable[[NDArray[np.uint8]], Tensor]
    embed: Callable[[Tensor], Tensor]
    device: torch.device
    dtype: torch.dtype

    @property
    def sets(self) -> Mapping[str, int]:
        return {self.name: self.width}

    @property
    def plan(self) -> DecodingPlan:
        return self.reader.plan

    def decode(self, path: Path, corruption: ClipCorruption | None = None) -> DecodedClip:
        return self.reader(path, corruption)

    def encode(self, clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        if not clips:
            return {self.name: np.zeros((0, self.width), dtype=np.float32)}
        crops = chain.from_iterable(clip.content for clip in clips)
        with torch.inference_mode():
            parts = [self._embedded(images) for images in _blocks(crops, _IMAGES_AT_ONCE[self.device.type])]
            of_clips = torch.split_with_sizes(torch.cat(parts), [len(clip.content) for clip in clips])
            vectors = torch.stack([embeddings.mean(dim=0) for embeddings in of_clips])
        return {self.name: vectors.numpy()}

    def _embedded(self, images: NDArray[np.uint8]) -> Tensor:
        prepared = self.preprocess(images).to(self.device, self.dtype, memory_format=torch.channels_last)
        return self.embed(prepared).float().cpu()


def _blocks(crops: Iterator[NDArray[np.uint8]], most: int) -> Iterator[NDArray[np.uint8]]:
    """(k, S, S, 3) with k = `most` crops but for the last one."""
    while block := list(islice(crops, most)):
        yield np.stack(block)


def build_encoder(
    name: str, config: EncoderConfig, root: Path = Path(), limits: MediaLimits | None = None
) -> ClipEncoder:
    """Loads an encoder's checkpoint.

    Args:
        name: the encoder's name in the profile; feature sets are named after it.
        config: which encoder, and how it runs.
        root: what the checkpoint's path is relative to. Names on the hub are looked up in its local cache.
        limits: what a clip may be; the defaults when omitted.

    Raises:
        InputError: the checkpoint is missing or does not fit.
    """
    path = checkpoint_path(name, config.checkpoint, root)
    limits = limits or MediaLimits()
    if config.kind in SPEECH_KINDS:
        return _build_speech_encoder(name, config, path, limits)
    return _build_face_encoder(name, config, path, limits, root)


def checkpoint_path(name: str, checkpoint: str, root: Path = Path()) -> Path:
    """Where the checkpoint of the encoder `name` lies, in the project or in the hub's local cache.

    Raises:
        InputError: in neither.
    """
    path = root / checkpoint
    if path.exists():
        return path
    from mer_pnao.encoders.hub import hub_name, resolve

    if hub_name(checkpoint) is None:
        raise InputError(
            f"{path}: no such checkpoint for {name}; one on the hub is data/hub/organisation/name@revision"
        )
    return resolve(checkpoint)


def _build_speech_encoder(name: str, config: EncoderConfig, path: Path, limits: MediaLimits) -> SpeechEncoder:
    from mer_pnao.encoders.hubert import HubertLayers  # transformers takes seconds to import: only if needed
    from mer_pnao.encoders.speech_models import FAMILIES, HUBERT_FAMILIES

    layers = HubertLayers(
        path,
        config.layers,
        config.precision,
        window_seconds=config.window_seconds,
        batch_seconds=config.batch_seconds,
        families=HUBERT_FAMILIES if config.kind == "hubert" else tuple(FAMILIES),
    )
    sets = dict(zip(config.sets(name), [layers.width] * len(config.layers), strict=True))
    identity = _identity(config, path, sets, limits, layers.dtype) | {"layers": list(config.layers)}
    # Named only where they are used, so that sets made before there was a choice stay valid.
    if config.batch_seconds:
        identity |= {"batch_seconds": config.batch_seconds}
    if config.window_seconds:
        identity |= {"window_seconds": config.window_seconds}
    return SpeechEncoder(name, config.batch, clip_reader(DecodingPlan("sound", limits)), identity, layers)


def _build_face_encoder(name: str, config: EncoderConfig, path: Path, limits: MediaLimits, root: Path) -> FaceEncoder:
    device, dtype = placement(config.precision)
    network = _image_network(config, path)
    network.module.to(device=device, dtype=dtype)
    # Convolutions on the CPU are faster so; the stubs of torch do not know the argument.
    network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    identity = _identity(config, path, {name: network.width}, limits, dtype) | {"frames": config.frames}
    if config.frames_per_second:
        identity |= {"frames_per_second": config.frames_per_second}
    plan = DecodingPlan("faces", limits, config.frames, network.crop_side, config.frames_per_second)
    reader = clip_reader(plan, root, usable_cores(), config.batch)
    identity |= _face_sources(limits, root)
    if config.kind == "manet":
        identity |= {"order": config.order}
    elif config.kind == "image":
        identity |= {"pool": config.pool}
    return FaceEncoder(
        name,
        config.batch,
        reader,
        identity,
        network.width,
        network.preprocess,
        network.embed,
        device,
        dtype,
    )


def _face_sources(limits: MediaLimits, root: Path) -> dict[str, str]:
    """What crops depend on beside the clips: a detector's file or ready crops, told by content."""
    places = {"detector_sha256": limits.detector, "crops_sha256": limits.crops}
    return {key: digest(root / place) for key, place in places.items() if place}


class _ImageNetwork(NamedTuple):
    """What the image encoders have in common."""

    module: nn.Module
    preprocess: Callable[[NDArray[np.uint8]], Tensor]
    embed: Callable[[Tensor], Tensor]
    crop_side: int
    width: int


def _image_network(config: EncoderConfig, path: Path) -> _ImageNetwork:
    if config.kind == "manet":
        faces = manet.load_manet(path, config.order)
        return _ImageNetwork(faces, manet.preprocess, faces.embed, manet.IMAGE_SIZE, faces.embedding_width)
    if config.kind == "resnet":
        ferplus = resnet.load_resnet(path)
        return _ImageNetwork(ferplus, resnet.preprocess, ferplus.embed, resnet.SHORT_SIDE, ferplus.embedding_width)
    from mer_pnao.encoders.image_models import load_image_model  # transformers takes seconds to import

    model = load_image_model(path, config.pool)
    return _ImageNetwork(model.network, model.preprocess, model.embed, model.crop_side, model.width)


def _identity(
    config: EncoderConfig, path: Path, sets: Mapping[str, int], limits: MediaLimits, dtype: torch.dtype
) -> dict[str, object]:
    return {
        "version": _VERSION,
        "kind": config.kind,
        "checkpoint_sha256": checkpoint_digest(path),
        "precision": str(dtype).removeprefix("torch."),
        "sets": dict(sets),
        # Where faces come from is told by content, and only for images; memory changes no vector.
        "media": {key: value for key, value in asdict(limits).items() if key not in ("detector", "crops", "memory_mb")},
    }
