"""`mlflow models serve`, which every MLflow user knows, on the registered model: features in, decisions out."""

import json
import os
import signal
import socket
import subprocess
import time
from contextlib import closing

import numpy as np
import pytest
import requests

from mer_pnao.features.sets import load_sets
from mer_pnao.tracking.connection import DATABASE

KIND = {"Content-Type": "application/json"}
SETS = ["hubert-18", "hubert-20", "manet"]


def free_port() -> int:
    with closing(socket.create_server(("127.0.0.1", 0))) as taken:
        return taken.getsockname()[1]


@pytest.fixture(scope="module")
def invocations(registered, environment, tmp_path_factory):
    """The address, of `mlflow models serve -m models:/mer-pnao@champion --env-manager local`."""
    port, log = free_port(), tmp_path_factory.mktemp("mlflow") / "log"
    command = ["mlflow", "models", "serve", "-m", "models:/mer-pnao@champion", "--env-manager", "local"]
    command += ["--host", "127.0.0.1", "--port", str(port)]
    environment = environment | {
        "MLFLOW_TRACKING_URI": f"sqlite:///{DATABASE}",
        "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    }
    with log.open("w") as file:
        process = subprocess.Popen(
            command, cwd=registered, env=environment, stdout=file, stderr=file, start_new_session=True
        )
    try:
        while True:
            assert process.poll() is None, log.read_text()
            try:
                if requests.get(f"http://127.0.0.1:{port}/ping", timeout=30).ok:
                    break
            except requests.RequestException:
                time.sleep(0.1)
        yield f"http://127.0.0.1:{port}/invocations"
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        process.wait(120)


@pytest.mark.slow
def test_features_get_decisions_and_anything_else_a_sentence(registered, invocations, recorded):
    loaded = load_sets(registered / "data/features", SETS)
    inputs = {name: part.vectors.tolist() for name, part in loaded.items()}
    answer = requests.post(invocations, json={"inputs": inputs}, timeout=120)
    assert answer.status_code == 200, answer.text
    rows = recorded(registered / "models/enf_pnao/round-00")
    for name, found in zip(loaded["manet"].names, answer.json()["predictions"], strict=True):
        wanted = {"emotion": rows[name]["discrete"], **rows[name]}
        assert found["emotion"] == wanted["emotion"]
        for column in set(found) - {"emotion"}:
            np.testing.assert_allclose(found[column], wanted[column], atol=1e-5)

    narrow = {**inputs, "manet": [row[:5] for row in inputs["manet"]]}
    missing = {name: rows for name, rows in inputs.items() if name != "manet"}
    for wrong, said in ((narrow, r"(5, 5)"), (missing, "missing inputs ['manet']"), ({"manet": "x"}, "Invalid input")):
        answer = requests.post(invocations, json={"inputs": wrong}, timeout=120)
        assert answer.status_code == 400
        assert said in json.loads(answer.text)["message"]
    not_finite = {**inputs, "manet": [[float("nan")] * 128] * 5}
    answer = requests.post(invocations, data=json.dumps({"inputs": not_finite}), timeout=120, headers=KIND)
    assert answer.status_code == 400
    assert "the feature set 'manet' holds a value that is not finite" in answer.text
