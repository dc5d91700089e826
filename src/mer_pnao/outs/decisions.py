"""The decisions of a system, and predictions.csv and branches.csv, which hold them.

Shapes: N clips, M branches, C classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import BRANCHES, POSTERIOR, WEIGHT


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


def read_predictions(path: Path, labels: Sequence[str]) -> tuple[pd.DataFrame, Decisions]:
    """A predictions.csv and its decisions, with the branches' of the branches.csv beside it, in the file's order.

    Raises InputError when the two files do not fit each other.
    """
    text = {"name": str, "split": str, "discrete": str, "branch": str}
    table = pd.read_csv(path, dtype=text, keep_default_na=False)  # a clip may be called NA
    posteriors = [f"{POSTERIOR}{label}" for label in labels]
    branches = [str(column).removeprefix(WEIGHT) for column in table if str(column).startswith(WEIGHT)]
    weights = table[[f"{WEIGHT}{branch}" for branch in branches]].to_numpy(float)
    of_branches = np.zeros((len(table), 0, len(labels)))
    if branches:
        beside = path.with_name(BRANCHES)
        try:
            rows = pd.read_csv(beside, dtype=text, keep_default_na=False)
        except OSError as error:
            raise InputError(f"{beside} cannot be read: {error.strerror}") from error
        keys = ["name", "split"]
        expected = table.loc[table.index.repeat(len(branches)), keys].assign(branch=branches * len(table))
        if rows[[*keys, "branch"]].to_numpy().tolist() != expected.to_numpy().tolist():
            raise InputError(f"{beside} must hold a row for each clip of {path.name} and branch, in their order")
        of_branches = rows[posteriors].to_numpy(float).reshape(len(table), len(branches), len(labels))
    joint = table[posteriors].to_numpy(float)
    return table, Decisions(joint, table["valence"].to_numpy(float), weights, of_branches)
