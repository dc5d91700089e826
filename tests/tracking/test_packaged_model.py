"""The registered model as MLflow's users meet it, against `RoundModel.decide`."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import mlflow
import numpy as np
import pandas as pd
import pytest
from mlflow.exceptions import MlflowException

from mer_pnao.errors import InputError
from mer_pnao.model_store import Decisions, read_round
from mer_pnao.tracking.store import LOCAL_URI, NAME

CANDIDATE = f"models:/{NAME}@candidate"
IN_ANOTHER_PROCESS = f"""
import json, sys
import mlflow, numpy as np
features = {{name: np.array(rows, dtype=np.float32) for name, rows in json.load(sys.stdin).items()}}
model = mlflow.pyfunc.load_model({CANDIDATE!r})
table = model.predict(features)
import mer_pnao
print(json.dumps([table.to_dict("list"), mer_pnao.__path__[0]]))
"""


def expected_of(root: Path, outs: SimpleNamespace, clips: int) -> tuple[dict[str, np.ndarray], Decisions]:
    features = outs.make_features(clips)
    decisions = read_round(root / "models/enf_pnao/round-01").decide(features)
    return {name: values.numpy() for name, values in features.items()}, decisions


def check(table: pd.DataFrame, decisions: Decisions, labels: tuple[str, ...]) -> None:
    posteriors = [f"posterior_{label}" for label in labels]
    weights = ["weight_sound-1", "weight_sound-2"]
    assert list(table) == ["emotion", *posteriors, "valence", "confidence", *weights]
    assert list(table["emotion"]) == [labels[i] for i in decisions.posterior.argmax(axis=1)]
    np.testing.assert_allclose(table[posteriors], decisions.posterior, atol=1e-6)
    np.testing.assert_allclose(table["valence"], decisions.valence, atol=1e-6)
    np.testing.assert_allclose(table["confidence"], decisions.confidence(), atol=1e-6)
    np.testing.assert_allclose(table[weights], decisions.weights, atol=1e-6)


@pytest.fixture
def loaded(tracked: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.chdir(tracked)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked}/mlruns/mlflow.db")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    return mlflow.pyfunc.load_model(CANDIDATE)


def test_the_candidate_decides_as_the_round_does(tracked: Path, outs: SimpleNamespace, loaded: Any) -> None:
    features, decisions = expected_of(tracked, outs, 5)
    check(loaded.predict(features), decisions, outs.labels)
    columns = pd.DataFrame({name: [row.tolist() for row in rows] for name, rows in features.items()})
    check(loaded.predict(columns), decisions, outs.labels)


def test_signature_and_example_fit(loaded: Any) -> None:
    inputs = loaded.metadata.signature.inputs
    assert {spec.name: spec.shape for spec in inputs} == {
        "sound-1": (-1, 5),
        "sound-2": (-1, 4),
        "face": (-1, 3),
    }
    assert len(loaded.predict(loaded.input_example)) == 1


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features: features.pop("face"), r"missing inputs \['face'\]"),
        (lambda features: features.update(face=np.zeros((2, 9), np.float32)), r"\(2, 9\).*\(-1, 3\)"),
    ],
)
def test_missing_or_wrong_columns_are_named(change: Any, message: str, outs: SimpleNamespace, loaded: Any) -> None:
    features = {name: values.numpy() for name, values in outs.make_features(2).items()}
    change(features)
    with pytest.raises(MlflowException, match=message):
        loaded.predict(features)


def test_a_value_that_is_not_finite_is_named(outs: SimpleNamespace, loaded: Any) -> None:
    features = {name: values.numpy() for name, values in outs.make_features(3).items()}
    features["sound-2"][1, 0] = np.nan
    with pytest.raises(InputError, match="row 1 of the feature set 'sound-2'"):
        loaded.predict(features)


def test_a_moved_checkout_loads_in_a_fresh_process_without_pickle(
    tracked: Path, outs: SimpleNamespace, tmp_path: Path
) -> None:
    away, gone = tmp_path / "elsewhere", tracked.with_name("gone")
    shutil.copytree(tracked, away)
    features, decisions = expected_of(tracked, outs, 3)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": LOCAL_URI,
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    tracked.rename(gone)  # so that nothing can be read from where it was made
    try:
        answer = subprocess.run(
            [sys.executable, "-c", IN_ANOTHER_PROCESS],
            input=json.dumps({name: rows.tolist() for name, rows in features.items()}),
            cwd=away,
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        gone.rename(tracked)
    table, package = json.loads(answer.stdout)
    check(pd.DataFrame(table), decisions, outs.labels)
    assert Path(package).is_relative_to(away / "mlruns")  # the code that the model was packed with


def test_nothing_is_pickled_and_no_place_is_baked_in(tracked: Path) -> None:
    files = [path for path in (tracked / "mlruns/artifacts").rglob("*") if path.is_file()]
    assert {path.suffix for path in files} & {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".bin"} == set()
    for path in files:
        data = path.read_bytes()
        assert not data.startswith((b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05", b"PK\x03\x04")), path
        if path.suffix in {"", ".yaml", ".json", ".txt"}:
            assert str(tracked.parent).encode() not in data, path
