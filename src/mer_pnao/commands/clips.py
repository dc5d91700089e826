"""The clips that a person names on the command line."""

import glob
from collections.abc import Iterable
from pathlib import Path

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS, clips_in
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed


def clips_of(arguments: Iterable[str]) -> dict[str, Path]:
    """The clips named, in the folders named or matching the patterns, by name, in the order of the arguments.

    A pattern that the shell left alone, such as `"clips/**/*.mp4"`, takes folders and files with the ending of a video.
    Raises InputError when there is nothing, or two clips have one name.
    """
    found: dict[str, Path] = {}
    for argument in arguments:
        for path in _matching(argument):
            for name, clip in _clips_at(path).items():
                if name in found and not found[name].samefile(clip):
                    raise InputError(f"two clips are called {name!r}: {found[name]} and {clip}")
                found.setdefault(name, clip)
    return found


def clip_name(argument: str) -> str:
    """The name of a clip, which may hold points, when the ending of its video or of its features is named with it."""
    name = composed(Path(argument).name)
    return Path(name).stem if Path(name).suffix.lower() in (*EXTENSIONS, ".npy") else name


def _matching(argument: str) -> list[Path]:
    path = Path(argument)
    if not argument:
        raise InputError("an empty name names no clip")
    try:
        if path.exists():
            return [path]
    except OSError as error:  # too long for a name, or in a folder that is closed to this user
        raise InputError(f"{path} cannot be looked for: {error.strerror}") from error
    if not glob.has_magic(argument):
        raise InputError(f"{path} does not exist")
    # pathlib takes no pattern that starts at the root.
    matches = [Path(match) for match in sorted(glob.glob(argument, recursive=True))]  # noqa: PTH207
    clips = [match for match in matches if match.suffix.lower() in EXTENSIONS]
    if not clips:
        raise InputError(f"no clip ({', '.join(EXTENSIONS)}) matches {argument!r}")
    return clips


def _clips_at(path: Path) -> dict[str, Path]:
    return clips_in(path) if path.is_dir() else {composed(path.stem): path}
