"""Changed code, a further seed and the controls on a tiny profile, after a first run."""

import re
import shutil
import subprocess
import time
from pathlib import Path

import pandas as pd
import pytest
from tiny_project import (
    SYSTEMS,
    environment,
    round_stamp,
    rounds_known,
    run,
    stages_run,
    tiny_profile,
    write_params,
)

pytestmark = pytest.mark.slow


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
        until = time.monotonic() + 20  # to ask DVC costs seconds of a core; git knows when the experiment is there
        while "/first\n" not in run(project, "git", "for-each-ref", "refs/exps") and time.monotonic() < until:
            time.sleep(0.2)
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
