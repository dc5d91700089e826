"""The speech videos of RAVDESS, an archive an actor on Zenodo: which there are, their download and their unpacking."""

import re
import shutil
import stat
import zlib
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urlsplit
from zipfile import BadZipFile, ZipFile

import pooch
import requests
from filelock import FileLock, Timeout
from pooch.downloaders import REQUESTS_HEADERS
from pydantic import AliasPath, BaseModel, Field, ValidationError
from tqdm import tqdm

from mer_pnao.foundations.checks import sub_path
from mer_pnao.foundations.errors import InputError

RECORD = "https://zenodo.org/api/records/1188976"
LICENCE = "CC BY-NC-SA 4.0"
TERMS = "not for commercial use; cite Livingstone and Russo (2018), doi:10.1371/journal.pone.0196391"
PLACE = Path("data/ravdess_videos/corpus")  # what the profile ravdess_videos reads
ACTORS = range(1, 25)
_CLIPS = 60  # of each actor, with sound and picture
_PART = ".part"
_CHUNK = 1 << 16  # bytes; so much of what came can a cut connection lose

pooch.get_logger().setLevel("WARNING")


class Archive(BaseModel):
    """What the record says of one of its files."""

    name: str = Field(validation_alias="key")
    size: int = Field(gt=0)  # bytes
    checksum: str = Field(pattern="^md5:[0-9a-f]{32}$")
    url: str = Field(validation_alias=AliasPath("links", "self"), pattern="^https?://")


class _Record(BaseModel):
    files: list[Archive]


def parse_actors(text: str) -> list[int]:
    """Actors by number and range, as in `1,3,5-7`, each once and in order. Raises InputError for what is none."""
    chosen: set[int] = set()
    for part in text.split(","):
        numbers = re.fullmatch(r"\s*(\d+)\s*(?:-\s*(\d+)\s*)?", part, re.ASCII)
        first, last = (int(numbers[1]), int(numbers[2] or numbers[1])) if numbers else (0, 0)
        if not ACTORS[0] <= first <= last <= ACTORS[-1]:
            raise InputError(f"--actors takes numbers and ranges from 1 to 24, such as 1,3,5-7, got {text!r}")
        chosen.update(range(first, last + 1))
    return sorted(chosen)


def missing_actors(actors: Iterable[int], place: Path) -> list[int]:
    """Those of whom not all clips are in their folder below place."""
    return [actor for actor in actors if sum(1 for _ in _folder(place, actor).glob("01-01-*.mp4")) < _CLIPS]


def find_archives(actors: Iterable[int]) -> dict[int, Archive]:
    """The archive of each actor, as the record names it.

    Raises InputError for a server that cannot be reached or answers an error, a record of another form than was known,
    or one without an actor's archive.
    """
    content = BytesIO()
    with _reached(RECORD):
        pooch.HTTPDownloader(headers=REQUESTS_HEADERS, stream=False)(RECORD, content, None)
    try:
        files = {file.name: file for file in _Record.model_validate_json(content.getvalue()).files}
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "its text"
        raise InputError(f"{RECORD} has another form than it had, {where}: {first['msg']}") from error
    names = {actor: f"Video_Speech_Actor_{actor:02}.zip" for actor in actors}
    for name in names.values():
        if name not in files:
            raise InputError(f"{RECORD} has no file {name} any more")
    return {actor: files[name] for actor, name in names.items()}


def refuse_full_disk(archives: Sequence[Archive], place: Path, keep: bool) -> None:
    """Raise InputError where the archives and their clips have no room; one is deleted once unpacked, unless kept.

    Videos cannot be compressed again, so the clips take as much as their archives.
    """
    sizes = [archive.size for archive in archives]
    files = [_downloads(place) / f"{archive.name}{end}" for archive in archives for end in ("", _PART)]
    there = sum(file.stat().st_size for file in files if file.exists())
    needed = sum(sizes) + (sum(sizes) if keep else max(sizes)) - there
    above = next(folder for folder in (place, *place.resolve().parents) if folder.is_dir())
    free = shutil.disk_usage(above).free
    if free < needed:
        raise InputError(f"{place} needs {gigabytes(needed)}, and its disk has {gigabytes(free)} free")


def gigabytes(size: int) -> str:
    """A number of bytes for people."""
    return f"{size / 1e9:.1f} GB"


