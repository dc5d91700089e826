"""Runs in MLflow against the outs that they are made from."""

import csv
import hashlib
import json
import shutil
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient
from mlflow.entities import Run

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.outs.networks import read_round
from mer_pnao.tracking.connection import DATABASE, NAME, opened
from mer_pnao.tracking.lineage import Lineage, read_lineage
from mer_pnao.tracking.runs import finish_system, log_round, track, track_total
from mer_pnao.tracking.stage import StageTracker

PARENT = "mlflow.parentRunId"
BY_ROUND = {
    "trainval_com": "by_round/com_trainval",
    "test_com": "by_round/com_test",
    "parameters_ratio": "by_round/parameters_ratio",
}


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / DATABASE}")


def runs_of(root: Path) -> dict[str, Run]:
    client = client_of(root)
    experiment = client.get_experiment_by_name(NAME)
    runs = client.search_runs([experiment.experiment_id], max_results=1000)
    named = {run.info.run_name.replace(" naor 0.05", ""): run for run in runs}
    assert len(named) == len(runs)
    return named


def rows_of(root: Path) -> dict[str, list[Any]]:
    """Everything in the database, table by table."""
    with closing(sqlite3.connect(root / DATABASE)) as connection:
        tables = [name for (name,) in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: sorted(map(repr, connection.execute(f"SELECT * FROM {name}"))) for name in tables}


@pytest.fixture
def lineage(project: Path) -> Lineage:
    return read_lineage(project)


def test_rounds_are_nested_in_their_system(tracked: Path) -> None:
    runs = runs_of(tracked)
    parents = {name: run for name, run in runs.items() if PARENT not in run.data.tags}
    assert set(parents) == {"linear_probe", "baseline", "pnao", "enf_pnao", "final"}
    for name, run in runs.items():
        if name not in parents:
            assert run.data.tags[PARENT] == parents[run.data.tags["system"]].info.run_id
    assert sorted(set(runs) - set(parents)) == [
        "baseline round 00",
        "enf_pnao round 00",
        "enf_pnao round 01",
        "enf_pnao round 02",
        "pnao round 00",
        "pnao round 01",
    ]
    assert {run.info.status for run in runs.values()} == {"FINISHED"}


def test_scores_and_figures_are_the_records(tracked: Path) -> None:
    metrics = runs_of(tracked)["enf_pnao round 01"].data.metrics
    record = read_json(tracked / "models/enf_pnao/round-01/record.json")
    for split in ("trainval", "test"):
        for name, value in record["scores"][split].items():
            assert metrics[f"{split}_{name}"] == value
    for name in ("parameters", "parameters_ratio", "pruned_nodes"):
        assert metrics[name] == record[name]
    assert metrics["kept_nodes"] == 7.5
    assert metrics["kept_nodes_ratio"] == 0.75
    weights = (tracked / "models/enf_pnao/round-01").glob("fold-*.safetensors")
    assert metrics["model_bytes"] == sum(path.stat().st_size for path in weights)


def final_metrics(run: Run) -> dict[str, float]:
    """Those of the whole network, which are the parent's, too."""
    return {name: value for name, value in run.data.metrics.items() if "/" not in name}


def series_of(run: Run) -> dict[str, float]:
    """A round's figures as its parent bears them."""
    return {there: run.data.metrics[here] for here, there in BY_ROUND.items()}


def test_a_parents_charts_show_the_rounds(tracked: Path) -> None:
    client, parent = client_of(tracked), runs_of(tracked)["enf_pnao"].info.run_id
    for name, values in {"trainval_com": [0.31, 0.42, 0.41], "parameters_ratio": [1.0, 0.8, 0.7]}.items():
        history = client.get_metric_history(parent, BY_ROUND[name])
        assert sorted((point.step, point.value) for point in history) == list(enumerate(values))


def test_what_is_kept_of_each_layer_is_in_its_file(tracked: Path) -> None:
    metrics = runs_of(tracked)["enf_pnao round 01"].data.metrics
    inner = "branches.sound-1.gathering.modalities.face.inner"
    outer = "branches.sound-2.gathering.modalities.face.outer"
    assert (metrics[f"kept_nodes/{inner}"], metrics[f"kept_nodes/{outer}"]) == (3.5, 4.0)
    networks = read_round(tracked / "models/enf_pnao/round-01").networks
    for layer in (inner, outer):
        sizes = [
            sum(
                value.numel()
                for name, value in network.state_dict().items()
                if name in (f"{layer}.weight", f"{layer}.bias")
            )
            for network in networks
        ]
        assert metrics[f"kept_parameters/{layer}"] == sum(sizes) / len(sizes) > 0


