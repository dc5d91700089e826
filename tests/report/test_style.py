"""Emotions in scripts that no font here may have: no figure shows boxes, and none warns."""

from pathlib import Path

import matplotlib.image
import pandas as pd
import pytest
from matplotlib.figure import Figure

from mer_pnao.commands.corpus_check import CorpusReport
from mer_pnao.commands.corpus_figure import draw_report
from mer_pnao.report import style
from mer_pnao.report.style import as_png, drawable

NAMES = ["高兴", "悲伤", "愤怒"]
# Comes with matplotlib, and has a sign for every script: what an installed CJK font is here.
EVERY = "Last Resort High-Efficiency"


@pytest.fixture
def fonts(monkeypatch: pytest.MonkeyPatch):
    def only(*families: str) -> None:
        monkeypatch.setattr(style, "_FAMILIES", families)
        style._families.cache_clear()

    yield only
    monkeypatch.undo()
    style._families.cache_clear()


def test_names_are_numbered_where_no_font_has_their_signs(fonts) -> None:
    fonts("DejaVu Sans", "No Such Font")
    assert drawable(NAMES) == ["1", "2", "3"]
    assert drawable(["happy", "高兴"]) == ["1", "2"]
    assert drawable(["fröhlich", "χαρά", "радость"]) == ["fröhlich", "χαρά", "радость"]
    fonts("DejaVu Sans", EVERY)
    assert drawable(NAMES) == NAMES


@pytest.mark.parametrize("families", [("DejaVu Sans",), ("DejaVu Sans", EVERY)])
def test_a_figure_with_them_warns_of_nothing(fonts, families: tuple[str, ...], tmp_path: Path) -> None:
    fonts(*families)
    clips = pd.DataFrame({"discrete": NAMES, "split": "train", "seconds": [1.0, 2.0, 3.0]})
    draw_report(CorpusReport(clips, tuple(NAMES), {}, (), ()), tmp_path / "check.png")
    assert matplotlib.image.imread(tmp_path / "check.png").shape[:2] == (700, 1800)


def test_a_font_more_changes_nothing_that_the_first_one_has(fonts) -> None:
    @as_png
    def titled() -> Figure:
        figure = Figure(figsize=(3, 1))
        figure.suptitle("Com ↑ of happy, 0.95")
        return figure

    fonts("DejaVu Sans")
    alone = titled()
    fonts("DejaVu Sans", EVERY)
    assert titled() == alone
