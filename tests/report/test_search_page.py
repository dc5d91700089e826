"""The page of a search, and the report page, which only links to it."""

import re
from pathlib import Path

import pandas as pd
import pytest

from mer_pnao.outs.names import SYSTEMS
from mer_pnao.report import write
from mer_pnao.report.page import Setting
from mer_pnao.report.templates import render
from mer_pnao.report.write import write_report

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
TRIAL = {
    "trial": 3,
    "values": {"naor": 0.1, "rounds": 4, "scorer": "<b>tanh"},
    "com": 0.5123,
    "parameters": 71_000,
    "parameters_ratio": 0.44,
}
STUDY = {
    "study": "demo com 1a2b",
    "profile": "demo",
    "knobs": ["naor", "rounds", "scorer"],
    "trials": 12,
    "pruned": 2,
    "hit_rate": 0.58,
    "chosen": TRIAL,
    "own": {**TRIAL, "trial": 0, "com": 0.5},
    "top": [TRIAL],
}


def test_the_page_holds_the_best_trials_and_the_figures_and_needs_no_other_file() -> None:
    page = render("search", {"study": STUDY, "pictures": {"history": b"picture of the history"}})
    assert "search · profile demo" in page
    assert "12 trials of naor, rounds, scorer" in page
    assert "<td>4</td>" in page
    assert "+0.0123" in page
    assert "58\N{NO-BREAK SPACE}%" in page
    assert "&lt;b&gt;tanh" in page
    assert page.count("chosen</span>") == 1
    assert re.findall(r'<img src="(.{22})', page) == ["data:image/png;base64,"]
    assert not re.search(r"https?://|@import|url\(|<script", page)


def test_without_a_finished_trial_the_page_names_none_as_chosen() -> None:
    page = render("search", {"study": {**STUDY, "chosen": None, "own": None, "top": []}, "pictures": {}})
    assert "chosen" not in page
    assert "<img" not in page


def test_the_report_reads_nothing_of_a_search(
    models: Path, truth: pd.DataFrame, skipped: pd.DataFrame, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "reports"
    pictures = [f"{kind}_{name}" for kind in ("confusion", "rounds", "weights") for name in SYSTEMS]
    # Not drawn, for that takes seconds.
    monkeypatch.setattr(write, "draw_figures", lambda _: dict.fromkeys([*pictures, "reliability"], b"PNG"))

    def page() -> str:
        write_report(models, truth, LABELS, skipped, out, Setting("demo", 100, 7))
        return (out / "index.html").read_text()

    plain = page()
    assert '<a href="search/index.html">' in plain
    (out / "search").mkdir()
    for name in ("study.json", "history.png", "index.html"):
        (out / "search" / name).write_text("of a search")
    assert page() == plain
