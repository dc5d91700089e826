"""The challenge's metric, and the paper's Table 1 as its oracle."""

import numpy as np
import pytest

from mer_pnao.evaluation.scores import combine, score

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
    assert combine(dis, dim).com == pytest.approx(com, abs=1.01e-4)


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


def test_without_valence_com_is_dis() -> None:
    scores = score([0, 1], [0, 1], [np.nan, np.nan], [0.0, 0.0])
    assert scores.dim is None
    assert scores.com == scores.dis == 1.0


def test_bad_arrays_are_refused() -> None:
    with pytest.raises(ValueError, match="one length"):
        score([0, 1], [0], [0, 0], [0, 0])
    with pytest.raises(ValueError, match="not finite"):
        score([0], [0], [1.0], [np.nan])
