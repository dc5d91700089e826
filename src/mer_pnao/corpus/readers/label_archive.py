"""The official baseline's `label-6way.npz`: dicts of labels, pickled, read without running anything that it says."""

import io
import math
import pickle
import zipfile
from collections.abc import Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mer_pnao.corpus.manifest import checked
from mer_pnao.foundations.errors import InputError

# The archive's parts and their splits here; MER-MULTI, the one of the paper's Table 1, is `test`.
PARTS = {"train_corpus": "train", "test1_corpus": "test", "test2_corpus": "noise", "test3_corpus": "semi"}
_MOST_BYTES = 256 * 1024**2  # of a part, unpacked; a hundred thousand clips take some 10 MB

# What an array of dicts of texts and numbers is made of, in the spellings of numpy 1 and 2. None can run code.
_multiarray = import_module("numpy._core.multiarray")
_HARMLESS: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    **{
        (f"numpy.{core}.multiarray", name): getattr(_multiarray, name)
        for core in ("core", "_core")
        for name in ("_reconstruct", "scalar")
    },
}


class _Restricted(pickle.Unpickler):
    """Knows the constructors of numpy arrays and of nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"the foreign pickled object {module}.{name}")
        return _HARMLESS[module, name]


def read_archive(path: Path, labels: Sequence[str]) -> pd.DataFrame:
    """The labels of an archive as `checked` returns them; a clip without a label belongs to a further test split.

    Raises InputError for a file that is absent or no archive, foreign pickled objects in it, contents of another form,
    and what `checked` refuses, where rows are counted over all parts from 2 on.
    """
    rows = []
    for part, split in PARTS.items():
        for name, entry in _read_part(path, part).items():
            if not isinstance(name, str) or not isinstance(entry, Mapping):
                raise InputError(f"{path}: {part} must hold a dict for each clip's name, not {entry!r} for {name!r}")
            cells = [_text(path, name, value) for value in (name, entry.get("emo", ""), entry.get("val", ""))]
            rows.append((*cells, "", split))
    if not rows:
        raise InputError(f"{path} lists no clip")
    table = pd.DataFrame(rows, columns=["name", "discrete", "valence", "speaker", "split"], dtype=str)
    return checked(table, path, labels)


def _read_part(path: Path, part: str) -> Mapping[Any, Any]:
    """The dict of a part; an empty one where the archive lacks the part."""
    try:
        with zipfile.ZipFile(path) as archive:
            if f"{part}.npy" not in archive.namelist():
                return {}
            if archive.getinfo(f"{part}.npy").file_size > _MOST_BYTES:
                raise InputError(f"{path}: {part} unpacks to more than {_MOST_BYTES >> 20} MB")
            content = io.BytesIO(archive.read(f"{part}.npy"))
        version = np.lib.format.read_magic(content)
        if version not in ((1, 0), (2, 0)):
            raise InputError(f"{path}: {part} is in the array format {version}, not 1.0 or 2.0")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, _, dtype = read(content)
        if dtype != np.dtype(object) or math.prod(shape) != 1:
            raise InputError(f"{path}: {part} must hold one dict, not {dtype} of the shape {shape}")
        array = _Restricted(content).load()
    except FileNotFoundError as error:
        raise InputError(f"{path} does not exist") from error
    except pickle.UnpicklingError as error:
        raise InputError(f"{path}: {part} is refused: {error}") from error
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise whatever its constructors raise
        raise InputError(f"{path} is not a readable label archive: {error}") from error
    held = array.reshape(-1)[0] if isinstance(array, np.ndarray) and array.size == 1 else array
    if not isinstance(held, Mapping):
        raise InputError(f"{path}: {part} must hold a dict, not {type(held).__name__}")
    return held


def _text(path: Path, name: str, value: object) -> str:
    if value is None or value != value:  # NaN is not equal to itself
        return ""
    if isinstance(value, str | int | float | np.integer | np.floating):
        text = str(value)
        if any("\ud800" <= letter <= "\udfff" for letter in text):
            raise InputError(f"{path}: clip {name!r} has {text!r}, a text with half a character in it")
        return text
    raise InputError(f"{path}: clip {name!r} has {value!r}, neither a text nor a number")
