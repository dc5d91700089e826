"""A model as a folder in the layout of transformers: which of its files are read, and how."""

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from mer_pnao.encoders.checkpoints import load_state_dict
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest, read_json

CONFIG, PREPROCESSOR = "config.json", "preprocessor_config.json"
# What cuts a sentence into tokens, in the forms that published models of text have.
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model", "spm.model")
TOKENIZER = (*VOCABULARIES, "tokenizer_config.json", "special_tokens_map.json", "added_tokens.json", "merges.txt")
# In the order of preference; an index names the shards of a large model.
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json")


def read_config(folder: Path) -> dict[str, Any]:
    """The content of `config.json`. Raises InputError for none, or one that names no `model_type`."""
    if not (folder / CONFIG).is_file():
        raise InputError(f"{folder}: no such checkpoint (a folder with {CONFIG})")
    config = read_json(folder / CONFIG)
    if not isinstance(config.get("model_type"), str):
        raise InputError(f"{folder / CONFIG} names no model_type")
    return config


def one_line(error: Exception) -> str:
    """What a library says of a folder, for the end of a sentence."""
    return " ".join(str(error).split())


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of the model by key, from safetensors where they exist, else from PyTorch files.

    Raises InputError where there are none, or a file is damaged or holds pickled objects other than tensors.
    """
    state: dict[str, Tensor] = {}
    for path in _weight_files(folder):
        if not path.name.endswith(".json"):
            state |= load_state_dict(path)
    return state


def loaded_files(checkpoint: Path) -> list[Path]:
    """The files of a checkpoint that decide what it computes: itself, or those of the folder that are read.

    A folder may hold the same weights for other frameworks, and a page about them, which decide nothing. Raises
    InputError where there is no such file or folder, or the folder is no model.
    """
    if checkpoint.is_file():
        return [checkpoint]
    read_config(checkpoint)
    preprocessor = [path for path in [checkpoint / PREPROCESSOR] if path.is_file()]
    # A model of speech or images may hold a tokenizer, too, for what is not done here.
    prepare = preprocessor or [path for name in TOKENIZER if (path := checkpoint / name).is_file()]
    return sorted([checkpoint / CONFIG, *prepare, *_weight_files(checkpoint)])


def checkpoint_digest(checkpoint: Path) -> str:
    """SHA-256 of a checkpoint's file, or of the names and contents of `loaded_files`, with the same errors."""
    files = loaded_files(checkpoint)
    if checkpoint.is_file():
        return digest(checkpoint)
    total = hashlib.sha256()
    for file in files:
        total.update(f"{file.name}\0{digest(file)}\n".encode())
    return total.hexdigest()


def _weight_files(folder: Path) -> list[Path]:
    """The file of weights, or an index and the shards that it names."""
    found = next((folder / name for name in WEIGHTS if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"{folder} holds no weights: neither {WEIGHTS[0]} nor {WEIGHTS[2]}")
    if found.suffix != ".json":
        return [found]
    shards = read_json(found).get("weight_map")
    if not isinstance(shards, Mapping) or not shards:
        raise InputError(f"{found} names no files of weights")
    names = sorted({str(name) for name in shards.values()})
    for name in names:
        if Path(name).name != name or not (folder / name).is_file():
            raise InputError(f"{found} names {name!r}, which is no file beside it")
    return [found, *(folder / name for name in names)]
