"""The whole pipeline on a tiny profile, as a user runs it: dvc repro, changes, kills, push and pull, the registry."""

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
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from ruamel.yaml import YAML

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parents[1]
BIN = Path(sys.executable).parent
TRAIN_CLIPS, TEST_CLIPS = 48, 12
SYSTEMS = ["linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final"]


def tiny_profile() -> dict[str, dict[str, object]]:
    params = YAML(typ="safe", pure=True).load((ROOT / "profiles/demo.yaml").read_text())
    params["synthetic"] |= {"train_clips": TRAIN_CLIPS, "test_clips": TEST_CLIPS, "speakers": 8, "test_speakers": 2}
    for encoder in params["encoders"].values():
        encoder["frames"] = 2
    params["folds"] = 2
    params["network"] |= {"hidden": 16, "width": 8}
    params["training"] |= {"epochs": 3, "patience": 3}
    params["pnao"] |= {"naor": 0.6, "rounds": 3}
    params["controls"] |= {"rounds": [1, 2]}
    params["evaluation"] |= {"resamples": 100}
    return params  # type: ignore[no-any-return]


def write_params(project: Path, params: object) -> None:
    (project / "params.yaml").write_text(json.dumps(params, indent=1))


def environment(project: Path, **settings: str) -> dict[str, str]:
    """The package is the project's, as after `make env`; MLflow is told nothing, and one process trains, for speed."""
    own = {"PATH": f"{BIN}:{os.environ['PATH']}", "PYTHONPATH": str(project / "src")}
    return os.environ | own | {"MER_TRACKING": "off", "MER_WORKERS": "1"} | settings


def run(project: Path, *command: str, expect: int = 0, **settings: str) -> str:
    done = subprocess.run(
        command, cwd=project, env=environment(project, **settings), text=True, capture_output=True, check=False
    )
    assert done.returncode == expect, f"{command}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
    return done.stdout + done.stderr


def stages_run(said: str) -> list[str]:
    return [line.split("'")[1] for line in said.splitlines() if line.startswith("Running stage")]


def first_json(said: str) -> Any:
    return json.JSONDecoder().raw_decode(said.lstrip())[0]


def commit(project: Path) -> None:
    run(project, "git", "add", "-A")
    run(project, "git", "-c", "user.name=t", "-c", "user.email=t@example.org", "commit", "-qm", "state")


