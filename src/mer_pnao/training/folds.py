"""Cross-validation folds: stratified by emotion, grouped by speaker when the speakers are known."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

UNLEARNT = "not every fold trains on clips with a valence, so valence is not learnt, and there is no Dim"


def make_folds(
    emotion: NDArray[np.int64], speakers: Sequence[str] | None, count: int, seed: int, names: Sequence[str] = ()
) -> NDArray[np.int64]:
    """Give each of N clips the number of the fold that holds it out: (N,) -> (N,) in 0..count-1.

    Takes class indices, each clip's speaker, and the classes' names for what is refused. Raises ValueError when there
    are fewer speakers than folds, a class has fewer clips than folds or one speaker only, or a fold would train without
    a class or, because of a speaker with most of the clips, on less than half of its share.
    """
    # Not at the top: half of the start of those stages and commands that only read data.
    from sklearn.model_selection import StratifiedGroupKFold, StratifiedKFold

    if count < 2:
        raise ValueError(f"folds must be at least 2, got {count}")

    def called(label: int) -> str:
        return f"the emotion {names[label]!r}" if names else f"class {label}"

    classes, clips = np.unique(emotion, return_counts=True)
    if clips.min() < count:
        few = clips.argmin()
        raise ValueError(f"{called(classes[few])} has {clips[few]} training clips, fewer than the {count} folds")
    if speakers is not None:
        if len(set(speakers)) < count:
            raise ValueError(f"{len(set(speakers))} speakers cannot be kept apart in {count} folds")
        for label in classes:
            if len(of := np.unique(np.asarray(speakers)[emotion == label])) == 1:
                alone = f"{called(label)} has training clips of one speaker only, {str(of[0])!r}"
                raise ValueError(f"{alone}: the fold that holds them out would not know it")
    rows = np.zeros(len(emotion))
    splitter = StratifiedKFold if speakers is None else StratifiedGroupKFold
    folds = np.empty(len(emotion), dtype=np.int64)
    for fold, (_, held_out) in enumerate(
        splitter(count, shuffle=True, random_state=seed).split(rows, emotion, groups=speakers)
    ):
        folds[held_out] = fold
    for fold in range(count):
        held_out = folds == fold
        if lacking := set(classes.tolist()) - set(emotion[~held_out].tolist()):
            raise ValueError(
                f"{called(min(lacking))} has training clips of so few speakers that one of the {count} folds would "
                "train without it: have more speakers, fewer folds or another seed"
            )
        if np.mean(~held_out) < 0.5 * (1 - 1 / count):
            whose = np.unique(np.asarray(speakers)[held_out], return_counts=True)
            raise ValueError(
                f"{whose[1].max()} of the {len(emotion)} training clips are by the speaker "
                f"{str(whose[0][whose[1].argmax()])!r}: the fold that holds them out would train on the few others"
            )
    return folds


def learns_valence(valence: NDArray[np.float32], folds: NDArray[np.int64]) -> bool:
    """Whether each fold trains on some clip with a valence: (N,), NaN where a clip has none, and the folds (N,)."""
    return all(np.isfinite(valence[folds != fold]).any() for fold in np.unique(folds))
