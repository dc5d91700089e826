"""A drawn split: reproducible, stratified, and with no speaker on both sides."""

from collections import Counter

import numpy as np
import pandas as pd
import pytest

from mer_pnao.corpus.readers.splits import with_splits
from mer_pnao.foundations.errors import InputError


def clips(count: int, speakers: int = 0) -> pd.DataFrame:
    rng = np.random.default_rng(1)
    return pd.DataFrame(
        {
            "name": [f"c{i:03d}" for i in range(count)],
            "discrete": rng.choice(["a", "b", "c"], count, p=[0.6, 0.3, 0.1]),
            "speaker": [f"s{i % speakers}" if speakers else "" for i in range(count)],
            "split": "",
        }
    )


@pytest.mark.parametrize("speakers", [0, 20])
def test_a_draw_is_seeded_stratified_and_free_of_the_order(speakers: int) -> None:
    table = clips(400, speakers)
    drawn = with_splits(table, 0.25, (), 3)
    test = drawn[drawn["split"] == "test"]
    assert set(drawn["split"]) == {"train", "test"}
    assert 80 <= len(test) <= 120
    whole, part = Counter(table["discrete"]), Counter(test["discrete"])
    for label in "abc":
        assert part[label] / len(test) == pytest.approx(whole[label] / 400, abs=0.06 if speakers else 0.01)
    assert not set(test["speaker"]) & set(drawn[drawn["split"] == "train"]["speaker"]) - {""}
    shuffled = with_splits(table.sample(frac=1, random_state=5), 0.25, (), 3).sort_index()
    pd.testing.assert_frame_equal(drawn, shuffled)
    assert with_splits(table, 0.25, (), 4)["split"].tolist() != drawn["split"].tolist()


def test_what_the_labels_say_stays() -> None:
    table = clips(4).assign(split=["test", "", "noise", "train"])
    assert with_splits(table, 0.5, (), 0)["split"].tolist() == ["test", "train", "noise", "train"]
    table = clips(100).assign(split=["noise"] * 10 + [""] * 90)
    drawn = with_splits(table, 0.2, (), 0)["split"]
    assert drawn[:10].tolist() == ["noise"] * 10
    assert 16 <= (drawn == "test").sum() <= 20


def test_named_speakers_are_held_out() -> None:
    drawn = with_splits(clips(40, 10), 0.2, ("s3", "s7"), 0)
    assert set(drawn.loc[drawn["split"] == "test", "speaker"]) == {"s3", "s7"}
    assert (drawn["split"] == "test").sum() == 8
    with pytest.raises(InputError, match="names 's99'; the speakers are s0, s1"):
        with_splits(clips(40, 10), 0.2, ("s99",), 0)
    with pytest.raises(InputError, match="but the labels say themselves what is test"):
        with_splits(clips(40, 10).assign(split="test"), 0.2, ("s3",), 0)


def test_one_speaker_cannot_be_divided_and_two_can() -> None:
    with pytest.raises(InputError, match="one speaker, 's0', cannot be divided"):
        with_splits(clips(40, 1), 0.2, (), 0)
    drawn = with_splits(clips(40, 2), 0.2, (), 0)
    assert drawn.groupby("split")["speaker"].nunique().to_dict() == {"test": 1, "train": 1}


@pytest.mark.parametrize("share", [0.1, 0.2, 0.4, 0.5])
def test_the_share_is_kept_with_whole_speakers(share: float) -> None:
    drawn = with_splits(clips(400, 40), share, (), 0)
    assert (drawn["split"] == "test").mean() == pytest.approx(share, abs=0.03)


def test_what_leaves_no_test_clip_says_why() -> None:
    with pytest.raises(InputError, match=r"test_share 0\.2 leaves no test clip, with so few clips of each emotion"):
        with_splits(clips(4), 0.2, (), 0)
    with pytest.raises(InputError, match="no clip is in the split 'test', and the labels leave none to be drawn"):
        with_splits(clips(40, 10).assign(split="train"), 0.2, ("s3",), 0)
