"""What a version was exported to, beside its networks."""

import shutil
from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from mer_pnao.tracking.connection import NAME, reached
from mer_pnao.tracking.known import find_number

_PLACE = "onnx"  # below a version's artifacts
_NOTE = f"- **ONNX**: `{_PLACE}/` among its artifacts, written by `mer export`: one file that needs no torch."


def attach(project: Path, number: int, files: Sequence[Path]) -> None:
    """Keep files among a version's artifacts and say so on its card; again, they take the place of the former ones.

    Raises InputError when MLflow cannot be used.
    """
    with reached(project) as store, TemporaryDirectory() as place:
        version = find_number(store, number)
        assert version is not None
        folder = Path(place) / _PLACE
        folder.mkdir()
        for file in files:
            shutil.copy(file, folder)
        store.client.log_model_artifacts(version.source.removeprefix("models:/"), place)
        card = version.description or ""
        if _NOTE not in card:
            store.client.update_model_version(NAME, str(number), f"{card.rstrip()}\n{_NOTE}\n")
