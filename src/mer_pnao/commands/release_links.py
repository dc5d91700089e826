"""The corpus folder of a challenge's release: links to what the profile reads of it, and to nothing else.

A release holds a hundred thousand videos that no list names. DVC would hash them all, before each run.
"""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from filelock import FileLock

from mer_pnao.corpus.manifest import CorpusError
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed
from mer_pnao.params.profile import Params

_SHOWN = 20  # faults of a release


def release_of(place: Path) -> Path | None:
    """The release that `link_release` has made a folder of links of; None for anything else."""
    made_of = _beside(place, "release")
    return made_of.readlink() if made_of.is_symlink() and not place.is_symlink() else None


def link_release(place: Path, release: Path, params: Params) -> None:
    """Make `place` a folder of links into `release`, an absolute path.

    Linked are the clips that the release's lists name, its tables, and of what else `params` names below the corpus
    root: transcripts, a detector, noise, and the face crops of these clips. A link, or a folder that this has made, is
    replaced as a whole. Raises InputError for a release that the corpus's reader refuses, and for any other folder in
    the place.
    """
    place.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(_beside(place, "lock")):
        _link(place, release, params)


def _link(place: Path, release: Path, params: Params) -> None:
    ours = release_of(place) is not None and all(path.is_symlink() for path in _files(place))
    if place.exists() and not (place.is_symlink() or ours):
        raise InputError(f"{place} is a folder already; move it away to link it to {release}")
    try:
        clips = read_corpus(params.corpus, release, params.seed)
    except CorpusError as error:  # `mer check` cannot list them: it reads what is linked here
        more = [f"… and {count} more"] if (count := len(error.faults) - _SHOWN) > 0 else []
        raise InputError("\n".join([*error.faults[:_SHOWN], *more])) from error
    named = {*clips["path"], *_tables(release, params), *_media(release, params, set(clips["name"]))}
    if (
        place.is_dir()
        and release == release_of(place)
        and named == {path.relative_to(place).as_posix() for path in _files(place)}
    ):
        return  # whoever reads there is not disturbed
    made_of, partial, before = (_beside(place, what) for what in ("release", "partial", "before"))
    for left in (partial, before):  # by a kill
        shutil.rmtree(left, ignore_errors=True)
    for path in sorted(named):
        link = partial / path
        link.parent.mkdir(parents=True, exist_ok=True)
        link.symlink_to(release / path)
    if place.is_symlink():
        place.unlink()
    elif place.exists():
        place.rename(before)
    if not made_of.is_symlink() or made_of.readlink() != release:
        made_of.unlink(missing_ok=True)
        made_of.symlink_to(release)
    partial.rename(place)
    shutil.rmtree(before, ignore_errors=True)


def _beside(place: Path, what: str) -> Path:
    return place.with_name(f".{place.name}.{what}")


def _tables(release: Path, params: Params) -> Iterator[str]:
    """The lists of clips, and what is said in them."""
    yield from (path.name for path in release.glob("*.csv"))
    said = [encoder.transcripts for encoder in params.encoders.values() if encoder.kind == "text"]
    yield from (path for path in said if (release / path).is_file())


def _media(release: Path, params: Params, clips: set[str]) -> Iterator[str]:
    """What the profile's media and noise are made with, file by file: DVC does not look into linked folders."""
    whole = [params.media.detector, *(corruption.noise for corruption in params.corruption.values())]
    for place in {place for place in whole if Path(place).is_relative_to(params.corpus.root)}:
        source = release / Path(place).relative_to(params.corpus.root)
        files = [source] if source.is_file() else _files(source)
        yield from (path.relative_to(release).as_posix() for path in files)
    crops = Path(params.media.crops or params.corpus.root).relative_to(params.corpus.root)
    if params.media.crops and (release / crops).is_dir():
        for entry in os.scandir(release / crops):  # a clip's own file or folder: see `read_crops`
            if composed(entry.name.removesuffix(".npy").removesuffix("_aligned")) in clips:
                files = _files(Path(entry)) if entry.is_dir() else [Path(entry)]
                yield from (path.relative_to(release).as_posix() for path in files)


def _files(folder: Path) -> list[Path]:
    return [Path(here) / name for here, _, names in os.walk(folder) for name in names]