def test_a_damaged_file_of_weights_is_named(project: Path, lineage: Lineage, outs: SimpleNamespace) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    (directory / "fold-0.safetensors").write_bytes(b"not weights")
    with pytest.raises(InputError, match=r"round-00/fold-0\.safetensors does not hold the weights"):
        log_round(directory, lineage)


def test_track_closes_what_a_killed_and_replaced_training_left(
    project: Path, lineage: Lineage, outs: SimpleNamespace
) -> None:
    models = project / "models"
    log_round(outs.write_round(models, "enf", 0, 0.3), lineage)
    with opened(project) as store:
        foreign = store.client.create_run(store.experiment, run_name="somebody else's").info.run_id
    track(project)
    assert runs_of(project)["enf"].info.status == "RUNNING"  # its outs are there: it may go on
    shutil.rmtree(models / "enf")
    outs.write_round(models, "enf", 0, 0.4, best=True, alpha=0.1)
    track(project)
    client = client_of(project)
    assert client.get_run(foreign).info.status == "RUNNING"
    parents = client.search_runs(["1"], "tags.system = 'enf' AND tags.round IS NULL")
    assert {run.data.params["pnao.alpha"]: run.info.status for run in parents} == {
        "0.0005": "KILLED",
        "0.1": "FINISHED",
    }
    shutil.rmtree(models / "enf")
    outs.write_round(models, "enf", 0, 0.3, best=True)
    track(project)
    parents = client.search_runs(["1"], "tags.system = 'enf' AND tags.round IS NULL")
    assert [run.info.status for run in parents] == ["FINISHED"] * 2


def test_a_parent_bears_its_best_rounds_scores(tracked: Path) -> None:
    runs = runs_of(tracked)
    parent, best = runs["enf_pnao"], runs["enf_pnao round 01"]
    assert parent.data.metrics == final_metrics(best) | series_of(runs["enf_pnao round 02"])
    assert parent.data.metrics["trainval_com"] == 0.42
    assert parent.data.tags["best_round"] == "1"
    assert [runs[f"enf_pnao round 0{i}"].data.tags["best"] for i in range(3)] == ["false", "true", "false"]


def test_a_system_without_rounds_is_one_run(tracked: Path) -> None:
    run = runs_of(tracked)["linear_probe"]
    assert run.data.metrics["trainval_com"] == 0.20
    assert run.data.params == {"profile": "demo", "seed": "0"}


def test_curves_are_complete(tracked: Path) -> None:
    client, run = client_of(tracked), runs_of(tracked)["pnao round 01"]
    with (tracked / "models/pnao/round-01/curves.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    for fold in "01":
        for name in ("learning_rate", "train_loss", "delta2", "dim", "com"):
            history = client.get_metric_history(run.info.run_id, f"fold{fold}/{name}")
            expected = [(int(row["epoch"]), float(row[name])) for row in rows if row["fold"] == fold]
            assert sorted((point.step, point.value) for point in history) == expected


def test_settings_are_parameters_and_origins_are_tags(tracked: Path, outs: SimpleNamespace) -> None:
    run = runs_of(tracked)["pnao round 01"]
    expected = {"pnao.naor": "0.05", "pnao.alpha": "0.0005", "network.hidden": "6", "training.learning_rate": "0.002"}
    assert expected.items() <= run.data.params.items()
    assert {"seed": "0", "folds": "2", "fusion": "attention", "round": "1"}.items() <= run.data.params.items()
    assert "best" not in run.data.params
    assert run.data.tags["data_digest"] == outs.digest
    assert run.data.tags["round_key"] == "1" * 64
    assert run.data.tags["profile"] == "demo"
    assert run.data.tags["dvc_lock"] == read_lineage(tracked).dvc_lock
    (data,) = run.inputs.dataset_inputs
    assert (data.dataset.name, data.dataset.digest) == ("demo", outs.digest[:16])
    assert "pnao.naor" not in runs_of(tracked)["baseline round 00"].data.params  # it has none


def test_the_outs_are_kept_beside_the_figures(tracked: Path) -> None:
    client, runs = client_of(tracked), runs_of(tracked)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(tracked)
        of_round = {item.path for item in client.list_artifacts(runs["pnao round 01"].info.run_id)}
        figures = [item.path for item in client.list_artifacts(runs["pnao"].info.run_id, "figures")]
    assert of_round == {"record.json", "config.json", "curves.csv", "predictions.csv", "branches.csv"}
    assert figures == ["figures/rounds_pnao.png"]  # and not enf_pnao's


def test_tracking_twice_changes_nothing(tracked: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tracked, tmp_path / "project"))
    before = rows_of(root)
    files = sorted(path.relative_to(root) for path in (root / "mlruns/artifacts").rglob("*"))
    track(root)
    after = rows_of(root)
    assert {name: rows for name, rows in after.items() if rows != before[name]} == {}
    assert sorted(path.relative_to(root) for path in (root / "mlruns/artifacts").rglob("*")) == files


