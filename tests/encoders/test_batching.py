from hypothesis import given
from hypothesis import strategies as st

from mer_pnao.encoders.batching import by_length, spans


@given(st.integers(1, 5000), st.integers(0, 700))
def test_stretches_follow_each_other_and_are_as_few_and_as_even_as_can_be(frames, window):
    cuts = spans(frames, window)
    assert [first for first, _ in cuts] == [0, *(end for _, end in cuts[:-1])]
    assert cuts[-1][1] == frames
    lengths = [end - first for first, end in cuts]
    assert max(lengths) - min(lengths) <= 1
    if window:
        assert max(lengths) <= window
        assert (len(cuts) - 1) * window < frames  # one fewer would not do
    else:
        assert len(cuts) == 1


@given(st.lists(st.integers(1, 100)), st.integers(1, 300))
def test_groups_hold_everything_once_within_the_budget_and_by_length(lengths, most):
    groups = by_length(lengths, most)
    assert sorted(position for group in groups for position in group) == list(range(len(lengths)))
    for group in groups:
        assert len(group) == 1 or len(group) * max(lengths[i] for i in group) <= most
    falling = [lengths[i] for group in groups for i in group]
    assert falling == sorted(lengths, reverse=True)


def test_without_a_budget_everything_goes_together_as_it_came():
    assert by_length([3, 9, 1], 0) == [[0, 1, 2]]
    assert by_length([], 0) == by_length([], 5) == []


def test_groups_are_as_full_as_the_budget_lets():
    assert by_length([2, 8, 2, 8, 2, 5], 16) == [[1, 3], [5, 0, 2], [4]]
