"""`mer ui`: the MLflow UI over a project, as a process and in a browser."""

import json
import os
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from unittest.mock import Mock

import pytest
import requests
from mlflow import MlflowClient

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import DATABASE, NAME
from mer_pnao.tracking.ui import serve_ui
from mer_pnao.tracking.views import BY_ROUND, VIEWS

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
SERVE = "import sys, pathlib; from mer_pnao.tracking import ui; ui.serve_ui(pathlib.Path(), int(sys.argv[1]))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answers(address: str) -> bool:
    try:
        return requests.get(address, timeout=30).ok
    except requests.RequestException:
        return False


@contextmanager
def serving(root: Path, **environment: str) -> Iterator[tuple["subprocess.Popen[str]", str]]:
    """`mer ui` over the project; yields the process and the server's address once it answers."""
    port = free_port()
    command = [sys.executable, "-c", SERVE, str(port)]
    with subprocess.Popen(
        command, cwd=root, env=os.environ | environment, stderr=subprocess.PIPE, text=True, start_new_session=True
    ) as server:
        address = f"http://127.0.0.1:{port}"
        try:
            while not answers(f"{address}/health"):
                assert server.poll() is None
                time.sleep(0.1)
            yield server, address
        finally:
            if server.poll() is None:
                server.send_signal(signal.SIGINT)
            server.communicate(timeout=120)


def test_the_ui_says_why_it_cannot_start(tmp_path: Path, empty: Path) -> None:
    with pytest.raises(InputError, match=r"mlruns/mlflow\.db is not there: run `make run` or `mer track` first"):
        serve_ui(tmp_path)
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        with pytest.raises(InputError, match=f"127.0.0.1 port {port} cannot be used: Address already in use"):
            serve_ui(empty, port)


def test_the_ui_does_not_serve_the_own_database_for_another(empty: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    serve = Mock(side_effect=SystemExit)
    monkeypatch.setattr("mer_pnao.tracking.ui._serve", serve)
    monkeypatch.chdir(empty)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://tracking.example:5000")
    with pytest.raises(InputError, match=r"MLFLOW_TRACKING_URI is http://tracking\.example:5000, which has a UI"):
        serve_ui(empty, 0)
    serve.assert_not_called()
    for own in (f"sqlite:///{DATABASE}", f"sqlite:///{empty / DATABASE}"):
        monkeypatch.setenv("MLFLOW_TRACKING_URI", own)
        with pytest.raises(SystemExit):
            serve_ui(empty, 0)


def test_the_ui_says_what_is_wrong_with_a_database(empty: Path, tmp_path: Path) -> None:
    root = Path(shutil.copytree(empty, tmp_path / "project"))
    with closing(sqlite3.connect(root / DATABASE)) as connection, connection:
        connection.execute("UPDATE alembic_version SET version_num = 'of another MLflow'")
    with pytest.raises(InputError, match=r" cannot be used: its schema of another MLflow is of a newer MLflow than"):
        serve_ui(root, free_port())


def processes_of(session: int) -> list[int]:
    """The live processes of a session, by Linux's /proc."""
    found = []
    for stat in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, own = stat.read_text().rpartition(")")[2].split()[:4]
        except OSError:  # it has just ended
            continue
        if int(own) == session and state != "Z":
            found.append(int(stat.parent.name))
    return found


@pytest.mark.slow
@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_the_ui_serves_runs_and_artifacts_until_it_is_stopped(stop: signal.Signals, tracked: Path) -> None:
    started = time.monotonic()
    with serving(tracked) as (server, address):
        assert time.monotonic() - started < 40  # four on an idle machine, see docs/performance.md
        client = MlflowClient(address)
        (run,) = client.search_runs(["1"], "tags.system = 'pnao' AND tags.round = '1'")
        query = {"path": "record.json", "run_uuid": run.info.run_id}
        assert requests.get(f"{address}/get-artifact", query, timeout=120).json()["system"] == "pnao"
        foreign = requests.get(f"{address}/ajax-api/2.0/mlflow/experiments/get?experiment_id=1",
                               headers={"Host": "evil.example"}, timeout=120)  # fmt: skip
        assert foreign.status_code == 403
        if Path("/proc/self").exists():
            assert processes_of(server.pid) == [server.pid]
        server.send_signal(stop)
        _, said = server.communicate(timeout=120)
    assert said.startswith("starting MLflow, which takes some seconds; Ctrl-C ends it\n")
    assert f"MLflow answers now: {address}/{VIEWS[0].address('1')}\n" in said
    assert "Traceback" not in said
    assert processes_of(server.pid) == []
    assert not answers(f"{address}/health")


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="Chromium is not installed")
def test_a_browser_shows_systems_rounds_and_versions(tracked: Path, tmp_path: Path) -> None:
    with serving(tracked) as (_, address):
        picture_pages(address, tmp_path)


def top_of(locator: Any) -> float:
    """Where something begins on the page, in pixels."""
    box = locator.bounding_box()
    assert box is not None
    return float(box["y"])


