"""The schedule as a pure function."""

import math
from itertools import pairwise

import pytest

from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.fit import constant_floor, warm_cosine
from mer_pnao.training.schedule import learning_rate


def test_it_rises_linearly_to_the_peak_and_falls_to_the_floor() -> None:
    rates = [learning_rate(step, 100, 0.01, 0.1, 0.02) for step in range(100)]
    assert rates[:10] == pytest.approx([0.01 * (i + 1) / 11 for i in range(10)])
    assert rates[10] == pytest.approx(0.01)
    assert rates[-1] == pytest.approx(0.01 * 0.02)
    assert all(a > b for a, b in pairwise(rates[10:]))


def test_the_cosine_is_half_way_in_the_middle() -> None:
    assert learning_rate(50, 101, 1.0, 0.0, 0.0) == pytest.approx(0.5)
    assert learning_rate(25, 101, 1.0, 0.0, 0.0) == pytest.approx((1 + math.cos(math.pi / 4)) / 2)


def test_beyond_the_end_and_with_one_step() -> None:
    assert learning_rate(500, 100, 1.0, 0.1, 0.1) == pytest.approx(0.1)
    assert learning_rate(0, 1, 1.0, 0.0, 0.1) == pytest.approx(1.0)


def test_rewinding_is_calling_it_from_zero_and_no_rewind_is_its_end() -> None:
    config = TrainingConfig(learning_rate=0.02, warmup=0.1, floor=0.05)
    first = [warm_cosine(step, 60, config) for step in range(60)]
    assert [warm_cosine(step, 60, config) for step in range(60)] == first
    assert constant_floor(0, 60, config) == pytest.approx(first[-1])