def test_a_parent_that_was_deleted_is_made_again_with_its_rounds_below(tracked: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(tracked, tmp_path / "project"))
    client, old = client_of(root), runs_of(root)["enf_pnao"]
    client.delete_run(old.info.run_id)
    track(root)
    runs = runs_of(root)
    assert runs["enf_pnao"].info.run_id != old.info.run_id
    assert runs["enf_pnao"].data.metrics == old.data.metrics
    assert runs["enf_pnao"].data.params == old.data.params
    for number in range(3):
        assert runs[f"enf_pnao round {number:02d}"].data.tags[PARENT] == runs["enf_pnao"].info.run_id
    for name in ("trainval_com", "parameters_ratio"):
        before, after = (
            [(point.step, point.value) for point in client.get_metric_history(run.info.run_id, BY_ROUND[name])]
            for run in (old, runs["enf_pnao"])
        )
        assert after == before
    again = rows_of(root)
    track(root)
    assert rows_of(root) == again


def test_stages_and_track_meet_in_the_same_runs(project: Path, lineage: Lineage, outs: SimpleNamespace) -> None:
    models = project / "models"
    for number in range(2):
        log_round(outs.write_round(models, "pnao", number, 0.3 + number / 10), lineage)
    parent = runs_of(project)["pnao"]
    assert parent.info.status == "RUNNING"
    assert parent.data.metrics == series_of(runs_of(project)["pnao round 01"])
    assert parent.data.params["pnao.naor"] == "0.05"
    outs.write_round(models, "pnao", 1, 0.4, best=True)
    finish_system(models / "pnao", lineage)
    runs = runs_of(project)
    track(project)
    again = runs_of(project)
    assert {name: run.info.run_id for name, run in again.items()} == {n: r.info.run_id for n, r in runs.items()}
    assert set(runs) == {"pnao", "pnao round 00", "pnao round 01"}
    assert again["pnao"].info.end_time == runs["pnao"].info.end_time


def test_more_rounds_extend_the_parent_and_other_settings_make_another(
    project: Path, lineage: Lineage, outs: SimpleNamespace
) -> None:
    models = project / "models"
    log_round(outs.write_round(models, "enf", 0, 0.3), lineage)
    log_round(outs.write_round(models, "enf", 1, 0.3), lineage)
    assert len(runs_of(project)) == 3
    log_round(outs.write_round(models, "enf", 0, 0.3, alpha=0.1), lineage)
    with opened(project) as store:
        assert len(store.client.search_runs([store.experiment], "tags.system = 'enf'")) == 5
        assert len(store.client.search_runs([store.experiment], "tags.system = 'enf' AND tags.round IS NULL")) == 2


@pytest.mark.parametrize("days", [0, -1], ids=["as time goes", "after the clock was set back"])
def test_a_parent_follows_a_new_best_round(
    days: int, project: Path, lineage: Lineage, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    models = project / "models"
    outs.write_round(models, "enf", 0, 0.5, best=True)
    finish_system(models / "enf", lineage)
    now, now_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: now() + days * 86_400)
    monkeypatch.setattr(time, "time_ns", lambda: now_ns() + days * 86_400 * 10**9)
    outs.write_round(models, "enf", 0, 0.5)
    outs.write_round(models, "enf", 1, 0.4, best=True)
    finish_system(models / "enf", lineage)
    runs = runs_of(project)
    assert runs["enf"].data.metrics["trainval_com"] == 0.4
    assert runs["enf"].data.tags["best_round"] == "1"
    assert runs["enf round 00"].data.tags["best"] == "false"


