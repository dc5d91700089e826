"""From a clip's file to its vectors: what each encoder needs decoded, and how frames become one vector.

Legend of shapes: B clips, n frames of a clip, S the side of a face crop, D the width of a set.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import chain, islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.encoders import manet, resnet
from mer_pnao.encoders.config import PREPARATION, SPEECH_KINDS, EncoderConfig
from mer_pnao.encoders.images import ImageNetwork
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.extraction.clip_reader import ClipReader, DecodedClip, DecodingPlan
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.foundations.placement import placement
from mer_pnao.media.config import MediaLimits

if TYPE_CHECKING:
    from mer_pnao.encoders.hubert import HubertLayers
    from mer_pnao.encoders.whisper import WhisperLayers

# Whatever the number of frames a clip: a full-width MA-Net then needs under a GB on a CPU, and a GPU is kept busy.
_IMAGES_AT_ONCE = {"cpu": 32, "cuda": 256}
_VERSION = 2  # of decoding, cropping and averaging; raised when vectors of the same clip change


@dataclass(frozen=True)
class ClipEncoder:
    """One encoder of a profile, ready to run."""

    name: str
    sets: Mapping[str, int]  # width of each feature set that it makes
    identity: Mapping[str, object]  # all that determines the vectors of a clip, as plain values
    batch: int  # clips to encode together
    reader: ClipReader | None  # of its clips; None: it takes their words
    device: torch.device  # where it computes
    # B clips -> for each set (B, D) float32; no clip's vector depends on the others
    encode: Callable[[Sequence[DecodedClip]], dict[str, NDArray[np.float32]]]
    # A clip's sound or pictures -> for each set the vectors (n, D) float32, in order of time, whose mean `encode` gives
    over_time: Callable[[DecodedClip], dict[str, NDArray[np.float32]]] | None = None  # None: of words
    hop: int = 0  # of sound only: samples from the beginning of one such vector to that of the next


def build_encoder(
    name: str, config: EncoderConfig, root: Path = Path(), limits: MediaLimits | None = None
) -> ClipEncoder:
    """Loads an encoder, whose feature sets are named after it.

    The checkpoint's path is relative to root; a name on the hub is looked up in its local cache. Raises InputError
    where it is missing or does not fit.
    """
    path = checkpoint_path(name, config.checkpoint, root)
    limits = limits or MediaLimits()
    if config.kind in SPEECH_KINDS:
        return _speech_encoder(name, config, path, limits)
    if config.kind == "text":
        return _text_encoder(name, config, path)
    return _face_encoder(name, config, path, limits, root)


def difference(expected: Mapping[str, Any], found: Mapping[str, object]) -> tuple[str, object, object] | None:
    """The first key in which two identities differ, with both values; None when they are the same."""
    plain = json.loads(json.dumps(dict(found)))
    keys = sorted(expected.keys() | plain.keys())
    return next(((key, expected.get(key), plain.get(key)) for key in keys if expected.get(key) != plain.get(key)), None)


def checkpoint_path(name: str, checkpoint: str, root: Path = Path()) -> Path:
    """Where the checkpoint of the encoder `name` lies, in the project or in the hub's local cache.

    Raises InputError where it is in neither.
    """
    path = root / checkpoint
    if path.exists():
        return path
    from mer_pnao.encoders.hub import resolve
    from mer_pnao.encoders.hub_name import hub_name

    if hub_name(checkpoint) is None:
        raise InputError(
            f"{path}: no such checkpoint for {name}; one on the hub is data/hub/organisation/name@revision"
        )
    return resolve(checkpoint)


def _speech_encoder(name: str, config: EncoderConfig, path: Path, limits: MediaLimits) -> ClipEncoder:
    """The layers of a speech model over the sound of a clip."""
    layers = _speech_layers(config, path)

    def encode(clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        vectors = layers([np.asarray(clip.content) for clip in clips])
        return dict(zip(config.sets(name), (vectors[layer] for layer in config.layers), strict=True))

    def over_time(clip: DecodedClip) -> dict[str, NDArray[np.float32]]:
        frames = layers.over_time(np.asarray(clip.content))
        return dict(zip(config.sets(name), (frames[layer] for layer in config.layers), strict=True))

    sets = dict.fromkeys(config.sets(name), layers.width)
    own: dict[str, object] = {"layers": list(config.layers)} | _where_used(config, "batch_seconds", "window_seconds")
    identity = _identity(config, path, sets, limits, layers.dtype) | own
    reader = ClipReader(DecodingPlan("sound", limits))
    return ClipEncoder(
        name, sets, identity, config.batch, reader, layers.device, encode=encode, over_time=over_time, hop=layers.hop
    )


def _speech_layers(config: EncoderConfig, path: Path) -> "HubertLayers | WhisperLayers":
    """The layers of HuBERT, of a model of its shape, or of Whisper's encoder."""
    # transformers takes seconds to import: only if needed
    from mer_pnao.encoders.speech_models import FAMILIES, HUBERT_FAMILIES, WHISPER, family_of

    families = HUBERT_FAMILIES if config.kind == "hubert" else (*FAMILIES, WHISPER)
    if family_of(path, families) == WHISPER:
        from mer_pnao.encoders.whisper import WhisperLayers

        if config.window_seconds:
            own = f"Whisper has windows of its own, so window_seconds must be 0, not {config.window_seconds}"
            raise InputError(f"{path}: {own}")
        return WhisperLayers(path, config.layers, config.precision, config.batch_seconds)
    from mer_pnao.encoders.hubert import HubertLayers

    seconds = {"window_seconds": config.window_seconds, "batch_seconds": config.batch_seconds}
    return HubertLayers(path, config.layers, config.precision, **seconds, families=families)


