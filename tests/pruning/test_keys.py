"""What a remembered round's key sees of the code: what the fold's work imports, and nothing else."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import mer_pnao
from mer_pnao.pruning.keys import derived_seed, imported_sources

PACKAGE = Path(mer_pnao.__file__).parent
VERSION = "from mer_pnao.pruning.pnao import algorithm_version; print(algorithm_version())"


def in_a_fresh_process(code: str, source: Path = PACKAGE.parent) -> str:
    """What the code prints with the package of the folder `source`."""
    command = [sys.executable, "-c", f"import sys; sys.path.insert(0, {str(source)!r}); {code}"]
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
    before = in_a_fresh_process(VERSION, tmp_path)

    def after(changed: str) -> str:
        path = tmp_path / "mer_pnao" / changed
        text = path.read_text()
        path.write_text(text + "# a comment\n")
        version = in_a_fresh_process(VERSION, tmp_path)
        path.write_text(text)
        return version

    for aside in ("evaluation/bootstrap.py", "pruning/round_store.py", "training/probe.py", "controls/methods.py"):
        assert after(aside) == before, aside
    for inside in ("pruning/mask.py", "network/fusion.py", "training/fit.py", "foundations/precision.py"):
        assert after(inside) != before, inside


def test_every_seed_is_derived_from_all_its_parts() -> None:
    seeds = {derived_seed(seed, fold, number) for seed in range(3) for fold in range(3) for number in range(3)}
    assert len(seeds) == 27