def points_of(root: Path, run: Run, metric: str) -> list[float]:
    return [point.value for point in client_of(root).get_metric_history(run.info.run_id, metric)]


def test_fewer_rounds_leave_one_best_round_and_one_point_an_outcome(
    project: Path, lineage: Lineage, outs: SimpleNamespace
) -> None:
    models = project / "models"
    outs.write_round(models, "pnao", 0, 0.3)
    outs.write_round(models, "pnao", 1, 0.4)
    outs.write_round(models, "pnao", 2, 0.5, best=True)
    finish_system(models / "pnao", lineage)
    shutil.rmtree(models / "pnao")
    outs.write_round(models, "pnao", 0, 0.3)
    outs.write_round(models, "pnao", 1, 0.4, best=True)
    for _ in range(2):
        finish_system(models / "pnao", lineage)
        track(project)
    runs = runs_of(project)
    assert [runs[f"pnao round 0{i}"].data.tags["best"] for i in range(3)] == ["false", "true", "false"]
    assert {"best_round": "1", "rounds": "2"}.items() <= runs["pnao"].data.tags.items()
    assert runs["pnao"].data.metrics["trainval_com"] == 0.4
    assert points_of(project, runs["pnao"], "trainval_com") == [0.5, 0.4]
    assert points_of(project, runs["pnao"], "parameters") == [1000]  # the same for both: no second point


def test_lists_are_readable_parameters_and_part_of_the_identity(
    project: Path, lineage: Lineage, outs: SimpleNamespace
) -> None:
    models = project / "models"
    log_round(outs.write_round(models, "enf", 0, 0.3), lineage)
    first = runs_of(project)["enf round 00"]
    expected = {"features.acoustic": "sound-1, sound-2", "features.visual": "face", "pnao.min_nodes": "2"}
    assert (expected | {"algorithm": "c" * 64, "profile": "demo"}).items() <= first.data.params.items()
    for change in ({"acoustic": ["sound-2", "sound-1"]}, {"visual": []}, {"algorithm": "d" * 64}):
        log_round(outs.write_round(models, "enf", 0, 0.3, **change), lineage)
    with opened(project) as store:
        assert len(store.client.search_runs([store.experiment], "tags.system = 'enf' AND tags.round IS NULL")) == 4
        assert (
            len(store.client.search_runs([store.experiment], "params.`features.visual` = ''")) == 2
        )  # a parent and its round


def test_the_profile_is_the_records(project: Path, lineage: Lineage, outs: SimpleNamespace) -> None:
    models = project / "models"
    outs.write_round(models, "pnao", 0, 0.3, best=True, profile="of-the-record")
    finish_system(models / "pnao", lineage)
    runs = runs_of(project)
    for name in ("pnao", "pnao round 00"):
        assert runs[name].data.tags["profile"] == "of-the-record"
        (data,) = runs[name].inputs.dataset_inputs
        assert (data.dataset.name, data.dataset.source) == ("of-the-record", '{"uri": "data/of-the-record"}')
    (version,) = client_of(project).search_model_versions(f"name = '{NAME}'")
    assert version.tags["profile"] == "of-the-record"


def test_track_gives_the_lock_to_runs(project: Path, outs: SimpleNamespace) -> None:
    models, lock = project / "models", project / "dvc.lock"
    lineage = replace(read_lineage(project), dvc_lock=None)  # as a stage's
    log_round(outs.write_round(models, "pnao", 0, 0.3, best=True), lineage)
    finish_system(models / "pnao", lineage)

    def locks() -> set[str | None]:
        tagged = [run.data.tags for run in runs_of(project).values()]
        assert len(tagged) == 2
        return {tags.get("dvc_lock") for tags in tagged}

    assert locks() == {None}  # the lock that a stage meets does not know its outs yet
    for text in ("schema: '2.0'\nstages: {}\n", "schema: '2.0'\nstages: {pnao: {}}\n"):
        lock.write_text(text)
        track(project)
        assert locks() == {read_lineage(project).dvc_lock}


