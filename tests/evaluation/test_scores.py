"""The challenge's metric, and the paper's Table 1 as its oracle."""

import re
from pathlib import Path

import numpy as np
import pytest
from sklearn.metrics import f1_score

from mer_pnao.evaluation.scores import combine, score

PAPER = Path(__file__).parents[3] / "shared/paper.txt"
ROUNDED = 0.5e-4 + 0.5e-4 + 0.25 * 0.5e-4  # what rounding Com, Dis and Dim to four digits can do
TABLE_1 = [  # Dis, Dim, Com on MER-MULTI as printed
    (0.8328, 0.5930, 0.6846),
    (0.8287, 0.6033, 0.6779),
    (0.8350, 0.6258, 0.6786),
    (0.8301, 0.5765, 0.6860),
    (0.8383, 0.5734, 0.6949),
    (0.8530, 0.5563, 0.7139),
]


@pytest.mark.parametrize(("dis", "dim", "com"), TABLE_1)
def test_every_row_of_table_1_satisfies_com(dis: float, dim: float, com: float) -> None:
    assert combine(dis, dim).com == pytest.approx(com, abs=ROUNDED)


@pytest.mark.skipif(not PAPER.is_file(), reason="the paper's text in ../shared is absent")
def test_the_rows_above_are_those_that_the_paper_prints() -> None:
    rows = re.findall(
        r"\t0\.\d{4}\t(0\.\d{4})\t(0\.\d{4})\t(0\.\d{4})$", PAPER.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert [tuple(map(float, row)) for row in rows] == TABLE_1


def test_majority_class_on_test1_is_the_known_floor() -> None:
    counts = [88, 105, 93, 50, 57, 18]
    true = np.repeat(np.arange(6), counts)
    assert score(true, np.zeros(411, int), np.zeros(411), np.zeros(411)).dis == pytest.approx(0.0755, abs=5e-5)


def test_hand_worked() -> None:
    # a: precision 1/2, recall 1/1 -> F1 2/3, weight 1/3; b: precision 1, recall 1/2 -> 2/3, weight 2/3.
    scores = score(["a", "b", "b"], ["a", "a", "b"], [1.0, np.nan, 3.0], [2.0, 99.0, 1.0])
    assert scores.dis == pytest.approx(2 / 3)
    assert scores.dim == pytest.approx((1 + 4) / 2)
    assert scores.com == pytest.approx(2 / 3 - 0.25 * 2.5)


def test_random_decisions_by_hand() -> None:
    """F1 of each class from its counts, averaged by the class's share of the truth; scikit-learn's is the same."""
    draw = np.random.default_rng(0)
    for _ in range(30):
        clips, classes = int(draw.integers(1, 40)), int(draw.integers(1, 6))
        true, pred = draw.integers(classes, size=(2, clips))
        valence, estimate = draw.standard_normal((2, clips))
        valence[draw.random(clips) < 0.3] = np.nan
        dis = 0.0
        for emotion in set(true.tolist()):
            hits = sum(t == p == emotion for t, p in zip(true, pred, strict=True))
            f1 = 2 * hits / (sum(true == emotion) + sum(pred == emotion))
            dis += f1 * sum(true == emotion) / clips
        errors = [(v - e) ** 2 for v, e in zip(valence, estimate, strict=True) if not np.isnan(v)]
        got = score(true, pred, valence, estimate)
        assert got.dis == pytest.approx(dis)
        assert got.dis == pytest.approx(f1_score(true, pred, average="weighted", zero_division=0))
        if errors:
            assert got.dim == pytest.approx(sum(errors) / len(errors))
            assert got.com == pytest.approx(dis - sum(errors) / len(errors) / 4)
        else:
            assert (got.dim, got.com) == (None, got.dis)


def test_without_valence_com_is_dis() -> None:
    scores = score([0, 1], [0, 1], [np.nan, np.nan], [0.0, 0.0])
    assert scores.dim is None
    assert scores.com == scores.dis == 1.0


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        score([0, 1], [0], [0, 0], [0, 0])
    with pytest.raises(ValueError, match="not finite"):
        score([0], [0], [1.0], [np.nan])
