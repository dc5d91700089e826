"""Checkpoints by their name on the Hugging Face hub: `organisation/name@revision`, read from its local cache.

Nothing is downloaded but by `fetch`. In front of the name may stand a folder, such as `data/hub/`: there `fetch` puts
the files, for DVC follows files only.
"""

import os
import shutil
from pathlib import Path

from huggingface_hub import snapshot_download
from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

from mer_pnao.encoders.hub_name import HubName, hub_name
from mer_pnao.encoders.model_folder import CONFIG, PREPROCESSOR, TOKENIZER, WEIGHTS, loaded_files
from mer_pnao.foundations.errors import InputError

# Either kind of weights, never the same ones again for other frameworks.
_SMALL = [CONFIG, PREPROCESSOR, *TOKENIZER]
_SAFE = [*_SMALL, "model.safetensors", "model.safetensors.index.json", "model-*.safetensors"]
_PICKLED = [*_SMALL, "pytorch_model.bin", "pytorch_model.bin.index.json", "pytorch_model-*.bin"]


def resolve(checkpoint: Path | str, root: Path = Path()) -> Path:
    """The file or folder of a checkpoint: a path below root, else what the hub's local cache holds of the name.

    Raises InputError where it is neither.
    """
    path = root / checkpoint
    if path.exists():
        return path
    name = hub_name(str(checkpoint))
    if name is None:
        raise InputError(f"{path}: no such checkpoint, and no name of the form organisation/name@revision")
    found = _cached(name)
    if found is None:
        raise InputError(f"{checkpoint}: not there, and not whole in the Hugging Face cache; `mer fetch` downloads it")
    return found


def fetch(checkpoint: str, root: Path = Path()) -> Path:
    """Downloads a checkpoint into the hub's local cache unless it is there, and into the folder before its name.

    Returns where the files lie: in that folder below root, else in the cache. Raises InputError for a name that is
    none, is not on the hub, or cannot be reached.
    """
    name = hub_name(checkpoint)
    if name is None:
        raise InputError(f"{checkpoint!r} is no name of the form organisation/name@revision")
    found = _cached(name) or _download(name)
    target = root / checkpoint
    if checkpoint == str(name):
        return found
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    for file in loaded_files(found):
        _link_or_copy(file.resolve(), partial / file.name)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)
    return target


def _cached(name: HubName) -> Path | None:
    """The snapshot in the local cache, when it is whole enough to be loaded."""
    try:
        folder = Path(snapshot_download(name.repository, revision=name.revision, local_files_only=True))
        loaded_files(folder)
    except (LocalEntryNotFoundError, HFValidationError, InputError):
        return None
    return folder


def _download(name: HubName) -> Path:
    for patterns in (_SAFE, _PICKLED):
        try:
            folder = Path(snapshot_download(name.repository, revision=name.revision, allow_patterns=patterns))
        except (HfHubHTTPError, LocalEntryNotFoundError, OSError, HFValidationError) as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            raise InputError(f"{name} cannot be downloaded: {reason}") from error
        if any((folder / weights).is_file() for weights in WEIGHTS):
            return folder
    raise InputError(f"{name} holds no weights that can be read: {' or '.join(WEIGHTS)}")


def _link_or_copy(source: Path, target: Path) -> None:
    """A second name for the same gigabyte where the disk allows it."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)
