"""The decisions of a system, and predictions.csv and branches.csv, which hold them.

Shapes: N clips, M branches, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TextIO

import numpy as np
import pandas as pd

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import BRANCHES, POSTERIOR, TRAINVAL, WEIGHT

_WORDS = ("name", "split", "discrete", "branch")  # columns of text
_NUMBERS = ("confidence", POSTERIOR, WEIGHT)  # how those that need not be asked for begin


@dataclass(frozen=True)
class Decisions:
    """Joint decisions for N clips and the branches', averaged over the fold networks where there are several."""

    posterior: np.ndarray  # (N, C)
    valence: np.ndarray  # (N,)
    weights: np.ndarray  # (N, M) of the branches; (N, 0) where a system has none
    branches: np.ndarray  # (N, M, C) their posteriors

    @property
    def arrays(self) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
        """All four, in the order of the constructor."""
        return self.posterior, self.valence, self.weights, self.branches

    def confidence(self) -> np.ndarray:
        """1 - H / log C of the joint posterior, (N,): 0 for a uniform one, 1 for a certain one."""
        posterior = self.posterior
        logs = np.log(posterior, where=posterior > 0, out=np.zeros_like(posterior))
        entropy: np.ndarray = -(posterior * logs).sum(axis=1)
        # The posteriors are float32: their rounding can carry a quotient past its bounds by 1e-7.
        confidence: np.ndarray = (1 - entropy / np.log(posterior.shape[1])).clip(0, 1)
        return confidence


def joined(parts: Sequence[Decisions]) -> Decisions:
    """Decisions for several sets of clips, as those for all of them."""
    return Decisions(*(np.concatenate(values) for values in zip(*(part.arrays for part in parts), strict=True)))


def predictions_table(
    names: Sequence[str], split: str, decisions: Decisions, labels: Sequence[str], branches: Sequence[str]
) -> pd.DataFrame:
    """One row a clip: name, split, discrete, valence, confidence, posterior_<label>, weight_<branch>."""
    chosen = [labels[i] for i in decisions.posterior.argmax(axis=1)]
    columns: dict[str, Any] = {"name": list(names), "split": split, "discrete": chosen}
    columns |= {"valence": decisions.valence, "confidence": decisions.confidence()}
    columns |= {f"{POSTERIOR}{label}": decisions.posterior[:, i] for i, label in enumerate(labels)}
    columns |= {f"{WEIGHT}{branch}": decisions.weights[:, i] for i, branch in enumerate(branches)}
    return pd.DataFrame(columns)


def branches_table(
    names: Sequence[str], split: str, decisions: Decisions, labels: Sequence[str], branches: Sequence[str]
) -> pd.DataFrame:
    """One row a clip and branch: name, split, branch, posterior_<label>."""
    columns: dict[str, Any] = {"name": [name for name in names for _ in branches], "split": split}
    columns |= {"branch": [branch for _ in names for branch in branches]}
    columns |= {f"{POSTERIOR}{label}": decisions.branches[:, :, i].ravel() for i, label in enumerate(labels)}
    return pd.DataFrame(columns)