def artifacts_of(root: Path) -> dict[tuple[str, str], bytes]:
    folders = {name: root / "mlruns/artifacts" / run.info.run_id for name, run in runs_of(root).items()}
    return {
        (name, str(path.relative_to(folder))): path.read_bytes()
        for name, folder in folders.items()
        for path in folder.rglob("*")
        if path.is_file()
    }


def test_stages_and_track_end_in_the_same_artifacts(project: Path, tmp_path: Path, outs: SimpleNamespace) -> None:
    other, models = Path(shutil.copytree(project, tmp_path / "other")), project / "models"
    tracker = StageTracker(project)
    for number in range(2):
        tracker.round(outs.write_round(models, "pnao", number, 0.3 + number / 10))
    outs.write_round(models, "pnao", 1, 0.4, best=True)
    tracker.finished(models / "pnao")
    shutil.copytree(models, other / "models")
    track(other)
    track(project)
    artifacts = artifacts_of(project)
    assert artifacts == artifacts_of(other)
    (text,) = (data for (name, path), data in artifacts.items() if "01" in name and path.endswith("record.json"))
    record = read_json(models / "pnao/round-01/record.json")
    assert record.pop("best")
    assert json.loads(text) == record  # the tag says which one is the best: another round may become it


def test_progress_reaches_the_total(tracked: Path, tmp_path: Path) -> None:
    root, done = Path(shutil.copytree(tracked, tmp_path / "project")), []
    track(root, done.append)
    assert sum(done) == track_total(root) == 8  # six rounds and two systems without any
    assert track_total(tmp_path) == 0


def write_seeds(outs: SimpleNamespace, models: Path, first: int, further: int) -> None:
    """Two rounds a seed, and final; seed 4 gives the better ones, and its best is another round."""
    for seed, folder in ((first, ""), (further, f"seed-{further}")):
        gain = 0.1 if seed == 4 else 0.0
        for number in range(2):
            best = number == (0 if gain else 1)
            com = 0.3 + gain + 0.05 * best
            key = f"{seed}{number}" * 32
            outs.write_round(models, "pnao", number, com, best=best, folder=folder, seed=seed, key=key)
        outs.write_single(models, "final", 0.4 + gain, folder=folder, seed=seed)


def test_every_seed_is_on_record_and_the_first_ones_rounds_are_the_versions(
    project: Path, outs: SimpleNamespace
) -> None:
    write_seeds(outs, project / "models", 0, 4)
    done: list[int] = []
    track(project, done.append)
    assert sum(done) == track_total(project) == 6
    runs = runs_of(project)
    assert set(runs) == {
        "pnao", "pnao round 00", "pnao round 01", "pnao seed 4", "pnao seed 4 round 00", "pnao seed 4 round 01",
        "final", "final seed 4",
    }  # fmt: skip
    for name, run in runs.items():
        seed = "4" if "seed 4" in name else "0"
        assert run.data.params["seed"] == run.data.tags["seed"] == seed
        if "round" in name:
            assert run.data.tags[PARENT] == runs["pnao seed 4" if seed == "4" else "pnao"].info.run_id
    assert runs["pnao"].data.metrics["trainval_com"] == 0.35
    assert runs["pnao seed 4"].data.metrics["trainval_com"] == pytest.approx(0.45)
    assert (runs["pnao"].data.tags["best_round"], runs["pnao seed 4"].data.tags["best_round"]) == ("1", "0")
    assert runs["pnao round 00"].data.tags["best"] == runs["pnao seed 4 round 01"].data.tags["best"] == "false"

    client = client_of(project)
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert sorted((version.tags["seed"], version.tags["round"]) for version in versions) == [("0", "0"), ("0", "1")]
    candidate = client.get_model_version_by_alias(NAME, "candidate")  # though seed 4 has a better round
    assert candidate.run_id == runs["pnao round 01"].info.run_id

    before = rows_of(project)
    track(project)
    assert rows_of(project) == before


def test_a_seed_added_later_leaves_the_runs_of_the_first_alone(project: Path, outs: SimpleNamespace) -> None:
    models = project / "models"
    write_seeds(outs, models, 0, 4)
    added = project / "later"
    (models / "pnao/seed-4").rename(added)
    shutil.rmtree(models / "final")
    track(project)
    first = runs_of(project)
    added.rename(models / "pnao/seed-4")
    track(project)
    runs = runs_of(project)
    assert len(runs) == 2 * len(first) == 6
    for name, run in first.items():
        assert runs[name].to_dictionary() == run.to_dictionary()


