"""A folder of clips with a `labels.csv` beside them: own clips, and what the demo renders."""

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import read_labels
from mer_pnao.errors import InputError

EXTENSIONS = (".mp4", ".avi", ".mkv", ".mov", ".webm", ".flv")


def clips_in(folder: Path) -> dict[str, Path]:
    """The clips of a folder by name, in the order of their names.

    Raises InputError when the folder does not exist, holds no clip, or holds one name twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    clips: dict[str, Path] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in EXTENSIONS:
            if path.stem in clips:
                raise InputError(f"{folder} holds clip {path.stem!r} twice: {clips[path.stem].name} and {path.name}")
            clips[path.stem] = path
    if not clips:
        raise InputError(f"{folder} holds no clip ({', '.join(EXTENSIONS)})")
    return clips


def read_folder(root: Path, labels: Sequence[str]) -> pd.DataFrame:
    """The manifest of `root/labels.csv` and the clips beside it or in `root/clips`.

    Raises InputError for what `read_labels` refuses, and for a listed clip that is not there.
    """
    table = read_labels(root / "labels.csv", labels)
    folder = root / "clips" if (root / "clips").is_dir() else root
    clips = clips_in(folder)
    for row, name in enumerate(table["name"], start=2):
        if name not in clips:
            raise InputError(f"{root / 'labels.csv'}, row {row}: {folder} holds no clip {name!r}")
    return table.assign(path=[str(clips[name].relative_to(root)) for name in table["name"]])
