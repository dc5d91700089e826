"""What sharing rounds saves: the same distinct trainings with the round store and without it.

`python benchmarks/search.py [--trials 15] [--turns 3]`: one worker searches the demo's space on random features in
turns with the store and without, each time with the same seed and so the same trials, and prints seconds, the store's
hit rate and the ratio, by its median over the turns. Seconds are the processor's, which other work on the machine does
not lengthen. No trial is given up early, so that both do the same.
"""

import argparse
import time
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from optuna.pruners import NopPruner

from mer_pnao.network.blueprint import NetworkConfig
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import FoldResult
from mer_pnao.search.reading import read_record
from mer_pnao.search.record import StudyRecord
from mer_pnao.search.storage import open_storage
from mer_pnao.search.study import find_or_create, open_study
from mer_pnao.search.trial import COM, CountingStore, Task
from mer_pnao.search.worker import work
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples

ROOT = Path(__file__).parents[1]
CLIPS, CLASSES, WIDTH = 300, 6, 32


class NoStore:
    """Knows nothing and forgets everything."""

    def __init__(self) -> None:
        self.hits = self.misses = 0

    def load(self, key: str) -> tuple[FoldResult, ...] | None:
        """Nothing."""
        self.misses += 1
        return None

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        """Nowhere."""


def random_task() -> Task:
    """The demo's space over random features with weak class means."""
    params = load_params(ROOT / "profiles/demo.yaml")
    params = params.model_copy(
        update={
            "folds": 2,
            "network": NetworkConfig(hidden=32, width=16),
            "training": TrainingConfig(epochs=16, batch=48, learning_rate=0.006, patience=16),
        }
    )
    rng = np.random.default_rng(0)
    emotion = np.arange(CLIPS) % CLASSES
    features = {
        name: (rng.standard_normal((CLASSES, WIDTH))[emotion] + 3 * rng.standard_normal((CLIPS, WIDTH))).astype(
            np.float32
        )
        for name in params.features.sets
    }
    valence = (emotion - 2.5 + rng.standard_normal(CLIPS)).astype(np.float32)
    names = tuple(f"clip{i:04d}" for i in range(CLIPS))
    return Task(Examples(names, features, emotion, valence, None, CLASSES), params, (COM,))


def search(task: Task, root: Path, store: CountingStore, trials: int) -> tuple[float, StudyRecord]:
    """Seconds of the processor and record of a search by one worker."""
    storage, registry = open_storage(root, None)
    find_or_create(storage, registry, task)
    study = open_study(storage, task)
    study.pruner = NopPruner()
    start = time.process_time()
    work(study, registry, trials, task, store)
    return time.process_time() - start, read_record(study, task)


def main() -> None:
    """Search in turns and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--trials", type=int, help="default: the demo's search.trials")
    parser.add_argument("--turns", type=int, default=3)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    task, turns, shares = random_task(), arguments.turns, []
    trials = arguments.trials or task.params.search.trials
    for turn in range(turns):
        with TemporaryDirectory() as folder:
            root = Path(folder)
            shared, first = search(task, root / "shared", DiskRoundStore(root / "rounds"), trials)
            alone, second = search(task, root / "alone", NoStore(), trials)
        shares.append(shared / alone)
        same = [(each.values, each.best.com) for each in first.trials] == [
            (each.values, each.best.com) for each in second.trials
        ]
        rounds = sum(len(trial.rounds) for trial in first.trials)
        print(
            f"turn {turn + 1}: {len(first.trials)} trainings, {rounds} rounds, {first.hit_rate:.0%} of them known; "
            f"with the store {shared:.1f} s, without {alone:.1f} s: {shares[-1]:.2f}; "
            f"the same trials and values: {'yes' if same else 'NO'}"
        )
    print(f"share of the time, median of {turns}: {median(shares):.2f}")


if __name__ == "__main__":
    main()
