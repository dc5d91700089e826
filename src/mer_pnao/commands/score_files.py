"""`mer score`: the challenge's metric for files of labels and predictions, each `name,discrete` and maybe `valence`."""

from pathlib import Path

import numpy as np
import pandas as pd

from mer_pnao.corpus.manifest import alike, read_label_table, valences
from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed


def score_files(labels: Path, predictions: Path, subset: bool = False) -> tuple[Scores, int]:
    """Dis, Dim and Com of predictions, and the number of clips, whatever the order of the rows.

    With `subset` the labels may be of some of the predicted clips only, which are scored alone, as in a challenge whose
    labels are of some of its candidates.

    Both files have the columns name and discrete, and valence where there is one; other columns are ignored. The labels
    say which clips have a valence (empty and -10 mean none), and only these need a predicted one. Emotions may be any
    words. Raises InputError, in one sentence with file and row, for an unreadable file, a missing column, an empty or
    duplicate name, an empty emotion, a valence that is no number (a label's: in [-5, 5]), and where the two files do
    not name the same clips.
    """
    truth, predicted = _read(labels), _read(predictions)
    _require_same_clips(labels, truth, predictions, predicted, subset)
    valence = valences(truth, labels) if "valence" in truth else pd.Series(np.nan, truth.index)
    estimate = _estimates(predictions, predicted, valence[valence.notna()].index, labels)
    emotion = predicted["discrete"].loc[truth.index]
    return score(truth["discrete"], emotion, valence, estimate.reindex(truth.index)), len(truth)


def _read(path: Path) -> pd.DataFrame:
    """The table, indexed by the clips' names."""
    table = read_label_table(path)
    # The manifest spells names in Unicode's composed form; a list from another system may not.
    table = table.assign(name=table["name"].map(composed))
    seen: set[str] = set()
    for row, (name, emotion) in enumerate(zip(table["name"], table["discrete"], strict=True), start=2):
        if not name:
            raise InputError(f"{path}, row {row}: the clip has no name")
        if name in seen:
            raise InputError(f"{path}, row {row}: clip {name!r} is listed twice")
        if not emotion:
            raise InputError(f"{path}, row {row}: clip {name!r} has no emotion")
        seen.add(name)
    if not seen:
        raise InputError(f"{path} lists no clip")
    return table.set_index("name")


def _require_same_clips(
    labels: Path, truth: pd.DataFrame, predictions: Path, predicted: pd.DataFrame, subset: bool
) -> None:
    missing, unknown = truth.index.difference(predicted.index), predicted.index.difference(truth.index)
    faults = []
    if len(missing):
        hint = alike(unknown)(missing[0])
        faults.append(f"{predictions} has no prediction for {_named(missing)} of {labels}{hint}")
    if len(unknown) and not subset:
        faults.append(f"{predictions} predicts {_named(unknown)}, which {labels} does not list")
    if faults:
        raise InputError(", and ".join(faults))


def _named(clips: "pd.Index[str]") -> str:
    return f"clip {clips[0]!r}" + (f" and {len(clips) - 1} more" if len(clips) > 1 else "")


def _estimates(path: Path, predicted: pd.DataFrame, needed: "pd.Index[str]", labels: Path) -> "pd.Series[float]":
    """The predicted valences of the clips that need one. Nothing bounds them: a regression may leave the scale."""
    if needed.empty:
        return pd.Series(dtype=float)
    if "valence" not in predicted:
        raise InputError(f"{path} has no column 'valence', but {labels} has the valence of {_named(needed)}")
    written = predicted["valence"].loc[needed]
    estimate = pd.to_numeric(written, errors="coerce").astype(float)
    wrong = ~np.isfinite(estimate.to_numpy())
    if wrong.any():
        clip = needed[int(wrong.argmax())]
        row = int((predicted.index == clip).argmax()) + 2
        raise InputError(f"{path}, row {row}: valence {written[clip]!r} of clip {clip!r} is not a number")
    return estimate
