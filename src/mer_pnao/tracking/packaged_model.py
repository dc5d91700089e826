"""The model that MLflow loads and serves: this file is copied into it and run, so nothing is pickled."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc import PythonModel, PythonModelContext

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import predictions_table
from mer_pnao.outs.names import POSTERIOR, WEIGHT
from mer_pnao.outs.networks import read_round


class PackagedModel(PythonModel):  # type: ignore[misc]
    """A round's fold networks, averaged.

    Input: one column a feature set, N vectors of the set's width each.
    Output, N rows: emotion, posterior_<label>, valence, confidence, weight_<branch>.
    """

    def load_context(self, context: PythonModelContext) -> None:
        """Read the networks that were packed beside this file."""
        self.model = read_round(Path(context.artifacts["config"]).parent)

    # MLflow has checked names and widths against the signature; it hands over a mapping of arrays.
    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Decide for N clips. Raises InputError when a vector is not finite."""
        sets = self.model.blueprint.widths
        features = {name: np.array(list(model_input[name]), dtype=np.float32) for name in sets}
        for name, vectors in features.items():
            bad = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
            if len(bad):
                raise InputError(f"row {bad[0]} of the feature set {name!r} holds a value that is not finite")
        decisions = self.model.decide({name: torch.from_numpy(vectors) for name, vectors in features.items()})
        branches = list(self.model.blueprint.branches())
        names = [str(i) for i in range(len(decisions.valence))]
        table = predictions_table(names, "", decisions, self.model.labels, branches)
        return table.rename(columns={"discrete": "emotion"})[output_columns(self.model.labels, branches)]


def output_columns(labels: tuple[str, ...], branches: list[str]) -> list[str]:
    """The columns of a prediction, in order."""
    posteriors = [f"{POSTERIOR}{label}" for label in labels]
    return ["emotion", *posteriors, "valence", "confidence", *(f"{WEIGHT}{branch}" for branch in branches)]


set_model(PackagedModel())
