"""A folder of clips with a label CSV beside them: own clips, and what the demo renders."""

import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.corpus.manifest import CorpusError, alike, read_labels
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed

# Of the containers that `media/container.py` opens, in lower case; other lists are made of this one.
EXTENSIONS = (
    *(".mp4", ".m4v", ".mov", ".3gp", ".3g2", ".mkv", ".webm", ".avi", ".flv"),
    *(".ts", ".mts", ".m2ts", ".mpg", ".mpeg", ".wmv", ".asf", ".ogv"),
)


def clips_in(folder: Path) -> dict[str, Path]:
    """The clips below a folder by name, in the order of their names; names in Unicode's composed form (NFC).

    Hidden files and folders are left alone: among them are the companions that macOS gives each file on other disks.
    Links are followed, but each folder is gone through once, by its own place rather than by a link, and none above.
    Raises InputError when the folder does not exist, holds no clip, or holds one name twice.
    """
    if not folder.is_dir():
        raise InputError(f"{folder} is not a folder")
    clips: dict[str, Path] = {}
    # As texts, in the order of their parts: with paths, a hundred thousand files take three times as long.
    for place in sorted(_clips(folder), key=lambda place: place.split(os.sep)):  # noqa: PTH206
        path = Path(place)
        name = composed(path.stem)
        if name in clips:
            both = f"{clips[name].relative_to(folder)} and {path.relative_to(folder)}"
            raise InputError(f"{folder} holds clip {name!r} twice: {both}")
        clips[name] = path
    if not clips:
        raise InputError(f"{folder} holds no clip ({', '.join(EXTENSIONS)})")
    return clips


def read_folder(root: Path, labels: Sequence[str], label_file: str = "labels.csv") -> pd.DataFrame:
    """The labels of `root/<label_file>` and the paths of their clips, anywhere in `root/clips` or else in `root`.

    Raises InputError for what `read_labels` and `clips_in` refuse, and for each listed clip that is not there.
    """
    source = root / label_file
    return with_paths(read_labels(source, labels), root, clip_folder(root), source)


def clip_folder(root: Path) -> Path:
    """Where a labelled folder holds its clips: in `clips`, or itself."""
    return root / "clips" if (root / "clips").is_dir() else root


def with_paths(
    table: pd.DataFrame,
    root: Path,
    folder: Path,
    source: Path,
    may_lack: Collection[str] = (),
    clips: Mapping[str, Path] | None = None,
) -> pd.DataFrame:
    """The table of `source` with each clip's path below root, without those that the folder lacks and may lack.

    `clips` is what `clips_in` finds in the folder, where that is known. Raises CorpusError for the other clips that the
    folder lacks.
    """
    clips = clips_in(folder) if clips is None else clips
    absent = [
        (row, name) for row, name in enumerate(table["name"], start=2) if name not in clips and name not in may_lack
    ]
    if absent:
        hint = alike(clips)
        raise CorpusError(
            [
                f"{source}, row {row}: {folder} holds no clip {name!r}{hint(name) or _hint(name, source)}"
                for row, name in absent
            ]
        )
    table = table[[name in clips for name in table["name"]]]
    return table.assign(path=[clips[name].relative_to(root).as_posix() for name in table["name"]])


def _hint(name: str, source: Path) -> str:
    if name.lower().endswith(EXTENSIONS):
        return "; names are written without the ending"
    return "; `mer profile` links clips that came later" if source.is_symlink() else ""


def _clips(folder: Path) -> list[str]:
    found, waiting = list[str](), [str(folder)]
    seen = {_identity(above) for above in folder.resolve().parents}
    for start in waiting:  # grows by the folders that are linked
        for here, folders, files in os.walk(start):
            if (identity := _identity(here)) in seen:
                folders.clear()
                continue
            seen.add(identity)
            folders[:] = sorted(name for name in folders if not name.startswith(".") and name != "__MACOSX")
            waiting += [place for name in folders if os.path.islink(place := os.path.join(here, name))]  # noqa: PTH114, PTH118
            named = (name for name in files if not name.startswith(".") and name.lower().endswith(EXTENSIONS))
            found += [os.path.join(here, name) for name in named]  # noqa: PTH118
    return found


def _identity(folder: str | Path) -> tuple[int, int]:
    """What a folder has whichever way one comes to it."""
    status = os.stat(folder)  # noqa: PTH116
    return status.st_dev, status.st_ino