def fetch_archive(actor: int, archive: Archive, place: Path, keep: bool) -> None:
    """Downloads an actor's archive into a folder beside place, and unpacks its clips into `place/Actor_<actor>`.

    What an earlier call had downloaded is not downloaded again. A call that is killed leaves whole clips only, and
    `missing_actors` tells an actor of whom some are missing. The archive is deleted afterwards unless it is kept.

    Raises InputError for a server that cannot be reached or answers an error, a connection that is cut, an archive with
    another sum than the record's or with anything that is unsafe to unpack, a full disk, or another process at work.
    """
    folder = _downloads(place)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with FileLock(folder / "lock", timeout=0):
            file = _download(archive, folder)
            _unpack(file, folder / "unpacked", _folder(place, actor))
            if not keep:
                file.unlink()
            if not any(folder.glob("*.zip*")):
                shutil.rmtree(folder)
    except Timeout as error:
        raise InputError(f"another `mer fetch` is downloading into {folder}") from error
    except OSError as error:
        reason = f"{error.strerror or error}; the same command goes on from here"
        raise InputError(f"{archive.name} cannot be kept in {place} or {folder}: {reason}") from error


def _folder(place: Path, actor: int) -> Path:
    return place / f"Actor_{actor:02}"


def _downloads(place: Path) -> Path:
    """Apart from the corpus, which DVC would otherwise find changed."""
    target = place.resolve()
    return target.with_name(f"{target.name}_archives")


def _download(archive: Archive, folder: Path) -> Path:
    part = folder / f"{archive.name}{_PART}"

    def go_on(url: str, output: str, _: Any) -> None:
        """What pooch takes for a downloader: its own, begun where the part ends."""
        there = part.stat().st_size if part.exists() else 0
        if there < archive.size:
            with part.open("ab") as file, ExitStack() as opened:

                def answered(response: Any, **_: Any) -> None:
                    opened.callback(response.close)  # also where its body is not read to the end
                    if response.status_code in (200, 416):  # the whole file; or that the part does not fit it
                        file.truncate(0)

                headers = {**REQUESTS_HEADERS, "Accept-Encoding": "identity", "Range": f"bytes={there}-"}
                bar = opened.enter_context(tqdm(total=archive.size, unit="B", unit_scale=True, ncols=79, disable=None))
                pooch.HTTPDownloader(bar, _CHUNK, headers=headers, hooks={"response": answered})(url, file, None)
        part.replace(output)

    with _reached(archive.url):
        try:
            return Path(pooch.retrieve(archive.url, archive.checksum, archive.name, folder, downloader=go_on))
        except requests.RequestException:  # some of which are ValueErrors
            raise
        except ValueError as error:
            wrong = f"{archive.name} came with another MD5 than the record's, and is deleted"
            raise InputError(f"{wrong}; the same command downloads it anew") from error


@contextmanager
def _reached(url: str) -> Iterator[None]:
    """What goes wrong on the way from the server becomes one sentence."""
    host = urlsplit(url).netloc
    try:
        yield
    except requests.HTTPError as error:
        raise InputError(f"{host} refuses, {error}; try again later") from error
    except requests.ConnectionError as error:
        raise InputError(f"{host} cannot be reached ({type(error).__name__}) for {url}; try again later") from error
    except requests.RequestException as error:
        raise InputError(f"the connection to {host} was cut at {url}; the same command goes on from there") from error


def _unpack(file: Path, partial: Path, folder: Path) -> None:
    """The clips of an archive, whatever folder they are in there. Raises InputError for one that is not safe."""
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir()
    try:
        with ZipFile(file) as archive:
            members = archive.infolist()
            for member in members:
                sub_path(f"{file.name}: a name in it", member.filename)
                if stat.S_ISLNK(member.external_attr >> 16):
                    raise InputError(f"{file.name} holds a link, {member.filename!r}, and is not unpacked")
            for member in members:
                name = PurePosixPath(member.filename).name
                if name.endswith(".mp4") and not name.startswith("."):
                    with archive.open(member) as source, (partial / name).open("wb") as target:
                        shutil.copyfileobj(source, target, 1 << 20)
    except (BadZipFile, EOFError, RuntimeError, zlib.error) as error:
        raise InputError(f"{file.name} is no archive that can be unpacked: {error}") from error
    except InputError:
        raise
    except ValueError as error:
        raise InputError(f"{error}: it is not unpacked") from error
    clips = sorted(partial.iterdir(), reverse=True)  # those that `missing_actors` counts come last
    if not clips:
        raise InputError(f"{file.name} holds no .mp4 file")
    folder.mkdir(parents=True, exist_ok=True)
    for clip in clips:
        clip.replace(folder / clip.name)