def test_other_models_of_record_leave_the_runs_of_both_seeds_as_they_are(project: Path, outs: SimpleNamespace) -> None:
    models = project / "models"
    write_seeds(outs, models, 0, 4)
    track(project)
    before = runs_of(project)
    shutil.rmtree(models)
    write_seeds(outs, models, 4, 0)
    track(project)
    after = runs_of(project)
    assert {name: run.info.run_id for name, run in after.items()} == {n: run.info.run_id for n, run in before.items()}
    assert [after[name].data.metrics for name in before] == [run.data.metrics for run in before.values()]
    versions = client_of(project).search_model_versions(f"name = '{NAME}'")
    assert len(versions) == 4  # the versions of the first seed stay, as those of any earlier training do


def write_training(outs: SimpleNamespace, models: Path, coms: list[float], asked: int, **changes: Any) -> None:
    """`enf_pnao` and `pnao` as another training leaves them: a round a Com, the best one marked."""
    shutil.rmtree(models, ignore_errors=True)
    naor, alpha, seed = (changes.get(name, value) for name, value in {"naor": 0.05, "alpha": 5e-4, "seed": 0}.items())
    for system, gain in {"enf_pnao": 0.0, "pnao": -0.2}.items():
        for number, com in enumerate(coms):
            pruned_by = naor if number else None  # round 0 is not pruned: its networks are the same for every NAOR
            key = hashlib.sha256(f"{system} {number} {pruned_by} {alpha} {seed}".encode()).hexdigest()
            facts = {"key": key, "rounds": asked, **changes}
            outs.write_round(models, system, number, com + gain, best=com == max(coms), **facts)


def test_no_training_overwrites_another_ones_run(project: Path, outs: SimpleNamespace) -> None:
    models = project / "models"
    trainings: dict[str, tuple[list[float], int, dict[str, Any]]] = {
        "enf_pnao naor 0.1": ([0.45, 0.49, 0.48, 0.506], 3, {"naor": 0.1}),
        "enf_pnao naor 0.1 rounds 1": ([0.45, 0.49], 1, {"naor": 0.1}),
        "enf_pnao naor 0.1 rounds 5": ([0.45, 0.49, 0.48, 0.506, 0.50, 0.51], 5, {"naor": 0.1}),
        "enf_pnao naor 0.1 seed 7": ([0.44, 0.47, 0.46, 0.45], 3, {"naor": 0.1, "seed": 7}),
        "enf_pnao naor 0.1 alpha 0.002": ([0.43, 0.41, 0.48, 0.40], 3, {"naor": 0.1, "alpha": 0.002}),
        "enf_pnao naor 0.2": ([0.45, 0.40], 1, {"naor": 0.2}),
    }
    again = ["enf_pnao naor 0.1", "enf_pnao naor 0.1 rounds 1"]  # applied back
    candidates = {}
    for name in (*trainings, *again):
        coms, asked, changes = trainings[name]
        write_training(outs, models, coms, asked, **changes)
        track(project)
        version = client_of(project).get_model_version_by_alias(NAME, "candidate")
        assert version.tags["com"] == str(max(coms))
        assert candidates.setdefault(name, version.version) == version.version
    client = client_of(project)
    parents = client.search_runs(["1"], "tags.system = 'enf_pnao' AND tags.round IS NULL")
    named = {run.info.run_name: run for run in parents}
    assert named.keys() == {name if name != "enf_pnao naor 0.2" else f"{name} rounds 1" for name in trainings}
    for name, (coms, asked, changes) in trainings.items():
        run = named.get(name) or named[f"{name} rounds 1"]
        assert run.data.metrics["trainval_com"] == max(coms)
        assert run.data.tags["best_round"] == str(coms.index(max(coms)))
        assert run.data.params["pnao.rounds"] == str(asked)
        assert {key: run.data.params[f"pnao.{key}"] for key in changes if key != "seed"} == {
            key: str(value) for key, value in changes.items() if key != "seed"
        }
        history = client.get_metric_history(run.info.run_id, BY_ROUND["trainval_com"])
        assert sorted((point.step, point.value) for point in history) == list(enumerate(coms))
        rounds = client.search_runs(["1"], f"tags.`mlflow.parentRunId` = '{run.info.run_id}'")
        assert {each.info.run_name for each in rounds} == {
            f"{run.info.run_name} round {i:02d}" for i in range(len(coms))
        }
        for each in rounds:
            number = int(each.data.tags["round"])
            assert each.data.metrics["trainval_com"] == coms[number]
            assert each.data.tags["best"] == str(coms[number] == max(coms)).lower()
            version = client.get_model_version(NAME, each.data.tags["registered_version"])
            assert (version.tags["com"], version.tags["round"]) == (str(coms[number]), str(number))
    # One version for one round's networks: of seed 0 and alpha .0005 round 0, five after it with naor .1, one with .2.
    versions = [v for v in client.search_model_versions(f"name = '{NAME}'") if v.tags["system"] == "enf_pnao"]
    assert len(versions) == 1 + 5 + 1 + 4 + 4


