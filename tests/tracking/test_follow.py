"""The record against `models/` after DVC has restored outputs without running a stage."""

import shutil
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from mlflow import MlflowClient

from mer_pnao.foundations.files import read_json, write_json
from mer_pnao.tracking.connection import DATABASE, NAME, opened
from mer_pnao.tracking.follow import follow_models
from mer_pnao.tracking.lookup import find_registered
from mer_pnao.tracking.promotion.gates import Gate
from mer_pnao.tracking.promotion.listing import list_versions
from mer_pnao.tracking.promotion.promote import promote
from mer_pnao.tracking.promotion.reload import Reloads
from mer_pnao.tracking.runs import track
from mer_pnao.tracking.ui import serve_ui


def write_training(outs: SimpleNamespace, project: Path, naor: float, com: float, best: bool = True) -> None:
    """What `dvc exp apply` leaves: other models/, and nobody has told MLflow."""
    shutil.rmtree(project / "models", ignore_errors=True)
    for system, gain in {"pnao": 0.0, "enf_pnao": 0.1}.items():
        key = f"{int(1000 * naor)}{len(system)}".ljust(64, "0")
        outs.write_round(project / "models", system, 1, com + gain, best=best, naor=naor, key=key)


def candidate_of(project: Path) -> dict[str, str]:
    version = MlflowClient(f"sqlite:///{project / DATABASE}").get_model_version_by_alias(NAME, "candidate")
    return {name: version.tags[name] for name in ("system", "naor", "com")}


@pytest.fixture
def moved(project: Path, outs: SimpleNamespace) -> Path:
    """Trained with NAOR .05 and then with .1, whose worse candidate is on record; then .05 applied back."""
    for naor, com in ((0.05, 0.41), (0.1, 0.31)):
        write_training(outs, project, naor, com)
        track(project)
    write_training(outs, project, 0.05, 0.41)
    assert candidate_of(project)["naor"] == "0.1"
    return project


def no_reload(*_: Any) -> Reloads:
    raise AssertionError("an unknown version is not reloaded")


