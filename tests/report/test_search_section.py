"""The report page's section about a search: there when a search of the profile has left something."""

import json
from pathlib import Path

import pandas as pd

from mer_pnao.report.write import write_report

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
TRIAL = {
    "trial": 3,
    "values": {"naor": 0.1, "scorer": "<b>tanh"},
    "com": 0.5123,
    "best_round": 2,
    "parameters": 71_000,
    "parameters_ratio": 0.44,
}
STUDY = {
    "profile": "demo",
    "knobs": ["naor", "scorer"],
    "trials": 12,
    "pruned": 2,
    "hit_rate": 0.58,
    "chosen": TRIAL,
    "own": {**TRIAL, "trial": 0, "com": 0.5},
    "top": [TRIAL],
}


def test_the_section_is_there_for_the_profile_that_was_searched(
    models: Path, truth: pd.DataFrame, skipped: pd.DataFrame, tmp_path: Path
) -> None:
    out = tmp_path / "reports"

    def page() -> str:
        write_report(models, truth, LABELS, skipped, out, 100, 7, "demo")
        return (out / "index.html").read_text()

    plain = page()
    assert 'id="search"' not in plain
    (out / "search").mkdir()
    (out / "search/study.json").write_text(json.dumps(STUDY))
    (out / "search/history.png").write_bytes(b"picture of the history")
    searched = page()
    section = searched[searched.index('<section id="search">') : searched.index('<section id="calibration">')]
    assert 'href="#search"' in searched
    assert "12 trials of naor, scorer" in section
    assert "+0.0123" in section
    assert "58\N{NO-BREAK SPACE}%" in section
    assert "&lt;b&gt;tanh" in section
    assert section.count("<img") == 1
    (out / "search/study.json").write_text(json.dumps({**STUDY, "profile": "ravdess"}))
    assert page() == plain
