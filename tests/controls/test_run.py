"""PNAO and its controls on a profile: every method, size and seed, with decisions of both splits."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from mer_pnao.controls.names import METHODS
from mer_pnao.controls.run import run_controls, total_segments
from mer_pnao.evaluation.scores import score
from mer_pnao.network.blueprint import NetworkConfig
from mer_pnao.params.profile import ControlsConfig, load_params
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples


def test_every_method_size_and_seed_is_there_once(examples: Examples, tmp_path: Path) -> None:
    demo = load_params(Path(__file__).parents[2] / "profiles/demo.yaml")
    labels = ("angry", "neutral", "happy")
    params = demo.model_copy(
        update={
            "corpus": replace(demo.corpus, labels=labels),
            "features": replace(demo.features, acoustic=("a", "b"), visual=("v",)),
            "folds": 2,
            "network": NetworkConfig(16, 8),
            "training": TrainingConfig(epochs=2, batch=15, learning_rate=2e-2),
            "seeds": (3, 4),
            "pnao": PnaoConfig(naor=0.5, alpha=1e-3, rounds=9),
            "controls": ControlsConfig((1,)),
        }
    )
    rows = np.arange(len(examples))
    dataset = Dataset(examples.select(rows[rows < 45]), examples.select(rows[rows >= 45]), labels)
    finished: list[int] = []
    store = DiskRoundStore(tmp_path)
    outcomes = list(run_controls(dataset, params, store, done=finished.append))
    assert sum(finished) == total_segments(params)
    assert {(each.method, each.size, each.seed) for each in outcomes} == {(m, 1, s) for m in METHODS for s in (3, 4)}
    assert len(outcomes) == 2 * len(METHODS)
    dense = {each.seed: each for each in outcomes if each.method == "dense"}
    assert dense[3].test.valence.tolist() != dense[4].test.valence.tolist()  # type: ignore[union-attr]
    for each in outcomes:
        assert each.epochs == 4
        assert each.parameters < dense[3].parameters or each.method == "dense"
        train = dataset.train
        learnt = score(train.emotion, each.trainval.emotion, train.valence, each.trainval.valence)
        assert len(np.asarray(each.test.emotion)) == len(dataset.test)
        assert -1 < learnt.com <= 1
    again = list(run_controls(dataset, params, store))
    assert store.misses == total_segments(params)
    for one, other in zip(outcomes, again, strict=True):
        np.testing.assert_array_equal(one.test.valence, other.test.valence)
        np.testing.assert_array_equal(one.trainval.emotion, other.trainval.emotion)
