"""What a version was exported to, on record."""

from pathlib import Path
from types import SimpleNamespace

import pytest
from mlflow import MlflowClient

from mer_pnao.tracking.connection import DATABASE, NAME
from mer_pnao.tracking.exports import attach
from mer_pnao.tracking.runs import track


def test_an_export_is_among_the_artifacts_and_on_the_card(
    project: Path, outs: SimpleNamespace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    outs.write_round(project / "models", "enf_pnao", 0, 0.4, best=True)
    track(project)
    file = tmp_path / "network.onnx"
    monkeypatch.chdir(project)
    client = MlflowClient(f"sqlite:///{project / DATABASE}")
    card = client.get_model_version(NAME, "1").description
    for content in ("first", "second"):
        file.write_text(content)
        attach(project, 1, [file])
        version = client.get_model_version(NAME, "1")
        location = Path(client.get_logged_model(version.source.removeprefix("models:/")).artifact_location)
        assert (location / "onnx/network.onnx").read_text() == content
        assert (location / "MLmodel").is_file()
        assert version.description.startswith(card.rstrip())
        assert version.description.count("**ONNX**: `onnx/` among its artifacts") == 1
    track(project)
    assert (location / "onnx/network.onnx").read_text() == "second"
