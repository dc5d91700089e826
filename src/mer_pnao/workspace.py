"""Where finished rounds and feature shards are remembered."""

import os
from pathlib import Path


def work_folder(project: Path = Path()) -> Path:
    """`work/` of the project, also from the copy without git-ignored files in which `dvc exp run --temp` runs."""
    return Path(os.environ.get("DVC_ROOT", project)) / "work"