def test_another_profiles_trainings_are_told_apart_among_themselves(project: Path, outs: SimpleNamespace) -> None:
    models = project / "models"
    first: dict[str, Any] = {}
    others: list[dict[str, Any]] = [{}, {"seed": 1}, {"seed": 1, "alpha": 0.1}]
    for changes in (first, *({"profile": "cremad", "data_digest": "cd" * 32, **other} for other in others)):
        write_training(outs, models, [0.4], 2, **changes)
        track(project)
    parents = client_of(project).search_runs(["1"], "tags.system = 'pnao' AND tags.round IS NULL")
    assert {run.info.run_name for run in parents} == {
        "pnao naor 0.05",
        "pnao naor 0.05 cremad",
        "pnao naor 0.05 cremad seed 1",
        "pnao naor 0.05 cremad alpha 0.1 seed 1",
    }


def test_what_has_nothing_to_tell_it_apart_gets_a_number(project: Path, outs: SimpleNamespace) -> None:
    models = project / "models"
    for com in (0.3, 0.4, 0.5):
        shutil.rmtree(models, ignore_errors=True)
        outs.write_single(models, "linear_probe", com)
        track(project)
    assert set(runs_of(project)) == {"linear_probe", "linear_probe (2)", "linear_probe (3)"}


def test_a_seed_that_a_kill_left_empty_is_no_obstacle(project: Path, outs: SimpleNamespace) -> None:
    write_seeds(outs, project / "models", 0, 4)
    (project / "models/pnao/seed-4/round-00/record.json").unlink()
    (project / "models/pnao/seed-9/round-00").mkdir(parents=True)
    track(project)
    assert "pnao seed 4 round 01" in runs_of(project)
    assert not any("seed 9" in name for name in runs_of(project))


@pytest.fixture
def killed_at(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    def kill(method: str, error: BaseException) -> None:
        def stop(*_: object, **__: object) -> None:
            monkeypatch.undo()
            raise error

        monkeypatch.setattr(MlflowClient, method, stop)

    return kill


@pytest.fixture
def stop_after(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], list[str]]]:
    """Let only so many of a client's requests that change something through, then be killed."""
    methods = [
        name
        for name in vars(MlflowClient)
        if name.startswith(("create_", "log_", "set_", "update_", "finalize_", "delete_")) and name != "log_artifact"
    ]

    def start(allowed: int) -> list[str]:
        done: list[str] = []

        def guard(name: str, method: Callable[..., Any]) -> Callable[..., Any]:
            def call(*arguments: Any, **more: Any) -> Any:
                if len(done) == allowed:
                    raise KeyboardInterrupt
                result = method(*arguments, **more)
                done.append(name)
                return result

            return call

        for name in methods:
            monkeypatch.setattr(MlflowClient, name, guard(name, originals[name]))
        return done

    originals = {name: getattr(MlflowClient, name) for name in methods}
    return start


