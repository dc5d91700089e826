"""A YAML file as a plain document: text, numbers, lists and mappings, and nothing else."""

import math
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError

from mer_pnao.foundations.errors import InputError


def read_mapping(path: Path) -> dict[str, Any]:
    """Read a YAML file of text, numbers, lists and mappings. Raises InputError for any other."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except MarkedYAMLError as error:
        line = f"line {error.problem_mark.line + 1}: " if error.problem_mark else ""
        raise InputError(f"{path} is not readable YAML: {line}{error.problem or error.context}") from error
    except (YAMLError, ValueError) as error:  # wrong bytes, and dates and numbers that are none
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    except RecursionError as error:
        raise InputError(f"{path} is not readable YAML: it is nested too deeply") from error
    if document is None:
        raise InputError(f"{path} is empty")
    if not isinstance(document, dict):
        raise InputError(f"{path} must be a mapping of parameters, got a {type(document).__name__}")
    _require_plain(path, document, ())
    return document


def _require_plain(path: Path, value: Any, keys: tuple[str, ...]) -> None:
    """Raise InputError for what YAML knows and a parameter cannot be: a date, a key that is no text, a loop."""
    here = ".".join(keys)
    if len(keys) > 10:
        raise InputError(f"{path}: {here} is nested too deeply")
    match value:
        case dict():
            for name, inner in value.items():
                if not isinstance(name, str):
                    raise InputError(f"{path}: {here or 'the file'} has the key {name}, which is no text; quote it")
                _require_plain(path, inner, (*keys, name))
        case list():
            for i, inner in enumerate(value):
                _require_plain(path, inner, (*keys, str(i)))
        case float() if not math.isfinite(value):
            raise InputError(f"{path}: {here} must be finite, got {value}")
        case str() | int() | float() | None:
            pass
        case _:
            raise InputError(f"{path}: {here} is a {type(value).__name__}, got {value}; quote it if it is text")
