"""The linear probe: what the features give without any network. It belongs in every table."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, StandardScaler

from mer_pnao.network.emotion_network import FARTHEST
from mer_pnao.training.examples import Examples


@dataclass(frozen=True)
class LinearProbe:
    """Logistic regression of the emotion and ridge regression of the valence on all sets, concatenated."""

    emotion: Pipeline
    valence: Pipeline | None  # None without any valence
    classes: int

    @property
    def parameters(self) -> int:
        """Coefficients and intercepts."""
        logistic = self.emotion[-1]
        count = logistic.coef_.size + logistic.intercept_.size
        return int(count if self.valence is None else count + self.valence[-1].coef_.size + 1)

    def predict(self, examples: Examples) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """Posteriors (N, C) and valences (N,); the valence is zero when the corpus has none."""
        rows = concatenated(examples)
        posterior = np.zeros((len(rows), self.classes))
        posterior[:, self.emotion[-1].classes_] = self.emotion.predict_proba(rows)
        valence = np.zeros(len(rows)) if self.valence is None else self.valence.predict(rows)
        return posterior, valence


def fit_probe(examples: Examples, c: float, ridge: float) -> LinearProbe:
    """Fit on z-scored features; `c` is the logistic regression's inverse L2 strength, `ridge` the ridge's strength."""
    rows = concatenated(examples)
    logistic = LogisticRegression(C=c, max_iter=2000)
    emotion = make_pipeline(StandardScaler(), _within_reach(), logistic).fit(rows, examples.emotion)
    known = np.isfinite(examples.valence)
    valence = None
    if known.any():
        ridged = make_pipeline(StandardScaler(), _within_reach(), Ridge(alpha=ridge))
        valence = ridged.fit(rows[known], examples.valence[known])
    return LinearProbe(emotion, valence, examples.classes)


def _within_reach() -> FunctionTransformer:
    """As the networks see the z-scored features, see `ZScore`."""
    return FunctionTransformer(np.clip, kw_args={"a_min": -FARTHEST, "a_max": FARTHEST})


def concatenated(examples: Examples) -> NDArray[np.float64]:
    """All sets side by side, (N, sum of widths), in the order of their names."""
    return np.concatenate([examples.features[name] for name in sorted(examples.features)], axis=1, dtype=np.float64)
