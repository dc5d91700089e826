"""What tracking costs a training: Algorithm 1 on both fusions with and without MLflow, as the stage `pnao` runs it.

    python benchmarks/tracking.py [--size demo] [--repeats 3]
    python benchmarks/tracking.py --size mer2023 --repeats 1

The features are random numbers with a weak signal. `demo` has the demo's clips, widths and parameters: a round of five
folds takes two seconds, the worst case. `mer2023` has those of MER 2023, with sets of 1024, for rounds 0 and 1 of 18
epochs each, as many as a round takes there until its early stop. Each training starts in a project of its own with a
fresh database, made before the clock runs, as `make run` does.
"""

import argparse
import json
import platform
import shutil
import statistics
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from mer_pnao.foundations.parallel import parallel_map, usable_cores
from mer_pnao.outs.names import MEMBERS
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.train import run_systems
from mer_pnao.tracking.stage import StageTracker
from mer_pnao.training.examples import Examples

PROFILES = Path(__file__).parents[1] / "profiles"
# clips of train and test, width of every feature set, rounds after round 0, epochs
SIZES = {"demo": (360, 120, 128, 5, 16), "mer2023": (2698, 411, 1024, 1, 18)}


def examples(first: int, clips: int, width: int, sets: tuple[str, ...], classes: int) -> Examples:
    """Random features in which emotion and valence show a little in every set."""
    random = np.random.default_rng(first)
    signal = np.random.default_rng(0)
    emotion = np.arange(clips) % classes
    valence = (signal.normal(size=classes)[emotion] + random.normal(size=clips)).astype(np.float32)
    features = {
        name: (0.2 * signal.normal(size=(classes, width))[emotion] + random.normal(size=(clips, width))).astype(
            np.float32
        )
        for name in sets
    }
    names = tuple(f"clip{first + i:05d}" for i in range(clips))
    return Examples(names, features, emotion, valence, None, classes)


def train(size: str, tracked: bool, project: Path) -> float:
    """Seconds of one run of the stage after its imports, with the import of what tracks where it tracks."""
    clips, tests, width, rounds, epochs = SIZES[size]
    params = load_params(project / "params.yaml")
    changes = {"pnao": replace(params.pnao, rounds=rounds), "training": replace(params.training, epochs=epochs)}
    params = params.model_copy(update=changes)
    labels = params.corpus.labels or ("neutral", "angry", "happy", "sad", "worried", "surprise")
    sets = params.features.sets
    data = Dataset(
        examples(0, clips, width, sets, len(labels)), examples(clips, tests, width, sets, len(labels)), tuple(labels)
    )
    torch.set_num_threads(1)
    started = time.perf_counter()
    tracker = StageTracker(project) if tracked else None
    outs = {system: project / "models" / system for system in MEMBERS}
    store = DiskRoundStore(project / "work/rounds")
    for directory in run_systems(outs, data, params, store, parallel_map(usable_cores())):
        if tracker:
            tracker.round(directory)
    for out in outs.values():
        if tracker:
            tracker.finished(out)
    return time.perf_counter() - started


def measure(size: str, tracked: bool) -> float:
    """As `train`, in a process and a project of its own."""
    with TemporaryDirectory() as folder:
        shutil.copy(PROFILES / f"{size}.yaml", Path(folder) / "params.yaml")
        subprocess.run(["mer", "init"], cwd=folder, check=True)
        command = [sys.executable, __file__, "--size", size, "--once", folder, *(["--tracked"] if tracked else [])]
        answer = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    return float(json.loads(answer.stdout))


def main() -> None:
    """Print the medians and the ratio."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--size", choices=SIZES, default="demo")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--once", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--tracked", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.once:
        print(json.dumps(train(options.size, options.tracked, options.once)))
        return
    seconds: dict[bool, list[float]] = {False: [], True: []}
    for _ in range(options.repeats):  # in turns, so that a machine that changes its pace meets both
        for tracked, times in seconds.items():
            times.append(measure(options.size, tracked))
    plain, with_tracking = (statistics.median(seconds[tracked]) for tracked in (False, True))
    table = Table("way", "s (median)", "single times", title=f"{options.size}, {usable_cores()} processes")
    for name, tracked in (("without tracking", False), ("with tracking", True)):
        times = seconds[tracked]
        table.add_row(name, f"{statistics.median(times):.2f}", ", ".join(f"{value:.2f}" for value in times))
    Console().print(table)
    print(
        f"tracking costs {with_tracking / plain - 1:.1%}; Python {platform.python_version()}, torch {torch.__version__}"
    )


if __name__ == "__main__":
    main()
