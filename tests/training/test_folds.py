"""Folds: every clip held out once, speakers apart, classes in proportion."""

import numpy as np
import pytest

from mer_pnao.training.folds import learns_valence, make_folds

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


def test_a_class_of_one_speaker_is_refused_by_name() -> None:
    speakers = ["only" if emotion == 2 else who for emotion, who in zip(EMOTION, SPEAKERS, strict=True)]
    with pytest.raises(ValueError, match="the emotion 'sad' has training clips of one speaker only, 'only': the fold"):
        make_folds(EMOTION, speakers, 5, 0, ("calm", "glad", "sad", "mad", "shy", "sly"))
    assert make_folds(EMOTION, None, 5, 0).max() == 4


def test_a_fold_that_would_train_without_a_class_is_refused() -> None:
    """Two of three speakers have the third class; the other one is so much alone that both are held out together."""
    clips = {("a", 0): 10, ("a", 2): 1, ("b", 0): 11, ("b", 1): 9, ("b", 2): 2, ("c", 0): 11, ("c", 1): 4}
    speakers = [who for (who, _), count in clips.items() for _ in range(count)]
    emotion = np.array([label for (_, label), count in clips.items() for _ in range(count)])
    with pytest.raises(ValueError, match="class 2 has training clips of so few speakers that one of the 2 folds would"):
        make_folds(emotion, speakers, 2, 0)


def test_a_speaker_with_nearly_all_clips_is_refused() -> None:
    draw = np.random.default_rng(0)
    emotion = draw.integers(3, size=200)
    speakers = ["loud" if i < 170 else f"s{i % 9}" for i in range(200)]
    with pytest.raises(ValueError, match="170 of the 200 training clips are by the speaker 'loud': the fold"):
        make_folds(emotion, speakers, 5, 0)


def test_valence_is_learnt_where_every_fold_trains_on_some() -> None:
    folds, nothing = np.array([0, 0, 1, 1, 2, 2]), np.full(6, np.nan, np.float32)
    some = nothing.copy()
    assert not learns_valence(nothing, folds)
    some[0] = 1.0
    assert not learns_valence(some, folds)  # the fold that holds the first clips out trains on none
    some[2] = -1.0
    assert learns_valence(some, folds)
