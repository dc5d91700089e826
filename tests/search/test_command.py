"""`mer search` as a whole: kills, Ctrl-C, resuming, applying."""

import os
import random
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import pandas as pd
import psutil
import pytest
from optuna import Study

from mer_pnao.params.profile import load_params
from mer_pnao.search.reading import read_record
from mer_pnao.search.storage import open_storage
from mer_pnao.search.study import find_or_create, finished_trials
from mer_pnao.search.trial import COM, load_task

MER = [sys.executable, "-m", "mer_pnao.cli"]


Mer = Callable[..., tuple[int, str, str]]


def start(*arguments: str) -> subprocess.Popen[str]:
    """A process group of its own, as a terminal makes one."""
    return subprocess.Popen(
        [*MER, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True
    )


def kill_and_interrupt(search: subprocess.Popen[str], study: Study) -> None:
    """Kill two of its workers while they are at work, then press Ctrl-C."""
    chance = random.Random(1)
    deadline = time.monotonic() + 120
    killed: set[int] = set()
    while len(killed) < 2:
        busy = {trial.user_attrs.get("worker") for trial in study.trials if trial.state.name == "RUNNING"}
        with suppress(psutil.NoSuchProcess):  # gone meanwhile
            workers = [each for each in psutil.Process(search.pid).children() if each.status() != psutil.STATUS_ZOMBIE]
            if len(workers) == 2 and busy:
                victim = chance.choice(workers)
                victim.kill()
                killed.add(victim.pid)
        assert time.monotonic() < deadline
        assert search.poll() is None
        time.sleep(chance.uniform(0, 0.1))
    os.killpg(search.pid, signal.SIGINT)
    out, err = search.communicate(timeout=60)
    assert search.returncode == 130, err
    assert "`mer search --resume` goes on" in out
    assert "Traceback" not in err


def at_work(project: Path) -> list[psutil.Process]:
    """Every process in the project but this one, whoever its parent is now."""
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):  # gone meanwhile, or not ours to look at
            if process.pid != os.getpid() and process.cwd() == str(project):
                found.append(process)
    return found


@pytest.mark.slow
def test_a_search_is_killed_interrupted_resumed_and_applied(project: Path, mer: Mer) -> None:
    params_file = project / "params.yaml"
    params_file.write_text(re.sub(r"(?m)^    points: \d$", "    points: 30", params_file.read_text()))
    assert load_params().search.points == 900
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, load_task(load_params(), (COM,)))
    with start("search", "--trials", "300", "--workers", "2", "--resume") as first:
        try:
            kill_and_interrupt(first, study)
        finally:
            first.kill()  # whose end its workers see
    assert not [trial for trial in study.trials if trial.state.name == "RUNNING"], "all was given back"
    assert not at_work(project)

    trials = str(finished_trials(study) + 4)
    code, _, err = mer("search", "--trials", trials)
    assert code == 2
    assert re.search(rf"error: the study tiny-com-\w+ has \d+ of {trials} trials: `mer search --resume` goes on", err)

    code, _, err = mer("search", "--trials", trials, "--workers", "2", "--resume")
    assert code == 0, err
    record = read_record(study, load_task(load_params(), (COM,)))
    assert len(record.trials) == int(trials)
    assert (project / "reports/search/history.png").is_file()
    before = (project / "params.yaml").read_text()
    code, _, err = mer("search", "apply")
    assert (code, err) == (0, "")
    chosen = record.chosen
    assert chosen is not None
    params = load_params()
    assert (params.pnao.naor, params.pnao.alpha, params.pnao.rounds) == tuple(chosen.values.values())
    after = (project / "params.yaml").read_text().splitlines()
    assert sum(one != other for one, other in zip(before.splitlines(), after, strict=True)) <= 3


@pytest.mark.slow
def test_a_space_smaller_than_the_budget_is_tried_whole_and_no_more(project: Path, mer: Mer) -> None:
    for workers in ("2", "1"):  # the second time there is nothing left to do
        code, out, err = mer("search", "--trials", "40", "--workers", workers)
        assert code == 0, err
        assert "Its space holds 6 distinct trainings, and the search ends with them." in out
        table = pd.read_csv(project / "reports/search/trials.csv")
        points = sorted(zip(table["naor"], table["alpha"], strict=True))
        assert points == [(naor, alpha) for naor in (0.2, 0.4, 0.8) for alpha in (0.001, 0.004)]
    chosen = table[table["chosen"]].iloc[0]
    assert mer("search", "apply")[0] == 0
    assert load_params().pnao.rounds == chosen["rounds"]


def test_wrong_use_is_one_sentence(project: Path, mer: Mer) -> None:
    for arguments, sentence in (
        (["search", "apply"], "best_params.yaml is not there"),
        (["search", "--storage", "sqlite:///x"], "the storage must be a postgresql"),
        (["dashboard"], "mlruns/optuna.journal is not there: run `mer search`"),
        (["search", "--trials", "0"], "--trials"),
        (["search", "--objectives", "speed"], "--objectives"),
    ):
        code, _, err = mer(*arguments)
        assert code == 2, arguments
        assert sentence in err
        assert "Traceback" not in err
