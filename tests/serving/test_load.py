"""A service under load, as `benchmarks/service.py` puts it under, for a short while."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.slow
def test_under_load_every_good_clip_is_answered_right_and_none_is_lost(
    registered: Path, tmp_path: Path, environment: dict[str, str]
) -> None:
    project = tmp_path / "project"
    shutil.copytree(registered, project)
    command = [sys.executable, ROOT / "benchmarks/service.py", "data/clips", "--minutes", "1"]
    done = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    versions = re.search(
        r"good clips answered right {'version 1': (\d+), 'version 2': (\d+)}, (\d+) damaged", done.stdout
    )
    assert versions is not None, done.stdout
    assert all(int(number) > 0 for number in versions.groups())
    assert "0 wrong or lost" in done.stdout
    assert re.search(r"[1-9]\d* no room", done.stdout), "the clients saw the disk full"
    before, after = map(int, re.findall(r"(\d+) MiB", done.stdout))
    assert after < 1.3 * before
