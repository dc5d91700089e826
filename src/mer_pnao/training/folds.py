"""Cross-validation folds: stratified by emotion, grouped by speaker when the speakers are known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray


def make_folds(emotion: NDArray[np.int64], speakers: Sequence[str] | None, count: int, seed: int) -> NDArray[np.int64]:
    """Give each of N clips the number of the fold that holds it out: (N,) -> (N,) in 0..count-1.

    Raises ValueError when there are fewer speakers than folds, or a class has fewer clips than folds.
    """
    # Not at the top: half of the start of those stages and commands that only read data.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if count < 2:
        raise ValueError(f"folds must be at least 2, got {count}")
    classes, clips = np.unique(emotion, return_counts=True)
    if clips.min() < count:
        few = clips.argmin()
        raise ValueError(f"class {classes[few]} has {clips[few]} training clips, fewer than the {count} folds")
    if speakers is not None and len(set(speakers)) < count:
        raise ValueError(f"{len(set(speakers))} speakers cannot be kept apart in {count} folds")
    rows = np.zeros(len(emotion))
    splitter = StratifiedKFold if speakers is None else StratifiedGroupKFold
    folds = np.empty(len(emotion), dtype=np.int64)
    for fold, (_, held_out) in enumerate(
        splitter(count, shuffle=True, random_state=seed).split(rows, emotion, groups=speakers)
    ):
        folds[held_out] = fold
    return folds
