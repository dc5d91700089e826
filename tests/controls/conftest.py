"""One comparison of all methods on a tiny corpus, shared by the tests that only read it."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.controls.comparison import Contender, Trial, compare_methods
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import Optimisation
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.folds import make_folds

torch.set_num_threads(1)
WIDTHS = {"a": 12, "b": 10, "v": 8}


@pytest.fixture(scope="session")
def examples() -> Examples:
    """60 clips of 3 classes and 6 speakers."""
    rng, emotion = np.random.default_rng(0), np.arange(60) % 3
    features = {
        name: (rng.standard_normal((3, width))[emotion] + rng.standard_normal((60, width))).astype(np.float32)
        for name, width in WIDTHS.items()
    }
    valence = (emotion - 1 + 0.3 * rng.standard_normal(60)).astype(np.float32)
    names = tuple(f"clip{i:02d}" for i in range(60))
    return Examples(names, features, emotion, valence, tuple(f"speaker{i // 3 % 6}" for i in range(60)), 3)


@pytest.fixture(scope="session")
def blueprint() -> Blueprint:
    return Blueprint(WIDTHS, ("a", "b"), ("v",), 3, "entropy", NetworkConfig(24, 12, 0.2))


@pytest.fixture(scope="session")
def trial_in(examples: Examples, blueprint: Blueprint) -> Callable[..., Trial]:
    """A trial of 2 folds, 2 epochs and 2 sizes with its store in a folder; its settings ask for an early stop."""

    def make(root: Path, seed: int = 0, **change: object) -> Trial:
        optimisation = Optimisation(
            blueprint,
            examples,
            make_folds(examples.emotion, examples.speakers, 2, 0),
            TrainingConfig(epochs=2, batch=10, learning_rate=2e-2, patience=1),
            PnaoConfig(naor=0.5, alpha=1e-3, rounds=0, rewind="none", min_nodes=2),
            seed,
        )
        return replace(Trial(optimisation, (1, 2), 1e-3, DiskRoundStore(root)), **change)  # type: ignore[arg-type]

    return make


@pytest.fixture(scope="session")
def known(trial_in: Callable[..., Trial], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The store of a finished comparison, which must not be written to."""
    root = tmp_path_factory.mktemp("controls") / "rounds"
    list(compare_methods(trial_in(root)))
    return root


@pytest.fixture(scope="session")
def contenders(trial_in: Callable[..., Trial], known: Path) -> dict[tuple[str, int], Contender]:
    return {(each.method, each.size): each for each in compare_methods(trial_in(known))}