def _text_encoder(name: str, config: EncoderConfig, path: Path) -> ClipEncoder:
    """A model of text over the words of a clip."""
    from mer_pnao.encoders.text_models import TextLayers  # transformers takes seconds to import: only if needed

    layers = TextLayers(path, config.layers, config.precision)

    def encode(clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        return {name: layers([str(clip.content) for clip in clips])}

    sets = {name: layers.width}
    identity = _identity(config, path, sets, None, layers.dtype) | {"layers": list(config.layers)}
    return ClipEncoder(name, sets, identity, config.batch, None, layers.device, encode)


def _embeddings(
    network: ImageNetwork, clips: Sequence[DecodedClip], device: torch.device, dtype: torch.dtype
) -> torch.Tensor:
    """The network's embeddings of the face crops of some clips, one after another: (n, D)."""
    crops = chain.from_iterable(clip.content for clip in clips)
    parts = []
    with torch.inference_mode():
        for images in _blocks(crops, _IMAGES_AT_ONCE[device.type]):
            prepared = network.preprocess(images).to(device, dtype, memory_format=torch.channels_last)
            parts.append(network.embed(prepared).float().cpu())
        return torch.cat(parts)


def _blocks(crops: Iterator[NDArray[np.uint8]], most: int) -> Iterator[NDArray[np.uint8]]:
    """(k, S, S, 3) with k = `most` crops but for the last one."""
    while block := list(islice(crops, most)):
        yield np.stack(block)


def _face_encoder(name: str, config: EncoderConfig, path: Path, limits: MediaLimits, root: Path) -> ClipEncoder:
    # ONNX Runtime comes for the CPU, and its networks say themselves what they compute in.
    on_cpu = torch.device("cpu"), torch.float32
    device, dtype = on_cpu if config.on_onnx_runtime else placement(config.precision)
    network = _image_network(config, path)
    network.module.to(device=device, dtype=dtype)
    # Convolutions on the CPU are faster so; the stubs of torch do not know the argument.
    network.module.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    plan = DecodingPlan("faces", limits, config.frames, network.crop_side, config.frames_per_second)
    reader = ClipReader(plan, root, usable_cores(), config.batch)
    sets = {name: network.width}
    own: dict[str, object] = {"frames": config.frames} | _where_used(config, "frames_per_second", "runtime")
    # What crops depend on beside the clips: the content of a detector's file or of ready crops.
    places = {"detector_sha256": limits.detector, "crops_sha256": limits.crops}
    own |= {key: digest(root / place) for key, place in places.items() if place}
    if config.kind == "manet":
        own |= {"order": config.order}
    elif config.kind == "image":
        own |= {"pool": config.pool}
    elif config.kind == "onnx":
        own |= {key: getattr(config, key) for key in PREPARATION}
    identity = _identity(config, path, sets, limits, dtype) | own

    def encode(clips: Sequence[DecodedClip]) -> dict[str, NDArray[np.float32]]:
        embedded = _embeddings(network, clips, device, dtype)
        of_clips = torch.split_with_sizes(embedded, [len(clip.content) for clip in clips])
        return {name: torch.stack([embeddings.mean(dim=0) for embeddings in of_clips]).numpy()}

    def over_time(clip: DecodedClip) -> dict[str, NDArray[np.float32]]:
        return {name: _embeddings(network, [clip], device, dtype).numpy()}

    return ClipEncoder(name, sets, identity, config.batch, reader, device, encode=encode, over_time=over_time)


def _image_network(config: EncoderConfig, path: Path) -> ImageNetwork:
    if config.kind == "image":
        from mer_pnao.encoders.image_models import load_image_model  # transformers takes seconds to import

        return load_image_model(path, config.pool)
    if not config.on_onnx_runtime:
        return _own_network(config, path)
    from mer_pnao.encoders.onnx_images import exported, load_onnx_images  # an optional extra

    if config.kind == "onnx":
        return load_onnx_images(path, config)
    return exported(_own_network(config, path), manet.IMAGE_SIZE)


def _own_network(config: EncoderConfig, path: Path) -> ImageNetwork:
    if config.kind == "manet":
        faces = manet.load_manet(path, config.order)
        return ImageNetwork(faces, manet.preprocess, faces.embed, manet.IMAGE_SIZE, faces.embedding_width)
    ferplus = resnet.load_resnet(path)
    return ImageNetwork(ferplus, resnet.preprocess, ferplus.embed, resnet.SHORT_SIDE, ferplus.embedding_width)


def _identity(
    config: EncoderConfig, path: Path, sets: Mapping[str, int], limits: MediaLimits | None, dtype: torch.dtype
) -> dict[str, object]:
    # Where faces come from counts by its content, and only for images; memory changes no vector.
    media = (
        {key: value for key, value in asdict(limits).items() if key not in ("detector", "crops", "memory_mb")}
        if limits
        else {}
    )
    return {
        "version": _VERSION,
        "kind": config.kind,
        "checkpoint_sha256": checkpoint_digest(path),
        "precision": str(dtype).removeprefix("torch."),
        "sets": dict(sets),
        "media": media,
    }


def _where_used(config: EncoderConfig, *keys: str) -> dict[str, object]:
    """Values that are named only where they are used, so that sets made before there was a choice stay valid."""
    return {key: getattr(config, key) for key in keys if getattr(config, key)}