def ask_for_the_ui(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("mer_pnao.tracking.ui._serve", lambda *_: None)
    monkeypatch.setattr("subprocess.run", lambda *_, **__: None)
    monkeypatch.chdir(project)
    serve_ui(project, 0)


ASKERS: dict[str, Callable[[Path, pytest.MonkeyPatch], Any]] = {
    "registry": lambda project, _: list_versions(project),
    "predict and serve": lambda project, _: find_registered(project, "candidate"),
    "predict and serve by address": lambda project, _: find_registered(project, f"models:/{NAME}@candidate"),
    "ui": ask_for_the_ui,
}


@pytest.mark.parametrize("asker", ASKERS)
def test_whoever_asks_for_the_candidate_gets_that_of_models(
    moved: Path, asker: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    with monkeypatch.context() as patch:
        ASKERS[asker](moved, patch)
    assert candidate_of(moved) == {"system": "enf_pnao", "naor": "0.05", "com": "0.51"}
    said = capsys.readouterr().err
    assert "candidate is version 2 now (enf_pnao, round 1, naor 0.05), the best registered round of models/" in said
    with opened(moved) as store:
        follow_models(store, moved)
    assert capsys.readouterr().err == ""


def test_promote_judges_the_candidate_of_models(moved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    judged = []
    gather = "mer_pnao.tracking.promotion.promote.gather"
    monkeypatch.setattr(gather, lambda store, candidate, *_: judged.append(candidate.tags["naor"]))
    monkeypatch.setattr("mer_pnao.tracking.promotion.promote.judge", lambda *_: (Gate("none", False, "a test"),))
    monkeypatch.setattr("mer_pnao.tracking.promotion.promote._record", lambda *_: None)
    assert not promote(moved, reload=no_reload).promoted
    assert judged == ["0.05"]


def test_a_training_that_nobody_has_told_of_is_tracked(
    project: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_training(outs, project, 0.3, 0.2)
    outs.write_single(project / "models", "linear_probe", 0.1)
    rows, _ = list_versions(project)
    assert [(row.system, row.naor, row.aliases) for row in rows] == [
        ("enf_pnao", 0.3, ("candidate",)),
        ("pnao", 0.3, ()),
    ]
    said = capsys.readouterr().err
    assert "models/ holds a training of linear_probe, pnao, enf_pnao that is not on record: tracking it\n" in said


@pytest.mark.parametrize("case", ["a training that goes on", "tracking is off", "no models"])
def test_the_record_stays_where_models_say_nothing(
    case: str, moved: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    if case == "a training that goes on":
        write_training(outs, moved, 0.05, 0.41, best=False)
    elif case == "tracking is off":
        monkeypatch.setenv("MER_TRACKING", "off")
    else:
        shutil.rmtree(moved / "models")
    list_versions(moved)
    assert candidate_of(moved)["naor"] == "0.1"
    assert capsys.readouterr().err == ""


def test_the_list_shows_the_training_that_models_holds_and_not_the_latest(moved: Path) -> None:
    rows, _ = list_versions(moved)
    assert {row.naor for row in rows if row.last} == {0.05}
    shutil.rmtree(moved / "models")
    rows, _ = list_versions(moved)
    assert {row.naor for row in rows if row.last} == {0.1}  # that of the latest training


def test_a_shared_version_outlives_the_training_that_registered_it(moved: Path, outs: SimpleNamespace) -> None:
    write_training(outs, moved, 0.05, 0.41)
    for system in ("pnao", "enf_pnao"):  # asked for more rounds: another training, and the same networks
        path = moved / f"models/{system}/round-01/record.json"
        write_json(path, read_json(path) | {"rounds": 9})
    track(moved)
    client = MlflowClient(f"sqlite:///{moved / DATABASE}")
    for run in client.search_runs(["1"], "params.`pnao.rounds` = '2' AND params.`pnao.naor` = '0.05'"):
        client.delete_run(run.info.run_id)
    track(moved)
    assert candidate_of(moved) == {"system": "enf_pnao", "naor": "0.05", "com": "0.51"}
    assert len(client.search_model_versions(f"name = '{NAME}'")) == 4


def test_a_record_that_cannot_be_read_stops_nobody(moved: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = moved / "models/pnao/round-01/record.json"
    write_json(path, read_json(path) | {"latency_ms": 1.0})  # as an earlier version wrote it
    rows, _ = list_versions(moved)
    assert len(rows) == 4
    assert candidate_of(moved)["naor"] == "0.1"
    (said,) = capsys.readouterr().err.splitlines()
    assert "record.json is not the record of a finished round" in said
    assert said.endswith(": the record stays as it is")


def test_looking_closes_nobody_elses_training(moved: Path, outs: SimpleNamespace) -> None:
    with opened(moved) as store:
        tags = {"identity": "of another checkout", "system": "enf"}
        running = store.client.create_run(store.experiment, tags=tags, run_name="enf").info.run_id
    write_training(outs, moved, 0.7, 0.2)
    list_versions(moved)
    assert candidate_of(moved)["naor"] == "0.7"
    assert MlflowClient(f"sqlite:///{moved / DATABASE}").get_run(running).info.status == "RUNNING"


def test_a_training_that_a_kill_left_without_a_best_round_is_not_tracked_again_and_again(
    moved: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    outs.write_round(moved / "models", "enf", 0, 0.3)
    for _ in range(2):
        list_versions(moved)
    assert "that is not on record" not in capsys.readouterr().err


def test_the_same_training_from_another_processor_is_another_one(
    moved: Path, outs: SimpleNamespace, capsys: pytest.CaptureFixture[str]
) -> None:
    write_training(outs, moved, 0.05, 0.4100001)  # a colleague's, after `dvc pull`
    list_versions(moved)
    assert candidate_of(moved) == {"system": "enf_pnao", "naor": "0.05", "com": str(0.4100001 + 0.1)}
    assert "models/ holds a training of pnao, enf_pnao that is not on record" in capsys.readouterr().err
    client = MlflowClient(f"sqlite:///{moved / DATABASE}")
    parents = client.search_runs(["1"], "tags.system = 'pnao' AND tags.round IS NULL AND params.`pnao.naor` = '0.05'")
    assert {run.info.run_name: run.data.metrics["trainval_com"] for run in parents} == {
        "pnao naor 0.05": 0.41,
        "pnao naor 0.05 (2)": 0.4100001,
    }
