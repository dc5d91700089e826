"""The encoders that a model was trained with, loaded anew and held against the model's record of them."""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.extraction.clip_encoders import ClipEncoder, build_encoder, checkpoint_path, difference
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.foundations.precision import Precision
from mer_pnao.media.config import MediaLimits
from mer_pnao.outs.names import ENCODERS

_READY = "give ready features with --features"
_PRECISIONS: dict[str, Precision] = {"float32": "fp32", "bfloat16": "bf16"}  # of an identity -> of a profile


def read_record(directory: Path, sets: Iterable[str], version: str) -> dict[str, Any]:
    """The `encoders.json` of a model's folder, which names an encoder that can be run for each set that it reads.

    `version` is what to call the model. Raises InputError where there is no record, or it lacks a set or the settings
    of an encoder, as of imported features.
    """
    path = directory / ENCODERS
    if not path.is_file():
        raise InputError(
            f"{version} holds no {ENCODERS}, which says how to make features of a clip: train it again, or {_READY}"
        )
    try:
        record = read_json(path)
        made = {name for encoder in record.values() for name in encoder["sets"]}
        imported = [name for encoder in record.values() if "config" not in encoder for name in encoder["sets"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InputError(f"{path} is not a record of encoders") from error
    if imported:
        raise InputError(
            f"the feature set {imported[0]} of {version} was imported, and no encoder here makes it: {_READY}"
        )
    if missing := sorted(set(sets) - made):
        raise InputError(f"{path} names no encoder for the feature set {missing[0]}")
    return record


def load_encoders(
    record: Mapping[str, Any], version: str, root: Path = Path(), known: Mapping[str, ClipEncoder] | None = None
) -> dict[str, ClipEncoder]:
    """The encoders of a record of `read_record` by name, of the model that is called `version`.

    The paths of checkpoints and of a face detector are relative to root. Of the encoders that are known, as they are
    loaded already, one that is what the record says is taken instead of a second copy. Raises InputError where a
    checkpoint is absent or another one than the model was trained with, or an encoder would run in another way, naming
    encoder, what was expected and what was found.
    """
    known = known or {}
    return {
        name: known[name]
        if name in known and difference(entry["identity"], known[name].identity) is None
        else _load(name, entry, version, root)
        for name, entry in record.items()
    }


def _load(name: str, entry: Mapping[str, Any], version: str, root: Path) -> ClipEncoder:
    identity = entry["identity"]
    try:
        # As the training machine chose for `auto`, which may mean another precision here.
        chosen = {"layers": tuple(entry["config"]["layers"]), "precision": _PRECISIONS[identity["precision"]]}
        config = EncoderConfig(**{**entry["config"], **chosen})
        limits = MediaLimits(**entry["media"])
        expected = str(identity["checkpoint_sha256"])
    except (KeyError, TypeError, ValueError) as error:
        raise InputError(f"the {ENCODERS} of {version} does not say how to run the encoder {name}: {error}") from error
    try:
        path = checkpoint_path(name, config.checkpoint, root)
        found = checkpoint_digest(path)
    except InputError as error:
        raise InputError(f"{error}; {version} was trained with the one of sha256 {expected}") from error
    if found != expected:
        raise InputError(
            f"{path} is another checkpoint of the encoder {name} than {version} was trained with: "
            f"its sha256 is {found}, not {expected}"
        )
    encoder = build_encoder(name, config, root, limits)
    if unlike := difference(identity, encoder.identity):
        key, was, now = unlike
        raise InputError(
            f"the encoder {name} would not run as when {version} was trained: {key} is {now!r}, and was {was!r}"
        )
    return encoder
