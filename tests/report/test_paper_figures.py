"""Figures 2-4 of the paper: what they draw is what the records and predictions say, counted by hand."""

import json
from pathlib import Path

import matplotlib.figure
import numpy as np
import pandas as pd
import pytest
from matplotlib.axes import Axes

from mer_pnao.report import figures
from mer_pnao.report.evidence import Evidence, read_evidence

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[list[Axes]]:
    """The axes of every figure that is drawn, instead of its picture."""
    axes: list[list[Axes]] = []
    monkeypatch.setattr(matplotlib.figure.Figure, "savefig", lambda figure, *_, **__: axes.append(figure.axes))
    return axes


@pytest.fixture
def evidence(models: Path, truth: pd.DataFrame) -> Evidence:
    return read_evidence(models, truth, LABELS)


def test_figure_2_counts_the_best_rounds_test_decisions(
    evidence: Evidence, models: Path, truth: pd.DataFrame, drawn: list[list[Axes]]
) -> None:
    """Entropy fusion and the former attention side by side: true emotions down, decisions across, shares of a row."""
    true = dict(zip(truth["name"], truth["discrete"], strict=True))
    for system, path in (("baseline", "baseline/round-00"), ("enf", "enf/round-00"), ("enf_pnao", "enf_pnao/round-01")):
        figures.confusion(evidence, evidence.systems[system])
        (axes,) = drawn[-1]
        table = pd.read_csv(models / path / "predictions.csv")
        counts = np.zeros((6, 6))
        for name, split, decision in zip(table["name"], table["split"], table["discrete"], strict=True):
            counts[LABELS.index(true[name]), LABELS.index(decision)] += split == "test"
        shares = counts / counts.sum(axis=1, keepdims=True)
        assert counts.sum() == (truth["split"] == "test").sum()
        np.testing.assert_allclose(axes.images[0].get_array(), shares)
        said = {(round(text.get_position()[1]), text.get_position()[0]): [] for text in axes.texts}
        for text in axes.texts:
            said[round(text.get_position()[1]), text.get_position()[0]].append(text.get_text())
        for (row, column), count in np.ndenumerate(counts):
            want = [f"{count:.0f}", f"{100 * shares[row, column]:.0f} %"] if count else ["0"]
            assert said[row, column] == want
        assert [label.get_text() for label in axes.get_yticklabels()] == LABELS
        assert [label.get_text() for label in axes.get_xticklabels()] == LABELS
        assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")


def test_figure_3_draws_every_rounds_scores_and_parameters(
    evidence: Evidence, models: Path, drawn: list[list[Axes]]
) -> None:
    figures.rounds(evidence.systems["enf_pnao"], has_valence=True)
    records = [json.loads(path.read_text()) for path in sorted((models / "enf_pnao").glob("round-*/record.json"))]
    panels = {axes.get_title(loc="left") or axes.get_title(): axes for axes in drawn[-1]}
    titles = {"com": "Com ↑", "dis": "Dis ↑", "dim": "Dim ↓"}
    for metric, title in titles.items():
        lines = {line.get_label(): line for line in panels[title].lines}
        for label, split in (("Train&Val (out-of-fold)", "trainval"), ("test", "test")):
            assert lines[label].get_xdata().tolist() == [0, 1, 2]
            assert list(lines[label].get_ydata()) == pytest.approx([r["scores"][split][metric] for r in records])
    bars = panels["Parameters, % of the dense network"].patches
    heights = {round(bar.get_x() + bar.get_width() / 2): bar.get_height() for bar in bars if bar.get_width() < 0.65}
    assert heights == pytest.approx({r["round"]: 100 * r["parameters_ratio"] for r in records})


def test_figure_4_draws_every_rounds_weights(evidence: Evidence, models: Path, drawn: list[list[Axes]]) -> None:
    figures.weights(evidence.systems["pnao"])
    (axes,) = drawn[-1]
    lines = {line.get_label(): line for line in axes.lines}
    assert list(lines) == ["round 0", "round 1 (best)", "round 2"]
    for number, line in enumerate(lines.values()):
        table = pd.read_csv(models / f"pnao/round-{number:02d}/weights.csv")
        np.testing.assert_allclose(line.get_xdata(), table["bin_left"] + 0.005, atol=1e-9)
        np.testing.assert_allclose(line.get_ydata(), 100 * table["share"])