def checkout(target: Path) -> Path:
    """The project's present files in a repository of their own."""
    listed = subprocess.check_output(["git", "ls-files", "-co", "--exclude-standard", "-z"], cwd=ROOT, text=True)
    for name in filter(None, listed.split("\0")):
        if (ROOT / name).is_file() and name != "dvc.lock":
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, target / name)
    write_params(target, tiny_profile())
    run(target, "git", "init", "-q")
    commit(target)
    return target


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project after its first `dvc repro`, tracked; tests change copies of it."""
    project = checkout(tmp_path_factory.mktemp("finished") / "project")
    run(project, "mer", "init")
    run(project, "dvc", "repro", MER_TRACKING="on")
    commit(project)
    return project


@pytest.fixture
def project(finished: Path, tmp_path: Path) -> Iterator[Path]:
    shutil.copytree(finished, tmp_path / "project", symlinks=True)
    yield tmp_path / "project"
    shutil.rmtree(tmp_path / "project")


def rounds_known(project: Path) -> set[str]:
    return {path.name for path in (project / "work/rounds").glob("[0-9a-f]*")}


def round_stamp(project: Path, key: str) -> int:
    return (project / "work/rounds" / key / "folds.json").stat().st_mtime_ns


def test_the_first_run_leaves_every_product(finished: Path) -> None:
    table = pd.read_csv(finished / "reports/table.csv")
    assert table["system"].tolist() == SYSTEMS
    assert table[["trainval_com", "dis", "dim", "com", "com_low", "com_high", "parameters"]].notna().all().all()
    assert (table["com"] - (table["dis"] - 0.25 * table["dim"])).abs().max() < 2e-6
    rounds = pd.read_csv(finished / "reports/rounds.csv")
    assert len(rounds) == 2 * (1 + 1 + 4 + 4)
    shrinking = rounds[(rounds["system"] == "enf_pnao") & (rounds["split"] == "test")]["parameters"].tolist()
    assert shrinking == sorted(shrinking, reverse=True)
    assert shrinking[-1] < shrinking[0]
    for name in ("index.html", "metrics.json", "systems.json", "skipped_clips.csv", "figures/confusion_final.png"):
        assert (finished / "reports" / name).stat().st_size > 20
    for system in SYSTEMS:
        assert len(pd.read_csv(finished / f"reports/predictions/{system}.csv")) == TEST_CLIPS
    assert "Com = Dis" in run(finished, "mer", "table")
    assert run(finished, "git", "status", "--porcelain") == ""


def test_nothing_changed_runs_nothing(finished: Path) -> None:
    said = run(finished, "dvc", "repro")
    assert "Running stage" not in said
    assert "up to date" in said
    assert run(finished, "dvc", "status", "dvc.yaml") == "Data and pipelines are up to date.\n"


def test_what_mer_extract_computes_for_the_profile_is_what_the_stage_takes(finished: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in (finished / "work/features").glob("*/part-*")}
    assert before
    said = run(finished, "mer", "extract", "--encoder", "manet")  # finds the shards that the stage has made
    assert "manet: all shards are there; `dvc repro` takes them from work/" in " ".join(said.split())
    assert {path: path.stat().st_mtime_ns for path in (finished / "work/features").glob("*/part-*")} == before


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
    run(project, "dvc", "exp", "run", "-S", "pnao.rounds=2", "pnao")
    assert rounds_known(project) == before  # fewer rounds are all known


def test_a_further_seed_is_trained_beside_the_first_which_is_not_trained_again(project: Path) -> None:
    before = {key: round_stamp(project, key) for key in rounds_known(project)}
    of_record = {path: path.read_bytes() for path in (project / "models").glob("*/round-*/*")}
    assert of_record
    params = tiny_profile()
    params["seeds"] = [0, 5]
    write_params(project, params)
    run(project, "dvc", "repro")
    assert {key: round_stamp(project, key) for key in before} == before
    assert len(rounds_known(project)) == 2 * len(before)
    for path, content in of_record.items():
        assert path.read_bytes() == content, path
    for system in SYSTEMS[1:]:
        assert (project / "models" / system / "seed-5").is_dir()
    table = pd.read_csv(project / "reports/table.csv").set_index("system")
    assert table["seeds"].tolist()[1:] == [2] * 5
    assert table["com_std"].notna().tolist() == [False] + [True] * 5
    assert "Mean ± sample standard deviation" in run(project, "mer", "table")


def changed(path: Path, before: str, after: str) -> None:
    text = path.read_text()
    assert text.count(before) == 1
    path.write_text(text.replace(before, after))


def exchanged(project: Path, words: str, weights: str) -> None:
    """Other words in the report's template, and other weights in place of equation 6's in the network."""
    run(project, "git", "checkout", "-q", "src")
    changed(project / "src/mer_pnao/report/frame.html.jinja", "mer-pnao ·", f"{words} ·")
    changed(
        project / "src/mer_pnao/network/fusion.py", "return (others @ shares)", f"return {weights}(others @ shares)"
    )


def made_by(project: Path) -> tuple[str, set[float]]:
    """The words of the report's template, and the weights of EnF's branches."""
    words = re.search(r'"eyebrow">(\w+) ·', (project / "reports/index.html").read_text())
    assert words
    table = pd.read_csv(project / "models/enf/round-00/predictions.csv").filter(like="weight_")
    return words[1], set(table.to_numpy().ravel().round(6))


def test_an_experiment_runs_its_own_code_whatever_the_workspace_holds_meanwhile(project: Path) -> None:
    exchanged(project, "queued", "1 / branches + 0 * ")
    run(project, "dvc", "exp", "run", "--queue", "--name", "first")
    exchanged(project, "edited", "1 * ")
    run(project, "dvc", "queue", "start", MER_WORKERS="2")
    while "Running" in (said := run(project, "dvc", "queue", "status")) or "Queued" in said:
        time.sleep(3)  # asking costs seconds of a core
    assert "Success" in said, run(project, "dvc", "queue", "logs", "first")
    run(project, "dvc", "exp", "apply", "first")
    assert made_by(project) == ("queued", {0.333333})
    run(project, "dvc", "repro")  # from the run cache, in the workspace
    assert made_by(project) == ("queued", {0.333333})

    template = project / "src/mer_pnao/report/frame.html.jinja"
    changed(template, "queued ·", "temporary ·")
    with subprocess.Popen(
        ["dvc", "exp", "run", "--temp", "--name", "second"], cwd=project, env=environment(project), text=True,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
    ) as process:  # fmt: skip
        assert process.stdout is not None
        for line in process.stdout:
            if line.startswith("Running stage"):  # its copy is made
                changed(template, "temporary ·", "edited ·")
        assert process.wait() == 0
    changed(template, "edited ·", "temporary ·")
    assert stages_run(run(project, "dvc", "repro")) == []
    assert made_by(project) == ("temporary", {0.333333})


def test_push_and_pull_bring_the_products_to_another_clone(project: Path, tmp_path: Path) -> None:
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

    run(clone, "mer", "track")
    versions = first_json(run(clone, "mer", "registry", "--json"))
    assert len(versions) == 2 * 4
    (candidate,) = (version for version in versions if version["aliases"] == ["candidate"])
    recorded = pd.read_csv(clone / f"models/{candidate['system']}/round-{candidate['round']:02d}/predictions.csv")
    of_clip = recorded[recorded["split"] == "test"].iloc[0]
    clip = f"data/demo/clips/{of_clip['name']}.mp4"
    answer = first_json(run(clone, "mer", "predict", clip, "--model", "candidate", "--json"))
    assert answer["emotion"] == of_clip["discrete"]
    assert answer["valence"] == pytest.approx(of_clip["valence"], abs=1e-5)
    for emotion, posterior in answer["posteriors"].items():
        assert posterior == pytest.approx(of_clip[f"posterior_{emotion}"], abs=1e-5)


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
    run(project, "dvc", "repro", "--force", "--single-item", "pnao")
    assert len(resumed) == 2 * 4 * 9
    for path, content in resumed.items():
        assert path.read_bytes() == content, path


def test_controls_run_by_name_and_leave_the_default_run_alone(project: Path) -> None:
    assert not (project / "reports/controls.csv").exists()
    shutil.rmtree(project / "data/demo/features/resnet")
    said = run(project, "dvc", "repro", "pipelines/controls/dvc.yaml:controls")
    assert stages_run(said) == ["pipelines/controls/dvc.yaml:controls"]  # what was missing came from the cache
    table = pd.read_csv(project / "reports/controls.csv")
    assert (table["profile"] == "demo").all()
    assert table.groupby("round")["method"].nunique().to_dict() == {1: 9, 2: 9}
    assert table.groupby("round")["epochs"].unique().map(list).to_dict() == {1: [6], 2: [9]}
    assert (project / "reports/controls.png").stat().st_size > 10_000
    assert "GroupNormPruner" in said
    assert "Running stage" not in run(project, "dvc", "repro")
    assert "Running stage" not in run(project, "dvc", "repro", "pipelines/controls/dvc.yaml:controls")
    assert (project / "reports/table.csv").is_file()


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
