"""Folds: every clip held out once, speakers apart, classes in proportion."""

import numpy as np
import pytest

from mer_pnao.training.folds import make_folds

RNG = np.random.default_rng(0)
EMOTION = np.repeat(np.arange(6), 60)
SPEAKERS = [f"s{i % 19}" for i in RNG.permutation(len(EMOTION))]


def test_no_speaker_is_in_two_folds() -> None:
    folds = make_folds(EMOTION, SPEAKERS, 5, 0)
    for speaker in set(SPEAKERS):
        assert len({folds[i] for i, of in enumerate(SPEAKERS) if of == speaker}) == 1


@pytest.mark.parametrize("speakers", [None, SPEAKERS])
def test_every_fold_has_its_share_of_clips_and_classes(speakers: list[str] | None) -> None:
    folds = make_folds(EMOTION, speakers, 5, 0)
    counts = np.array([[np.sum((folds == fold) & (emotion == EMOTION)) for emotion in range(6)] for fold in range(5)])
    assert counts.sum() == len(EMOTION)
    assert counts.min() >= (12 if speakers is None else 4)
    assert abs(counts.sum(1) - len(EMOTION) / 5).max() <= (1 if speakers is None else 25)


def test_seeded() -> None:
    assert np.array_equal(make_folds(EMOTION, None, 5, 1), make_folds(EMOTION, None, 5, 1))
    assert not np.array_equal(make_folds(EMOTION, None, 5, 1), make_folds(EMOTION, None, 5, 2))


def test_impossible_folds_are_refused() -> None:
    with pytest.raises(ValueError, match="2 speakers cannot be kept apart in 5 folds"):
        make_folds(EMOTION, ["a", "b"] * 180, 5, 0)
    with pytest.raises(ValueError, match="class 1 has 3 training clips, fewer than the 5 folds"):
        make_folds(np.array([0] * 10 + [1] * 3), None, 5, 0)
