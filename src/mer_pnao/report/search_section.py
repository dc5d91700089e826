"""What the report page shows of a search: what `reports/search/` holds, when it is of the same profile."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from mer_pnao.foundations.files import read_json

FIGURES = ("history", "importances", "slice", "contour", "pareto")


@dataclass(frozen=True)
class SearchSection:
    """The study's summary and its figures by name."""

    study: Mapping[str, Any]
    pictures: Mapping[str, bytes]


def read_search(folder: Path, profile: str) -> SearchSection | None:
    """The last search of the profile; None where there is none, or what is there cannot be read."""
    try:
        study = read_json(folder / "study.json")
        if study["profile"] != profile or study["chosen"] is None:
            return None
        return SearchSection(study, {f"search_{path.stem}": path.read_bytes() for path in _figures(folder)})
    except (OSError, ValueError, KeyError, TypeError):
        return None


def _figures(folder: Path) -> list[Path]:
    return [path for name in FIGURES if (path := folder / f"{name}.png").is_file()]
