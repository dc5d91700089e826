"""Files: their names, written whole or not at all, JSON, digests, and where finished work is remembered."""

import hashlib
import json
import os
import unicodedata
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from mer_pnao.foundations.errors import InputError


def work_folder(project: Path = Path()) -> Path:
    """`work/` of the project, also from the copy without git-ignored files in which `dvc exp run --temp` runs."""
    return Path(os.environ.get("DVC_ROOT") or project) / "work"


def composed(name: str) -> str:
    """A name in Unicode's composed form (NFC): one system spells an umlaut in one sign, another one in two."""
    return unicodedata.normalize("NFC", name)


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A place beside the file's to write it to, in a folder that is made; what is written whole is moved into place."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        yield beside
        beside.replace(path)
    finally:
        beside.unlink(missing_ok=True)


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file, whole or not at all."""
    with replacing(path) as beside:
        beside.write_bytes(content)


def write_text(path: Path, text: str) -> None:
    """Write a text file, whole or not at all."""
    write_bytes(path, text.encode())


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names. Raises InputError when there is neither."""
    if path.is_file():
        return _file_digest(path)
    if not path.is_dir():
        raise InputError(f"{path}: no such file or folder")
    total = hashlib.sha256()
    for file in sorted(p for p in path.rglob("*") if p.is_file()):
        total.update(f"{file.relative_to(path).as_posix()}\0{_file_digest(file)}\n".encode())
    return total.hexdigest()


def _file_digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read_json(path: Path, what: str = "readable JSON") -> dict[str, Any]:
    """A JSON object. Raises InputError naming the file, and what it should be, when it is none."""
    try:
        value = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise InputError(f"{path} is not {what}: {error}") from error
    if not isinstance(value, dict):
        raise InputError(f"{path} is not a JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a trailing newline, readable by people and stable for DVC, whole or not at all."""
    write_text(path, json.dumps(value, indent=1, allow_nan=False) + "\n")
