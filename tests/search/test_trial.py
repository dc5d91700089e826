"""One trial: the rounds of the real path, no test clip, and what is reported."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from optuna import TrialPruned
from optuna.trial import FixedTrial

from mer_pnao.features.sets import read_set, write_shard
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.params.profile import Params, load_params
from mer_pnao.params.search_space import LogGrid, WholeRange
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.search.study import study_name
from mer_pnao.search.trial import COM, OUTCOME, PARAMETERS, Task, load_task, objective, round_count, with_values
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.train import run_systems

VALUES = {"naor": 0.8, "alpha": 0.002, "rounds": 3}


def test_a_trial_is_what_the_stage_trains_round_by_round(task: Task, params: Params, tmp_path: Path) -> None:
    trial, store = FixedTrial(VALUES), DiskRoundStore(tmp_path / "rounds")
    (com,) = objective(trial, task, store)
    assert (store.hits, store.misses) == (0, 4)
    outs = {"enf_pnao": tmp_path / "models/enf_pnao"}
    stage = DiskRoundStore(tmp_path / "rounds")
    folders = list(run_systems(outs, dataset_of(params), with_values(params, VALUES), stage))
    assert (stage.hits, stage.misses) == (4, 0)
    records = [read_json(folder / "record.json") for folder in folders]
    outcome = trial.user_attrs[OUTCOME]
    assert [each["com"] for each in outcome["rounds"]] == [each["scores"]["trainval"]["com"] for each in records]
    assert [each["key"] for each in outcome["rounds"]] == [each["key"] for each in records]
    assert [each["parameters"] for each in outcome["rounds"]] == [each["parameters"] for each in records]
    assert outcome["dense"] == records[0]["parameters"]
    assert com == max(each["scores"]["trainval"]["com"] for each in records[1:]), "search.rounds.low is 1"


@pytest.mark.parametrize(
    ("naor", "alpha", "low", "high"),
    [(0.8, 0.002, 1, 3), (0.2, 0.001, 1, 3), (0.8, 0.001, 3, 4)],  # in the last one the best round lies below the range
)
def test_the_value_is_that_of_the_network_which_algorithm_1_returns_after_the_best_number_of_rounds(
    params: Params, tmp_path: Path, naor: float, alpha: float, low: int, high: int
) -> None:
    space = replace(params.search, rounds=WholeRange(low, high))
    task = load_task(params.model_copy(update={"search": space}), (COM, PARAMETERS))
    trial = FixedTrial({"naor": naor, "alpha": alpha})
    value = objective(trial, task, DiskRoundStore(tmp_path / "rounds"))
    returned = {}
    for count in range(low, high + 1):  # a stage of its own for each
        with_count = with_values(params, {"naor": naor, "alpha": alpha, "rounds": count})
        outs = {"enf_pnao": tmp_path / f"models-{count}"}
        *_, last = run_systems(outs, dataset_of(params), with_count, DiskRoundStore(tmp_path / "rounds"))
        record = read_json(last / "record.json")
        returned[count] = (record["scores"]["trainval"]["com"], record["parameters"])
    ranked = sorted(returned, key=lambda count: (-returned[count][0], returned[count][1], count))
    assert trial.user_attrs[OUTCOME]["best"] == ranked[0]
    assert value == returned[ranked[0]]


def test_the_number_of_rounds_is_read_from_the_curve_within_its_range() -> None:
    """Against all curves of five rounds with few values, and so with ties: who is beaten by nobody."""
    for coms in product((0.4, 0.5, 0.6), repeat=5):
        curve = [{"com": com, "parameters": size} for com, size in zip(coms, (90, 70, 70, 50, 40), strict=True)]
        for low in range(5):
            count = round_count(curve, low)
            assert count is not None
            mine = curve[count]
            for number, other in enumerate(curve[low:], low):
                assert other["com"] <= mine["com"]
                if other["com"] == mine["com"]:
                    assert other["parameters"] > mine["parameters"] or (
                        other["parameters"] == mine["parameters"] and number >= count
                    )
        assert round_count(curve[:3], 3) is None


def test_trials_share_the_rounds_that_their_values_allow(task: Task, tmp_path: Path) -> None:
    store = DiskRoundStore(tmp_path / "rounds")
    shares = []
    for naor, alpha in ((0.4, 1e-3), (0.8, 1e-3), (0.8, 4e-3), (0.4, 4e-3), (0.4, 1e-3)):
        trial = FixedTrial({"naor": naor, "alpha": alpha})
        objective(trial, task, store)
        shares.append((trial.user_attrs[OUTCOME]["hits"], trial.user_attrs[OUTCOME]["misses"]))
    assert shares == [(0, 4), (1, 3), (0, 4), (1, 3), (4, 0)], "search.rounds.high is 3"


def test_points_that_would_be_one_training_are_refused(project: Path, change: Callable[..., None]) -> None:
    change("pnao", "rule", "nodes")
    params = load_params(project / "params.yaml")
    with pytest.raises(InputError, match=r"search\.naor\.points must be 1, for pnao\.rule 'nodes' does not read NAOR"):
        load_task(params, (COM,))
    one = replace(params.search, naor=LogGrid(0.4, 0.4, 1))
    assert load_task(params.model_copy(update={"search": one}), (COM,)).params.search.points == 2


def test_no_test_clip_takes_part(project: Path, params: Params, tmp_path: Path) -> None:
    """Every feature and label of the test split is replaced: study and value stay the same."""
    task = load_task(params, (COM,))
    (before,) = objective(FixedTrial(VALUES), task, DiskRoundStore(tmp_path / "one"))
    manifest = project / "data/tiny/manifest.csv"
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    test = table["split"] == "test"
    assert test.sum() == 12
    table.loc[test, "discrete"] = "angry"
    table.loc[test, "valence"] = "4.5"
    table.loc[test, "speaker"] = "somebody"
    table.to_csv(manifest, index=False)
    names = set(table.loc[test, "name"])
    for folder in (project / "data/tiny/features").glob("*/*"):
        part = read_set(folder)
        vectors = np.where(np.isin(part.names, list(names))[:, None], 1e3, part.vectors).astype(np.float32)
        shutil.rmtree(folder)
        write_shard(folder / "part-00000.parquet", part.names, vectors)
    poisoned = load_task(load_params(project / "params.yaml"), (COM,))
    assert study_name(poisoned) == study_name(task)
    (after,) = objective(FixedTrial(VALUES), poisoned, DiskRoundStore(tmp_path / "two"))
    assert after == before
    names_in = set(poisoned.train.names)
    assert not names_in & names


def test_the_round_of_the_highest_com_counts_in_both_objectives(params: Params, tmp_path: Path) -> None:
    task = load_task(params, (COM, PARAMETERS))
    trial = FixedTrial(VALUES)
    com, size = objective(trial, task, DiskRoundStore(tmp_path / "rounds"))
    rounds = trial.user_attrs[OUTCOME]["rounds"]
    best = max(rounds[1:], key=lambda each: (each["com"], -each["parameters"]))
    assert (com, size) == (best["com"], best["parameters"])
    assert trial.constraints == {"com_at_least": pytest.approx(-0.5 - com)}


class Impatient(FixedTrial):
    """Gives up as soon as so many rounds are reported."""

    def __init__(self, values: dict[str, object], patience: int) -> None:
        super().__init__(values)
        self.reported: dict[int, float] = {}
        self.patience = patience

    def report(self, value: float, step: int) -> None:
        self.reported[step] = value

    def should_prune(self) -> bool:
        return len(self.reported) >= self.patience


def test_rounds_are_reported_and_a_hopeless_trial_is_given_up(task: Task, tmp_path: Path) -> None:
    trial, store = Impatient(VALUES, patience=2), DiskRoundStore(tmp_path / "rounds")
    with pytest.raises(TrialPruned):
        objective(trial, task, store)
    assert store.misses == 3
    outcome = trial.user_attrs[OUTCOME]
    coms = [each["com"] for each in outcome["rounds"]]
    assert trial.reported == {1: coms[1], 2: coms[2]}, "round 0 lies below search.rounds.low"
    assert outcome["best"] == (1 if coms[1] > coms[2] else 2), "read from the rounds that it has"
    last = Impatient(VALUES, patience=3)  # after its last round there is nothing to save
    assert objective(last, task, store) == (max(last.reported.values()),)