@dataclass(frozen=True)
class RecordedPredictions:
    """A predictions.csv, and the branches.csv beside it where there are branches."""

    path: Path
    labels: tuple[str, ...]
    table: pd.DataFrame  # the columns of `predictions_table`
    of_branches: pd.DataFrame | None = None  # the columns of `branches_table`

    @property
    def branches(self) -> list[str]:
        """The branches that were fused."""
        return [str(column).removeprefix(WEIGHT) for column in self.table if str(column).startswith(WEIGHT)]

    def rows(self, split: str, names: Sequence[str]) -> pd.DataFrame:
        """The rows of a split in the order of the names; clips without a prediction are left out.

        Raises InputError when a clip is predicted twice, or is none of the names.
        """
        part = self.table[self.table["split"] == split].set_index("name", drop=False)
        if (twice := part.index.duplicated()).any():
            raise InputError(f"{self.path} predicts the clip {part.index[twice][0]!r} twice in the split {split!r}")
        wanted = pd.Index(names)
        if not (known := part.index.isin(wanted)).all():
            of = "train" if split == TRAINVAL else split
            raise InputError(
                f"{self.path} predicts the clip {part.index[~known][0]!r}, "
                f"which the manifest does not have in its {of!r} split"
            )
        return part.loc[wanted[wanted.isin(part.index)]].reset_index(drop=True)

    def branch_posteriors(self, split: str, names: Sequence[str]) -> np.ndarray:
        """The posteriors (N, M, C) of the branches for clips of a split. Raises InputError when a row is missing."""
        if self.of_branches is None:
            return np.zeros((len(names), 0, len(self.labels)))
        part, posteriors = self.of_branches[self.of_branches["split"] == split], []
        for branch in self.branches:
            rows = part[part["branch"] == branch].set_index("name")
            if rows.index.has_duplicates or not set(names) <= set(rows.index):
                beside, clip = self.path.with_name(BRANCHES), f"{split} clip and the branch {branch!r}"
                raise InputError(f"{beside} must hold one row for each {clip}")
            posteriors.append(self._posteriors(rows.loc[list(names)]))
        return np.stack(posteriors, axis=1)

    def decisions(self, split: str, names: Sequence[str]) -> Decisions:
        """The decisions for all N clips of a split, in the order of the names. Raises InputError when one lacks."""
        rows = self.rows(split, names)
        if missing := sorted(set(names) - set(rows["name"])):
            raise InputError(f"{self.path} holds no prediction for the clip {missing[0]!r} in the split {split!r}")
        return Decisions(
            self._posteriors(rows),
            rows["valence"].to_numpy(float),
            rows[[f"{WEIGHT}{branch}" for branch in self.branches]].to_numpy(float),
            self.branch_posteriors(split, names),
        )

    def _posteriors(self, rows: pd.DataFrame) -> np.ndarray:
        values = rows[[f"{POSTERIOR}{label}" for label in self.labels]].to_numpy(float)
        return np.ascontiguousarray(values)  # NumPy sums the classes of a clip in the order of the memory


def read_predictions(path: Path, labels: Sequence[str]) -> RecordedPredictions:
    """A system's predictions, and its branches' where it has any.

    Raises InputError naming the file when it cannot be read, lacks a column, decides for an unknown emotion or holds a
    posterior that is not finite.
    """
    posteriors = [f"{POSTERIOR}{label}" for label in labels]
    table = read_table(path, ["name", "split", "discrete", "valence", "confidence", *posteriors])
    if not (known := table["discrete"].isin(list(labels))).all():
        raise InputError(f"{path} predicts {table['discrete'][~known].iloc[0]!r}, not one of {', '.join(labels)}")
    _refuse_not_finite(path, table, posteriors)
    predictions = RecordedPredictions(path, tuple(labels), table)
    if not predictions.branches:
        return predictions
    beside = path.with_name(BRANCHES)
    of_branches = read_table(beside, ["name", "split", "branch", *posteriors])
    _refuse_not_finite(beside, of_branches, posteriors)
    return replace(predictions, of_branches=of_branches)


def read_table(file: Path | TextIO, columns: Sequence[str], called: str = "") -> pd.DataFrame:
    """These columns of a CSV, and its posteriors and weights: words as text, everything else as numbers.

    Raises InputError naming the file when it cannot be read or lacks a column.
    """
    called = called or str(file)
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)  # an emotion or a clip may be called NA
        if missing := [column for column in columns if column not in table]:
            raise InputError(f"{called} lacks the column {missing[0]!r}")
        found = set(columns) | {name for name in map(str, table) if name.startswith(_NUMBERS)}
        numbers = [name for name in map(str, table) if name in found.difference(_WORDS)]
        words = [name for name in columns if name in _WORDS]
        return table[words].join(table[numbers].replace("", "nan").astype(float))
    except (OSError, ValueError) as error:
        raise (error if isinstance(error, InputError) else InputError(f"{called} is not readable: {error}")) from error


def _refuse_not_finite(path: Path, table: pd.DataFrame, posteriors: Sequence[str]) -> None:
    finite = np.isfinite(table[list(posteriors)].to_numpy()).all(axis=1)
    if not finite.all():
        clip = table["name"][~finite].iloc[0]
        raise InputError(f"{path} has a posterior that is not finite for the clip {clip!r}")