def facts_of(root: Path) -> dict[str, Any]:
    """What tracking comes to, without ids and times."""
    client, runs = client_of(root), runs_of(root)
    names = {run.info.run_id: name for name, run in runs.items()}
    points = {
        (name, metric): sorted(
            (point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric)
        )
        for name, run in runs.items()
        for metric in run.data.metrics
    }
    versions = client.search_model_versions(f"name = '{NAME}'")
    models = client.search_logged_models(["1"])
    return {
        "status": {name: run.info.status for name, run in runs.items()},
        "points": points,
        "params": {name: run.data.params for name, run in runs.items()},
        "data": {name: len(run.inputs.dataset_inputs) for name, run in runs.items()},
        "models": sorted((model.name, str(model.status)) for model in models),
        "versions": sorted(names[version.run_id] for version in versions),
        "candidate": names[client.get_model_version_by_alias(NAME, "candidate").run_id],
        "artifacts": set(artifacts_of(root)),
    }


def test_a_kill_between_any_two_requests_is_resumed_without_doubling(
    project: Path, outs: SimpleNamespace, tmp_path: Path, stop_after: Callable[[int], list[str]]
) -> None:
    outs.write_round(project / "models", "pnao", 0, 0.3, best=True)
    whole = Path(shutil.copytree(project, tmp_path / "whole"))
    requests = stop_after(1000)
    track(whole)
    stop_after(1000)
    expected = facts_of(whole)
    assert {"create_run", "log_batch", "log_inputs", "create_model_version", "set_terminated"} <= set(requests)
    assert (expected["versions"], expected["candidate"]) == (["pnao round 00"], "pnao round 00")
    for allowed in range(len(requests)):
        root = Path(shutil.copytree(project, tmp_path / f"killed after {allowed}"))
        done = stop_after(allowed)
        with pytest.raises(KeyboardInterrupt):
            track(root)
        assert len(done) == allowed
        stop_after(1000)
        track(root)
        assert facts_of(root) == expected, f"killed after {requests[:allowed]}"


def test_a_failure_is_marked_and_then_repaired(
    project: Path, lineage: Lineage, outs: SimpleNamespace, killed_at: Any
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    killed_at("log_inputs", OSError("no space left"))
    with pytest.raises(OSError, match="no space left"):
        log_round(directory, lineage)
    assert runs_of(project)["enf round 00"].info.status == "FAILED"
    log_round(directory, lineage)
    assert runs_of(project)["enf round 00"].info.status == "FINISHED"


@pytest.mark.parametrize("method", ["log_inputs", "set_terminated"])
def test_track_closes_what_a_kill_left_running(
    method: str, project: Path, lineage: Lineage, outs: SimpleNamespace, killed_at: Any
) -> None:
    models = project / "models"
    log_round(outs.write_round(models, "enf", 0, 0.3), lineage)
    outs.write_round(models, "enf", 1, 0.4, best=True)
    killed_at(method, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        finish_system(models / "enf", lineage)
    runs = runs_of(project)
    assert (runs["enf"].info.status, runs["enf round 01"].info.status) == ("RUNNING", "RUNNING")
    track(project)
    runs = runs_of(project)
    assert {run.info.status for run in runs.values()} == {"FINISHED"}
    assert points_of(project, runs["enf"], "trainval_com") == points_of(project, runs["enf round 01"], "trainval_com")


@pytest.mark.parametrize("method", ["log_inputs", "set_terminated"])
def test_track_closes_a_parent_that_a_kill_left_running(
    method: str, project: Path, lineage: Lineage, outs: SimpleNamespace, killed_at: Any
) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    log_round(directory, lineage)
    outs.write_round(project / "models", "enf", 0, 0.3, best=True)
    killed_at(method, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        finish_system(directory.parent, lineage)
    assert runs_of(project)["enf"].info.status == "RUNNING"
    track(project)
    parent = runs_of(project)["enf"]
    assert parent.info.status == "FINISHED"
    assert points_of(project, parent, "trainval_com") == [0.3]


def test_nothing_to_track_is_said(project: Path) -> None:
    with pytest.raises(InputError, match=r"models holds no finished system: run `make run` or `dvc pull` first"):
        track(project)


def test_a_damaged_record_or_curve_is_named(project: Path, lineage: Lineage, outs: SimpleNamespace) -> None:
    directory = outs.write_round(project / "models", "enf", 0, 0.3)
    (directory / "curves.csv").write_text("fold,epoch,com\n0,first,0.3\n")
    with pytest.raises(InputError, match=r"round-00/curves\.csv does not hold training curves"):
        log_round(directory, lineage)
    (directory / "record.json").write_text('{"system": "enf"}')
    with pytest.raises(InputError, match=r"round-00/record\.json is not the record"):
        log_round(directory, lineage)
