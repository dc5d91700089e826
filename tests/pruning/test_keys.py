"""What a remembered round's key sees of the code: what the fold's work imports, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mer_pnao
from mer_pnao.pruning.keys import derived_seed, imported_sources

PACKAGE = Path(mer_pnao.__file__).parent
COMMENTED = """
from pathlib import Path
import mer_pnao
from mer_pnao.pruning.keys import code_version
from mer_pnao.pruning.pnao import algorithm_version

before = algorithm_version()
for changed in {changed}:
    path = Path(mer_pnao.__file__).parent / changed
    text = path.read_text()
    path.write_text(text + "# a comment")
    code_version.cache_clear()
    if algorithm_version() != before:
        print(changed)
    path.write_text(text)
"""  # what a comment in each of these files forgets


def in_a_fresh_process(code: str, source: Path = PACKAGE.parent) -> str:
    """What the code prints with the package of the folder `source`."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r})\n{code}"]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


@pytest.mark.parametrize("module", ["mer_pnao.pruning.pnao", "mer_pnao.controls.comparison"])
def test_the_sources_are_the_modules_that_an_import_loads(module: str) -> None:
    code = f"import {module}; print(*(n for n, m in sys.modules.items() if n.startswith('mer_pnao') and m.__file__))"
    loaded = set(in_a_fresh_process(code).split())
    packages = {name for name in loaded if (PACKAGE.parent / name.replace(".", "/")).is_dir()}
    assert set(imported_sources(module)) == loaded - packages


def test_only_a_change_of_what_is_imported_forgets_rounds_and_searches(tmp_path: Path) -> None:
    """`best_params.yaml` holds the same version."""
    shutil.copytree(PACKAGE, tmp_path / "mer_pnao", ignore=shutil.ignore_patterns("__pycache__"))
    aside = ["evaluation/bootstrap.py", "pruning/round_store.py", "training/probe.py", "controls/methods.py"]
    inside = ["pruning/mask.py", "network/fusion.py", "training/fit.py", "foundations/precision.py"]
    forgotten = in_a_fresh_process(COMMENTED.format(changed=[*aside, *inside]), tmp_path)
    assert forgotten.split() == inside


def test_every_seed_is_derived_from_all_its_parts() -> None:
    seeds = {derived_seed(seed, fold, number) for seed in range(3) for fold in range(3) for number in range(3)}
    assert len(seeds) == 27
