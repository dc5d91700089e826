"""The whole pipeline on a tiny profile, as a user runs it: dvc repro, another NAOR, a kill, push and pull."""

import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pandas as pd
import pytest
from tiny_project import (
    ROOT,
    SYSTEMS,
    TEST_CLIPS,
    TRAIN_CLIPS,
    commit,
    environment,
    first_json,
    round_stamp,
    rounds_known,
    run,
    stages_run,
    tiny_profile,
    write_params,
)

pytestmark = pytest.mark.slow
MerIn = Callable[..., str]


def test_the_first_run_leaves_every_product(finished: Path, mer_in: MerIn) -> None:
    table = pd.read_csv(finished / "reports/table.csv")
    assert table["system"].tolist() == SYSTEMS
    assert table[["trainval_com", "dis", "dim", "com", "com_low", "com_high", "parameters"]].notna().all().all()
    assert (table["com"] - (table["dis"] - 0.25 * table["dim"])).abs().max() < 2e-6
    rounds = pd.read_csv(finished / "reports/rounds.csv")
    assert len(rounds) == 2 * (1 + 1 + 4 + 4)
    shrinking = rounds[(rounds["system"] == "enf_pnao") & (rounds["split"] == "test")]["parameters"].tolist()
    assert shrinking == sorted(shrinking, reverse=True)
    assert shrinking[-1] < shrinking[0]
    tables = ("skipped_clips.csv", "confusion.csv", "emotions.csv", "speakers.csv")
    for name in ("index.html", "metrics.json", "systems.json", *tables, "figures/confusion_final.png"):
        assert (finished / "reports" / name).stat().st_size > 20
    for system in SYSTEMS:
        assert len(pd.read_csv(finished / f"reports/predictions/{system}.csv")) == TEST_CLIPS
    assert "Com = Dis" in mer_in(finished, "table")
    assert run(finished, "git", "status", "--porcelain") == ""


def test_nothing_changed_runs_nothing(finished: Path) -> None:
    said = run(finished, "dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert run(finished, "dvc", "status", "dvc.yaml") == "Data and pipelines are up to date.\n"


def test_what_mer_extract_computes_for_the_profile_is_what_the_stage_takes(finished: Path, mer_in: MerIn) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "work/features").glob("*/part-*")}
    assert before
    said = mer_in(finished, "extract", "--encoder", "manet")  # finds the shards that the stage has made
    assert "manet: all shards are there; `dvc repro` takes them from work/" in " ".join(said.split())
    assert {path: path.stat().st_mtime_ns for path in (finished / "work/features").glob("*/part-*")} == before


def test_every_round_of_the_pruned_systems_is_a_registered_version(finished: Path) -> None:
    script = """
import json, mlflow
from mlflow import MlflowClient
mlflow.set_tracking_uri("sqlite:///mlruns/mlflow.db")
client = MlflowClient()
runs = client.search_runs([client.get_experiment_by_name("mer-pnao").experiment_id], max_results=1000)
parents = [r for r in runs if "mlflow.parentRunId" not in r.data.tags]
versions = client.search_model_versions("name='mer-pnao'")
model = mlflow.pyfunc.load_model("models:/mer-pnao@candidate")
frame = model.predict(model.input_example) if model.input_example is not None else None
columns = [] if frame is None else list(frame.columns)
print(json.dumps([len(parents), len(runs) - len(parents), len(versions), columns]))
"""
    said = run(finished, sys.executable, "-c", script)
    parents, nested, versions, columns = json.loads(said.strip().splitlines()[-1])
    assert (parents, nested, versions) == (6, 2 + 2 * 4, 2 * 4)
    assert columns[:1] == ["emotion"]


def test_push_and_pull_bring_the_products_to_another_clone(project: Path, tmp_path: Path, mer_in: MerIn) -> None:
    run(project, "dvc", "remote", "add", "-d", "local", str(tmp_path / "remote"))
    run(project, "dvc", "push")
    commit(project)
    run(tmp_path, "git", "clone", "-q", str(project), str(tmp_path / "clone"))
    clone = tmp_path / "clone"
    run(clone, "dvc", "pull")
    for path in (
        "reports/table.csv",
        "models/enf_pnao/round-00/fold-0.safetensors",
        "data/demo/manifest.csv",
    ):
        assert (clone / path).read_bytes() == (project / path).read_bytes()
    assert len(list((clone / "data/demo/clips").glob("*.mp4"))) == TRAIN_CLIPS + TEST_CLIPS
    assert "Running stage" not in run(clone, "dvc", "repro")

    mer_in(clone, "track")
    versions = first_json(mer_in(clone, "registry", "--json"))
    assert len(versions) == 2 * 4
    (candidate,) = (version for version in versions if version["aliases"] == ["candidate"])
    recorded = pd.read_csv(clone / f"models/{candidate['system']}/round-{candidate['round']:02d}/predictions.csv")
    of_clip = recorded[recorded["split"] == "test"].iloc[0]
    clip = f"data/demo/clips/{of_clip['name']}.mp4"
    answer = first_json(mer_in(clone, "predict", clip, "--model", "candidate", "--json"))
    assert answer["emotion"] == of_clip["discrete"]
    assert answer["valence"] == pytest.approx(of_clip["valence"], abs=1e-5)
    for emotion, posterior in answer["posteriors"].items():
        assert posterior == pytest.approx(of_clip[f"posterior_{emotion}"], abs=1e-5)


