"""Train and test for a corpus whose labels do not say which clip belongs where."""

import warnings
from collections.abc import Sequence
from itertools import islice

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from mer_pnao.corpus.manifest import speakers_of
from mer_pnao.foundations.errors import InputError

CANDIDATES = "candidates"  # the further split of clips that a challenge wants predicted and has not labelled yet
_PARTS = 10  # that speakers are dealt to; the test share is a tenth of the clips, or several


def with_splits(table: pd.DataFrame, test_share: float, test_speakers: Sequence[str], seed: int) -> pd.DataFrame:
    """The table with a split for each clip; what the table says already stays.

    Where some clip is in the split test, the clips without one are train. Otherwise they are divided: the named test
    speakers are test, or, with no name, about `test_share` of the clips, with whole speakers on one side where speakers
    are known, and the emotions in like shares on both. The same clips and seed give the same split in any order.

    Raises InputError for a test speaker that no clip has or where the labels say test already, for labels that name
    other splits only, for known speakers of whom fewer than two are there to be divided, and for too few clips.
    """
    if "test" in set(table["split"]):
        if test_speakers:
            raise InputError(
                f"corpus.test_speakers names {test_speakers[0]!r}, but the labels say themselves what is test"
            )
        return table.assign(split=table["split"].where(table["split"] != "", "train"))
    free = table[table["split"] == ""].sort_values("name")
    if free.empty:
        raise InputError(
            "no clip is in the split 'test', and the labels leave none to be drawn: each has another split"
        )
    for speaker in test_speakers:
        if speaker not in set(free["speaker"]):
            known = ", ".join(sorted(set(free["speaker"]) - {""})) or "unknown"
            raise InputError(f"corpus.test_speakers names {speaker!r}; the speakers are {known}")
    if test_speakers:
        test = free["speaker"].isin(test_speakers).to_numpy()
    elif free["speaker"].any():
        test = _by_speaker(free, test_share, seed)
    else:
        test = _by_clip(free, test_share, seed)
    drawn = pd.Series(np.where(test, "test", "train"), index=free.index, dtype=str)
    return table.assign(split=table["split"].where(table["split"] != "", drawn.reindex(table.index, fill_value="")))


def _by_speaker(clips: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    # Not at the top: it takes longer to import than a corpus to be read, and most corpora need no division.
    from sklearn.model_selection import StratifiedGroupKFold

    groups = speakers_of(clips) or ()
    if len(set(groups)) < 2:
        raise InputError(f"one speaker, {groups[0]!r}, cannot be divided into train and test; leave the column empty")
    parts = min(_PARTS, len(set(groups)))
    taken = max(1, round(share * parts))
    with warnings.catch_warnings():  # that a class has fewer clips than parts: it is on one side then
        warnings.simplefilter("ignore", UserWarning)
        splitter = StratifiedGroupKFold(parts, shuffle=True, random_state=seed)
        divided = splitter.split(np.zeros(len(clips)), clips["discrete"].to_numpy(str), groups)
        held_out = np.concatenate([part for _, part in islice(divided, taken)])
    return np.isin(np.arange(len(clips)), held_out)


def _by_clip(clips: pd.DataFrame, share: float, seed: int) -> NDArray[np.bool_]:
    random, emotion = np.random.default_rng(seed), clips["discrete"].to_numpy(str)
    test = np.zeros(len(clips), dtype=bool)
    for label in np.unique(emotion):
        rows = random.permutation(np.flatnonzero(emotion == label))
        test[rows[: round(share * len(rows))]] = True
    if not test.any():
        raise InputError(f"corpus.test_share {share:g} leaves no test clip, with so few clips of each emotion")
    return test
