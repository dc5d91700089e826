"""Which encoder made a feature set and how it was run: what a model must know to take further clips.

An extraction leaves `encoder.json` beside its `identity.json`; each round's folder, and so each registered version,
gets both of every encoder that it reads, as `encoders.json`. Ready sets that were imported have no `encoder.json`.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from mer_pnao.features.sets import find_set
from mer_pnao.foundations.files import read_json, write_text

_SETTINGS, _IDENTITY = "encoder.json", "identity.json"


def write_settings(directory: Path, config: Mapping[str, Any], media: Mapping[str, Any]) -> None:
    """Writes how an encoder was run: the profile's `encoders.<name>` and `media`, as plain values."""
    settings = {"config": dict(config), "media": dict(media)}
    write_text(directory / _SETTINGS, json.dumps(settings, indent=2, sort_keys=True) + "\n")


def read_provenance(features: Path, sets: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Encoder -> the sets that are read of it, its identity and, unless it was imported, its settings.

    `features` holds `<encoder>/<set>/`, `<encoder>/identity.json` and, of what was extracted, `encoder.json`. Raises
    InputError for a set that no encoder or more than one has, or a file that is no JSON object.
    """
    found: dict[str, dict[str, Any]] = {}
    for name in sets:
        folder = find_set(features, name).parent
        if folder.name not in found:
            found[folder.name] = {"sets": [], **_facts(folder)}
        found[folder.name]["sets"].append(name)
    return found


def _facts(folder: Path) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if (folder / _IDENTITY).is_file():
        identity = read_json(folder / _IDENTITY)
        identity.pop("corrupted", None)  # noise and blur of noisy twins, clip by clip
        facts["identity"] = identity
    if (folder / _SETTINGS).is_file():
        facts |= read_json(folder / _SETTINGS)
    return facts
