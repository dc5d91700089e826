"""What a release of 132,171 files costs before a run, of which 9,395 are labelled: as links, and as one whole folder.

    python benchmarks/release.py [--files 132171] [--labelled 9395] [--candidates 20000] [--turns 3]

Printed are seconds and peak memory of `mer profile --data`, of the stage `manifest` with DVC's first hashing, and the
median of `dvc status` for both, in turns. The tree and a copy of the project lie in a temporary folder; the files hold
a few bytes each, so that this counts files and not the reading of videos, which the links spare as well.
"""

import os
import random
import statistics
import subprocess
import sys
import time
from itertools import cycle
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mer_pnao.foundations.console import ROOT, narrow_table, plain_console
from mer_pnao.params.profile import load_params

PROFILE = "mer2026"  # whose clips have no features in the copy: all stages but `manifest` are yet to run


def make_release(release: Path, files: int, labelled: int, candidates: int) -> None:
    """A tree in MER 2026's layout: videos, some of them in train's list, others in that of the candidates."""
    (release / "video").mkdir(parents=True)
    names = [f"sample_{number:08d}" for number in range(files)]
    for name in names:
        (release / "video" / f"{name}.mp4").write_text(name)
    random.Random(0).shuffle(names)
    emotions = cycle(load_params(ROOT / f"profiles/{PROFILE}.yaml").corpus.labels)
    rows = [f"{name},{emotion}" for name, emotion in zip(names[:labelled], emotions, strict=False)]
    (release / "track1_train.csv").write_text("\n".join(["name,discrete", *rows]) + "\n")
    listed = names[labelled : labelled + candidates]
    (release / "track1_track2_candidate.csv").write_text("\n".join(["name", *listed]) + "\n")


def measured(project: Path, *command: str) -> tuple[float, float]:
    """Seconds and peak MB of a command in a project; `dvc status` ends with 1, for the features are not there."""
    start = time.perf_counter()
    environment = os.environ | {"PYTHONPATH": str(project / "src")}
    process = subprocess.Popen([sys.executable, "-m", *command], cwd=project, env=environment)
    _, _, used = os.wait4(process.pid, 0)
    process.returncode = 0  # waited for
    return time.perf_counter() - start, used.ru_maxrss / 1024


def main(
    files: Annotated[int, typer.Option(help="Videos of the release.")] = 132_171,
    labelled: Annotated[int, typer.Option(help="Of them in train's list.")] = 9_395,
    candidates: Annotated[int, typer.Option(help="Of them to be predicted.")] = 20_000,
    turns: Annotated[int, typer.Option(min=1, help="Of `dvc status`.")] = 3,
) -> None:
    """Make the tree, and measure both ways on it."""
    table = narrow_table(("what", "links: s", "MB", "whole: s", "MB"))
    with TemporaryDirectory() as place:
        release, ways = Path(place) / "release", [Path(place) / name for name in ("links", "whole")]
        make_release(release, files, labelled, candidates)
        first = dict[str, list[tuple[float, float]]]()
        for project in ways:
            subprocess.run(["git", "clone", "-q", str(ROOT), str(project)], check=True)
            corpus = project / "data" / PROFILE / "corpus"
            if project.name == "whole":
                corpus.parent.mkdir(parents=True)
                corpus.symlink_to(release)
            data = [] if project.name == "whole" else ["--data", str(release)]
            first.setdefault("mer profile", []).append(
                measured(project, "mer_pnao.cli", "profile", "--name", PROFILE, *data)
            )
            first.setdefault("dvc repro manifest", []).append(measured(project, "dvc", "repro", "-q", "manifest"))
        status = [[measured(project, "dvc", "status", "-q") for project in ways] for _ in range(turns + 1)][1:]
        medians = [tuple(statistics.median(run[way][part] for run in status) for part in (0, 1)) for way in (0, 1)]
        for what, found in {**first, "dvc status": medians}.items():
            table.add_row(what, *(f"{number:.1f}" for pair in found for number in pair))
    plain_console().print(table)


if __name__ == "__main__":
    typer.run(main)
