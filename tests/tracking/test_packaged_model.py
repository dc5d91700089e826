"""The registered model as MLflow's users meet it, against `RoundModel.decide`."""

import json
import os
import pickle
import pickletools
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
import torch
from mlflow.exceptions import MlflowException
from safetensors.torch import save_file

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import Decisions
from mer_pnao.outs.networks import read_round
from mer_pnao.tracking.connection import DATABASE, NAME, Store
from mer_pnao.tracking.promotion.aliases import Change, change_champion

CANDIDATE, CHAMPION = f"models:/{NAME}@candidate", f"models:/{NAME}@champion"
IN_ANOTHER_PROCESS = f"""
import json, sys
import mlflow, numpy as np
features = {{name: np.array(rows, dtype=np.float32) for name, rows in json.load(sys.stdin).items()}}
model = mlflow.pyfunc.load_model({CHAMPION!r})
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
    client = mlflow.MlflowClient(f"sqlite:///{away / DATABASE}")
    candidate = client.get_model_version_by_alias(NAME, "candidate").version
    change_champion(Store(client, "1"), Change("promotion", int(candidate), None, None, "now"))
    features, decisions = expected_of(tracked, outs, 3)
    environment = os.environ | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{DATABASE}",
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


def pickles_in(folder: Path) -> list[str]:
    """Files that are or hold a pickle, by their bytes or, where an empty one has none, by their names."""
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        named = path.suffix in {".pkl", ".pickle", ".joblib", ".pt", ".pth", ".ckpt", ".dill", ".npy", ".npz"}
        data = path.read_bytes()
        # Protocols 2 to 5 begin with their number and end with a full stop; a zip archive may be one of torch.save's.
        pickled = data[:1] == b"\x80" and data[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05") and data.endswith(b".")
        zipped = data.startswith(b"PK\x03\x04")
        numpy_objects = data.startswith(b"\x93NUMPY")
        if named or pickled or zipped or numpy_objects or opcodes_of_protocol_0(data):
            found.append(str(path.relative_to(folder)))
    return found


def opcodes_of_protocol_0(data: bytes) -> bool:
    """Whether pickletools reads the bytes to their end; protocols 0 and 1 have no header."""
    if not data.endswith(b".") or len(data) < 2:
        return False
    try:
        for opcode, _, position in pickletools.genops(data):
            if opcode.name == "STOP":
                return position == len(data) - 1
    except Exception:  # whatever the parser stumbles over
        return False
    return False


def test_the_search_for_pickles_finds_them(tmp_path: Path) -> None:
    for protocol in range(6):
        (tmp_path / f"protocol-{protocol}").write_bytes(pickle.dumps({"a": [1, "b"]}, protocol))
    torch.save({"a": torch.ones(2)}, tmp_path / "weights.bin")
    torch.save({"a": 1}, tmp_path / "old.bin", _use_new_zipfile_serialization=False)
    (tmp_path / "objects.dat").write_bytes(b"\x93NUMPY\x01\x00")
    (tmp_path / "model.pkl").touch()
    (tmp_path / "text.md").write_text("A sentence.")
    (tmp_path / "record.json").write_text("{}\n")
    save_file({"a": torch.ones(2)}, tmp_path / "weights.safetensors")
    expected = {"weights.bin", "old.bin", "objects.dat", "model.pkl", *(f"protocol-{i}" for i in range(6))}
    assert set(pickles_in(tmp_path)) == expected


def test_nothing_is_pickled_and_no_place_is_baked_in(tracked: Path) -> None:
    for folder in (tracked / "mlruns/artifacts", tracked / "models"):
        assert list(folder.rglob("*.safetensors"))
        assert pickles_in(folder) == []
    for path in (tracked / "mlruns/artifacts").rglob("*"):
        if path.is_file() and path.suffix in {"", ".yaml", ".json", ".txt"}:
            assert str(tracked.parent).encode() not in path.read_bytes(), path


def test_every_version_loads_without_pickle_and_decides_as_its_round(
    tracked: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tracked)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tracked}/mlruns/mlflow.db")
    monkeypatch.setenv("MLFLOW_ALLOW_PICKLE_DESERIALIZATION", "false")
    versions = mlflow.MlflowClient().search_model_versions(f"name = '{NAME}'")
    assert len(versions) == 5
    features = outs.make_features(4)
    for version in versions:
        model = mlflow.pyfunc.load_model(f"models:/{NAME}/{version.version}")
        directory = tracked / "models" / version.tags["system"] / f"round-{int(version.tags['round']):02d}"
        table = model.predict({name: values.numpy() for name, values in features.items()})
        check(table, read_round(directory).decide(features), outs.labels)
