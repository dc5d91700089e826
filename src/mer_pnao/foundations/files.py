"""Files: written whole or not at all, JSON, digests, and where finished work is remembered."""

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mer_pnao.foundations.errors import InputError


def work_folder(project: Path = Path()) -> Path:
    """`work/` of the project, also from the copy without git-ignored files in which `dvc exp run --temp` runs."""
    return Path(os.environ.get("DVC_ROOT", project)) / "work"


def write_text(path: Path, text: str) -> None:
    """Writes a text file beside its place and moves it there; its folder is created."""
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def digest(path: Path) -> str:
    """SHA-256 of a file, or of a folder's files with their names, as hexadecimal digits.

    Raises:
        InputError: there is no such file or folder.
    """
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


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object. Raises OSError or ValueError."""
    value = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(value, dict):
        raise ValueError(f"{path} holds no JSON object")
    return value


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    """Write a JSON object with a trailing newline, readable by people and stable for DVC."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=1, allow_nan=False) + "\n", encoding="utf-8")