def test_an_experiment_with_another_naor_reuses_the_sparse_training(project: Path) -> None:
    before = rounds_known(project)
    said = run(project, "dvc", "exp", "run", "-S", "pnao.naor=0.5")
    assert stages_run(said) == ["pnao", "ensemble", "evaluate"]
    assert len(rounds_known(project) - before) == 2 * 3  # three pruned rounds a system, no round 0
    assert "pnao.naor" in run(project, "dvc", "params", "diff")
    compared = re.findall(r"enf_pnao\.parameters_ratio +(\S+) +(\S+) +(\S+)", run(project, "dvc", "metrics", "diff"))
    assert len(compared) == 1
    assert all(math.isfinite(float(number)) for number in compared[0])
    plots = first_json(run(project, "dvc", "plots", "diff", "HEAD", "--json"))["data"]
    rows = plots["reports/rounds.csv"][0]["content"]["data"]["values"]
    assert Counter(row["rev"] for row in rows) == {"HEAD": 20, "workspace": 20}
    run(project, "dvc", "plots", "show")
    assert "Com of every round" in (project / "dvc_plots/index.html").read_text()
    assert "dvc_plots" not in run(project, "git", "status", "--porcelain")
    (line,) = re.findall(r"^dvc (exp show .*?)(?:  +#.*)?$", (ROOT / "docs/use.md").read_text(), flags=re.M)
    table = run(project, "dvc", *shlex.split(line), "--no-pager", COLUMNS="80")
    assert max(map(len, table.splitlines())) <= 80
    assert {"final.trainval_com", "final.test_com", "pnao.naor"} < set(table.split())
    assert "…" not in table

    before = rounds_known(project)
    params = tiny_profile()
    params["pnao"] |= {"naor": 0.5, "rounds": 2}
    write_params(project, params)
    run(project, sys.executable, "pipelines/pnao.py")
    assert rounds_known(project) == before  # fewer rounds are all known


def test_killed_during_pnao_it_goes_on_at_its_round_with_the_same_numbers(project: Path) -> None:
    params = tiny_profile()
    params["pnao"]["alpha"] = 2e-3  # so that round 0 has to be trained, too
    write_params(project, params)
    before = rounds_known(project)
    process = subprocess.Popen(
        ["dvc", "repro", "pnao"], cwd=project, env=environment(project, MER_WORKERS="2"), start_new_session=True
    )
    while len(rounds_known(project) - before) < 2 and process.poll() is None:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    stamps = {key: round_stamp(project, key) for key in rounds_known(project) - before}
    assert 2 <= len(stamps) < 8
    run(project, "dvc", "repro", "pnao")
    assert len(rounds_known(project) - before) == 8
    assert {key: round_stamp(project, key) for key in stamps} == stamps  # not computed again

    resumed = {path: path.read_bytes() for path in (project / "models").glob("*pnao/round-*/*")}
    shutil.rmtree(project / "work/rounds")
    run(project, sys.executable, "pipelines/pnao.py")
    assert len(resumed) == 2 * 4 * 10
    for path, content in resumed.items():
        assert path.read_bytes() == content, path


WITHOUT_TORCH = """
import sys
sys.modules["torch"] = None
import json
from pathlib import Path
import numpy as np, onnxruntime, pandas as pd, pyarrow.parquet as pq
session = onnxruntime.InferenceSession("exported/network.onnx")
facts = {name: json.loads(fact) for name, fact in session.get_modelmeta().custom_metadata_map.items()}
recorded = pd.read_csv(f"models/{facts['system']}/round-{facts['round']:02d}/predictions.csv")
recorded = recorded[recorded["split"] == "test"]
vectors = {}
for name in facts["feature_widths"]:
    (folder,) = Path("data/demo/features").glob(f"[!.]*/{name}")
    rows = pd.concat(pq.read_table(part).to_pandas() for part in folder.glob("part-*.parquet")).set_index("name")
    vectors[name] = np.stack(rows.loc[recorded["name"], "vector"])
posterior, valence, weight = session.run(["posterior", "valence", "weight"], vectors)
apart = [
    np.abs(posterior - recorded[[f"posterior_{label}" for label in facts["labels"]]]).to_numpy().max(),
    np.abs(valence - recorded["valence"]).max(),
    np.abs(weight - recorded[[f"weight_{branch}" for branch in facts["branches"]]]).to_numpy().max(),
]
print(json.dumps([len(recorded), *map(float, apart)]))
"""


def test_an_export_answers_every_test_clip_as_it_is_on_record(project: Path) -> None:
    said = run(project, "mer", "export", "candidate", "--onnx", "exported")
    assert "exported/network.onnx: " in said
    assert "ONNX" in run(project, "mer", "registry", re.findall(r"version (\d+)", run(project, "mer", "registry"))[0])
    clips, *apart = json.loads(run(project, sys.executable, "-c", WITHOUT_TORCH))
    assert clips == TEST_CLIPS
    assert max(apart) < 1e-5