def picture_pages(address: str, pictures: Path) -> None:
    """Open the pages that people compare rounds on, and picture each."""
    from playwright.sync_api import expect, sync_playwright

    client = MlflowClient(address)
    every = client.search_runs(["1"], "tags.round LIKE '%'")
    of_enf_pnao = [run for run in every if run.data.tags["system"] == "enf_pnao"]
    of_enf_pnao.sort(key=lambda run: int(run.data.tags["round"]))
    rounds = of_enf_pnao[-2:]
    names = [run.info.run_name for run in rounds]
    options = "--no-sandbox --disable-gpu --disable-quic --no-first-run --disable-background-networking"
    more = "--disable-component-update --disable-sync"
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=f"{options} {more}".split())
        page = browser.new_page(viewport={"width": 1600, "height": 1000})
        page.set_default_timeout(120_000)
        expect.set_options(timeout=120_000)
        try:
            systems, against_size, over_rounds = (f"{address}/{view.address('1')}" for view in VIEWS)
            page.goto(systems)
            for system in ("linear_probe", "baseline", "pnao naor 0.05", "enf_pnao naor 0.05", "final"):
                expect(page.get_by_role("link", name=system, exact=True).first).to_be_visible()
            for column in ("trainval_com", "test_com", "parameters_ratio"):
                expect(page.get_by_role("columnheader", name=column).first).to_be_visible()
            expect(page.get_by_role("link", name=names[0])).to_have_count(0)
            expect(page.get_by_text("Demo, drawn faces.").first).to_be_visible()
            expect(page.get_by_role("link", name="Com against size")).to_be_visible()  # in the description
            page.screenshot(path=pictures / "systems.png")

            page.goto(against_size)
            expected = [[run.data.metrics[name] for name in ("parameters_ratio", "trainval_com")] for run in every]
            plot = page.locator(".js-plotly-plot").first
            expect(plot.locator(".scatterlayer path.point")).to_have_count(len(every))
            drawn = plot.evaluate("plot => plot.data.flatMap(part => part.x.map((x, i) => [x, part.y[i]]))")
            assert sorted(drawn) == sorted(expected)
            page.screenshot(path=pictures / "rounds.png")

            page.goto(over_rounds)
            both = page.get_by_text(" vs ".join(BY_ROUND[name] for name in ("trainval_com", "test_com"))).first
            expect(both).to_be_visible()
            generated = page.get_by_text("by_round", exact=True).first
            expect(generated).to_be_attached()
            assert top_of(both) < top_of(generated)  # the view's own chart is the first
            lines = [
                ",".join(repr(run.data.metrics[name]) for run in of_enf_pnao) for name in ("trainval_com", "test_com")
            ]
            drawn = "plot => (plot.data || []).map(line => String(Array.from(line.y || [])))"
            holds = f"plots => plots.some(plot => {json.dumps(lines)}.every(line => ({drawn})(plot).includes(line)))"
            page.wait_for_function(f"() => ({holds})([...document.querySelectorAll('.js-plotly-plot')])")
            page.screenshot(path=pictures / "over_rounds.png")

            (parent,) = client.search_runs(["1"], "tags.system = 'enf_pnao' AND tags.round IS NULL")
            page.goto(
                f"{address}/#/experiments/1/runs/{parent.info.run_id}/model-metrics?workflowType=machine_learning"
            )
            com, kept = (page.get_by_text(name).first for name in ("by_round/com_trainval", "kept_nodes"))
            expect(com).to_be_visible()
            expect(kept).to_be_attached()
            assert top_of(com) < top_of(kept)
            page.screenshot(path=pictures / "parent.png")

            ids = json.dumps([run.info.run_id for run in rounds])
            page.goto(f'{address}/#/compare-runs?runs={ids}&experiments=["1"]&workflowType=machine_learning')
            expect(page.get_by_text("Comparing 2 Runs from 1 Experiment")).to_be_visible()
            naor = page.get_by_role("row").filter(has=page.get_by_text("pnao.naor", exact=True)).first
            expect(naor).to_contain_text("0.05")
            page.get_by_role("tab", name="Scatter Plot").click()
            for axis, metric in (("x-axis-selector", "parameters_ratio"), ("y-axis-selector", "trainval_com")):
                page.locator(f"#{axis}").click()
                page.get_by_role("option", name=metric, exact=True).click()
            plot = page.locator(".js-plotly-plot")
            expect(plot.locator(".xtitle, .ytitle")).to_have_text(["parameters_ratio", "trainval_com"])
            drawn = plot.evaluate("plot => plot.data[0].x.map((x, i) => [x, plot.data[0].y[i]])")
            expected = [[run.data.metrics[name] for name in ("parameters_ratio", "trainval_com")] for run in rounds]
            assert sorted(drawn) == sorted(expected)
            page.screenshot(path=pictures / "compared.png")

            page.goto(f"{address}/#/models/{NAME}")
            expect(page.get_by_text("candidate").first).to_be_visible()
            expect(page.get_by_text("Promote by mer promote").first).to_be_visible()
            page.screenshot(path=pictures / "model.png")
            page.goto(f"{address}/#/models/{NAME}/versions/1")
            expect(page.get_by_text("PNAO, round 0, not pruned: Train&Val Com 0.300").first).to_be_visible()
            page.screenshot(path=pictures / "version.png")
        finally:
            browser.close()
