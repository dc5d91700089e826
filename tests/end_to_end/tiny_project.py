"""A project on a tiny profile, and how a user runs commands in it."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
BIN = Path(sys.executable).parent
TRAIN_CLIPS, TEST_CLIPS = 48, 12
SYSTEMS = ["linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final"]


def tiny_profile() -> dict[str, dict[str, object]]:
    params = YAML(typ="safe", pure=True).load((ROOT / "profiles/demo.yaml").read_text())
    params["synthetic"] |= {"train_clips": TRAIN_CLIPS, "test_clips": TEST_CLIPS, "speakers": 8, "test_speakers": 2}
    params["folds"] = 2
    params["network"] |= {"hidden": 16, "width": 8}
    params["training"] |= {"epochs": 3, "patience": 3}
    params["pnao"] |= {"naor": 0.6, "rounds": 3}
    params["controls"] |= {"rounds": [1, 2]}
    params["evaluation"] |= {"resamples": 100}
    return params  # type: ignore[no-any-return]


def write_params(project: Path, params: object) -> None:
    (project / "params.yaml").write_text(json.dumps(params, indent=1))


def environment(project: Path, **settings: str) -> dict[str, str]:
    """The package is the project's, as after `make env`; MLflow is told nothing, and one process trains, for speed."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    return os.environ | own | {"MER_TRACKING": "off", "MER_WORKERS": "1"} | settings


def run(project: Path, *command: str, expect: int = 0, **settings: str) -> str:
    done = subprocess.run(
        command, cwd=project, env=environment(project, **settings), text=True, capture_output=True, check=False
    )
    assert done.returncode == expect, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def stages_run(said: str) -> list[str]:
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]


def first_json(said: str) -> Any:
    return json.JSONDecoder().raw_decode(said.lstrip())[0]


def commit(project: Path) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "state")


def checkout(target: Path) -> Path:
    """The project's present files in a repository of their own."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    write_params(target, tiny_profile())
    run(target, "git", "init", "-q")
    commit(target)
    return target


def rounds_known(project: Path) -> set[str]:
    return {path.name for path in (project / "work/rounds").glob("[0-9a-f]*")}


def round_stamp(project: Path, key: str) -> int:
    return (project / "work/rounds" / key / "folds.json").stat().st_mtime_ns
