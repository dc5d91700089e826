"""What a search leaves: figures, trials.csv, the page's section, MLflow's runs."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from mlflow import MlflowClient

from mer_pnao.params.profile import load_params
from mer_pnao.params.search_space import LogGrid
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.search import line, sentences, write_search
from mer_pnao.report.search_figures import contours, history, slices
from mer_pnao.search.reading import read_record
from mer_pnao.search.record import RoundRecord, StudyRecord, TrialRecord
from mer_pnao.search.storage import open_storage
from mer_pnao.search.study import find_or_create, open_study
from mer_pnao.search.trial import COM, load_task
from mer_pnao.search.worker import work
from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.search_runs import track_search

PNG = b"\x89PNG"


@pytest.fixture(scope="module")
def record(write_project: Callable[[Path], Path], tmp_path_factory: pytest.TempPathFactory) -> StudyRecord:
    root = write_project(tmp_path_factory.mktemp("record") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(root)
        params = load_params(root / "params.yaml")
        space = replace(params.search, alpha=LogGrid(0.001, 0.004, 5))  # 15 points
        task = load_task(params.model_copy(update={"search": space}), (COM,))
        storage, registry = open_storage(root, None)
        find_or_create(storage, registry, task)
        study = open_study(storage, task)
        work(study, registry, 14, task, DiskRoundStore(root / "work/rounds"))
        return read_record(study, task)


def test_every_trial_is_in_the_table_and_the_figures_are_drawn(record: StudyRecord, tmp_path: Path) -> None:
    out = tmp_path / "search"
    write_search(record, out)
    table = pd.read_csv(out / "trials.csv")
    assert table["trial"].tolist() == list(range(14))
    assert table["chosen"].sum() == 1
    assert not table.duplicated(["naor", "alpha"]).any()
    for (_, row), each in zip(table.iterrows(), record.trials, strict=True):
        _, count = min(((-one.com, one.parameters), number) for number, one in enumerate(each.rounds) if number >= 1)
        assert (row["rounds"], row["trainval_com"]) == (count, pytest.approx(each.rounds[count].com, abs=1e-6))
        assert row["parameters"] == each.rounds[count].parameters
    complete = table[table["state"] == "complete"]
    assert complete.loc[complete["chosen"], "trainval_com"].item() == complete["trainval_com"].max()
    assert ((table["hits"] + table["misses"]) == table["rounds_done"]).all()
    assert table["hits"].sum() / table["rounds_done"].sum() == pytest.approx(record.hit_rate)
    assert 0 < record.hit_rate < 1
    pictures = {path.stem: path.read_bytes() for path in out.glob("*.png")}
    assert {"history", "pareto", "slice", "contour"} <= set(pictures)
    assert ("importances" in pictures) == bool(record.importances)
    assert all(content.startswith(PNG) for content in pictures.values())
    write_search(record, out)
    assert {path.stem: path.read_bytes() for path in out.glob("*.png")} == pictures
    page = (out / "index.html").read_text()
    assert page.count("<img") == len(pictures)
    assert "search · profile tiny" in page
    assert f"{record.chosen.best.com:.4f}" in page  # type: ignore[union-attr]
    assert json.loads((out / "study.json").read_text())["chosen"]["com"] == record.chosen.best.com  # type: ignore[union-attr]
    assert all(line(each).startswith(f"trial {each.number:>3}  Com {each.best.com:.4f}") for each in record.trials)


def test_figures_show_the_whole_grid_and_name_what_they_hold(record: StudyRecord) -> None:
    tried = [each for each in record.trials if each.complete and each.values["naor"] == 0.8]
    axes = contours.__wrapped__(tried, [knob for knob in record.knobs if knob.name in ("naor", "alpha")]).axes[0]
    for (low, high), grid in ((axes.get_xlim(), record.knobs[0].grid), (axes.get_ylim(), record.knobs[1].grid)):
        assert low < 0 < len(grid) - 1 < high
    for axes, knob in zip(slices.__wrapped__(tried, record.knobs).axes, record.knobs, strict=False):
        low, high = axes.get_xlim()
        assert low < 0 < len(knob.grid) - 1 < high
    for trials, named in ((record.trials, True), ([each for each in record.trials if each.complete], False)):
        figure = history.__wrapped__(replace(record, trials=tuple(trials)))
        assert ("given up early" in [text.get_text() for text in figure.legends[0].get_texts()]) == named


def test_the_sentences_name_the_chosen_trial(record: StudyRecord) -> None:
    text = " ".join(sentences(record))
    assert record.chosen is not None
    assert record.own is not None
    assert not record.chosen.own, "else the gain is not tested"
    gain = record.chosen.best.com - record.own.best.com
    assert f"Trial {record.chosen.number} is chosen: Com {gain:+.4f} against the {record.own.best.com:.4f} of" in text
    text = " ".join(sentences(replace(record, trials=(record.own,))))
    assert f"Trial {record.own.number} is chosen: the values that the profile had, with the best" in text


def test_the_sentences_tell_what_the_winner_costs(record: StudyRecord) -> None:
    def trial(number: int, com: float, parameters: int) -> TrialRecord:
        first = record.trials[0]
        rounds = (RoundRecord("k", parameters, com, None, com),)
        return replace(first, number=number, complete=True, values={**first.values, "rounds": 0}, rounds=rounds)

    def said(*trials: TrialRecord, **changes: Any) -> str:
        return " ".join(sentences(replace(record, trials=trials, **changes)))

    cost = "It takes 129.3 k parameters; trial 2 has 59.9 k for Com -0.0009, and `mer search --objectives"
    assert cost in said(trial(0, 0.4, 9_000), trial(1, 0.5069, 129_300), trial(2, 0.5060, 59_900))
    assert "It takes" not in said(trial(1, 0.5069, 129_300), trial(2, 0.4960, 59_900))  # too much is lost
    assert "It takes" not in said(trial(1, 0.5069, 129_300), trial(2, 0.5060, 120_000))  # too little is gained
    both = {"objectives": ("com", "parameters"), "com_at_least": 0.5}
    assert "It takes" not in said(trial(1, 0.5069, 129_300), trial(2, 0.5060, 59_900), **both)


def test_importances_add_up_and_name_the_knobs(record: StudyRecord) -> None:
    if record.importances:
        assert set(record.importances) <= {knob.name for knob in record.knobs}
        assert sum(record.importances.values()) == pytest.approx(1)


def test_an_experiment_in_a_copy_is_tracked_with_its_own_lineage(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "root"
    root.mkdir()
    shutil.copyfile(project / "params.yaml", root / "params.yaml")
    for each in (project, root):
        (each / "dvc.lock").write_text(f"# {each.name}")
    own = read_lineage(project).tags()["dvc_lock"]
    monkeypatch.setenv("DVC_ROOT", str(root))
    trial = TrialRecord(
        number=0,
        complete=True,
        values={"rounds": 0},
        rounds=(RoundRecord("key", 10, 0.5, None, 0.5),),
        dense=10,
        hits=0,
        misses=1,
        started=1e9,
        seconds=1.0,
        replaces=None,
        own=False,
    )
    track_search(
        StudyRecord(
            name="s",
            profile="tiny",
            objectives=("com",),
            com_at_least=0.0,
            knobs=(),
            settings={},
            data_digest="d",
            trials=(trial,),
            importances={},
            lost=0,
            diverged=0,
            seconds=1.0,
        )
    )
    runs = MlflowClient(tracking_uri=f"sqlite:///{root}/mlruns/mlflow.db").search_runs(["1"])
    assert [run.data.tags["dvc_lock"] for run in runs] == [own] * 2


def test_mlflow_has_a_run_a_study_and_a_nested_run_a_trial_once(record: StudyRecord, project: Path) -> None:
    for _ in range(2):
        track_search(record, project)
    client = MlflowClient(tracking_uri=f"sqlite:///{project}/mlruns/mlflow.db")
    experiment = client.get_experiment_by_name("mer-pnao")
    assert experiment is not None
    runs = client.search_runs([experiment.experiment_id])
    parents = [run for run in runs if "mlflow.parentRunId" not in run.data.tags]
    assert len(parents) == 1
    assert len(runs) == 1 + len(record.trials)
    assert parents[0].data.metrics["trials"] == 14
    assert parents[0].data.params["search.naor"] == "0.2, 0.4, 0.8"
    for trial in record.trials:
        (run,) = [run for run in runs if run.info.run_name == f"trial {trial.number:03d}"]
        assert run.data.tags["mlflow.parentRunId"] == parents[0].info.run_id
        assert run.data.params["pnao.naor"] == str(trial.values["naor"])
        assert run.data.params["pnao.rounds"] == str(trial.best_round)
        assert run.data.metrics["trainval_com"] == pytest.approx(trial.best.com)
        assert run.data.metrics["hit_rate"] == trial.hit_rate
        assert (run.data.tags["chosen"] == "true") == (trial == record.chosen)
        points = client.get_metric_history(run.info.run_id, "round_com")
        assert [point.value for point in sorted(points, key=lambda each: each.step)] == pytest.approx(
            [each.com for each in trial.rounds]
        )
        assert run.info.status == "FINISHED"
        assert run.info.end_time - run.info.start_time == pytest.approx(1000 * trial.seconds, abs=1)
    spans = [(run.info.start_time, run.info.end_time) for run in runs if run not in parents]
    (whole,) = [(run.info.start_time, run.info.end_time) for run in parents]
    assert whole == (min(start for start, _ in spans), max(end for _, end in spans))
    assert whole[1] - whole[0] == pytest.approx(1000 * record.seconds, abs=1)


def test_mlflow_that_cannot_be_reached_is_one_sentence(
    record: StudyRecord, project: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{project}/params.yaml/x.db")
    track_search(record, project)
    assert "MLflow could not be told" in capsys.readouterr().err
