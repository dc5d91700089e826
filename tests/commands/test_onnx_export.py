"""The exported file against torch, in a process that has none."""

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from mer_pnao.commands import onnx_export
from mer_pnao.commands.onnx_export import NETWORK, README, export_onnx
from mer_pnao.foundations.errors import InputError
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.networks import RoundModel
from mer_pnao.outs.trained_on import TrainedOn

WIDTHS = {"hubert-18": 7, "hubert-19": 5, "face": 6}
LABELS = ("neutral", "angry", "happy")
RUN = """
import sys
sys.modules["torch"] = None
import numpy as np, onnxruntime
session = onnxruntime.InferenceSession(sys.argv[1])
names = ["posterior", "valence", "weight"]
np.savez(sys.argv[3], **dict(zip(names, session.run(names, dict(np.load(sys.argv[2]))))))
"""


def make_model(fusion: str, gathered: str = "own", pruned: bool = True) -> RoundModel:
    """Two networks, pruned to other nodes each, with the statistics of clips in units of their own."""
    acoustic, visual = ("hubert-18", "hubert-19"), ("face",)
    scorer = "tanh" if gathered == "own" else "mlp"
    config = NetworkConfig(hidden=6, width=4, scorer=scorer)
    blueprint = Blueprint(WIDTHS, acoustic, visual, len(LABELS), fusion, config)
    torch.manual_seed(0)
    networks = []
    for seed in (0, 1):
        dense = EmotionNetwork(blueprint)
        random = torch.Generator().manual_seed(seed)
        kept = {
            name: torch.randperm(len(nodes), generator=random)[: max(1, len(nodes) // 2)].sort().values
            for name, nodes in dense.kept().items()
        }
        network = EmotionNetwork(blueprint, kept if pruned else None)
        network.fit_zscore({name: 3 + 10 * torch.randn(20, width) for name, width in WIDTHS.items()})
        networks.append(network.eval())
    return RoundModel("pnao", 1, blueprint, LABELS, tuple(networks), TrainedOn(20, True, (-1.5, 2.0), {}))


@pytest.mark.parametrize("fusion", ["entropy", "attention", "mean"])
@pytest.mark.parametrize(("scorer", "pruned"), [("own", True), ("own", False), ("all", True)])
def test_it_decides_as_torch_does_for_any_number_of_clips(
    fusion: str, scorer: str, pruned: bool, tmp_path: Path
) -> None:
    model = make_model(fusion, scorer, pruned)
    export_onnx(model, "version 3", tmp_path)
    for clips in (1, 9):
        vectors = {
            name: (3 + 10 * np.random.default_rng(clips).normal(size=(clips, width))).astype(np.float32)
            for name, width in WIDTHS.items()
        }
        np.savez(tmp_path / "in.npz", **vectors)
        command = [sys.executable, "-c", RUN, NETWORK, "in.npz", "out.npz"]
        subprocess.run(command, cwd=tmp_path, check=True)
        wanted = model.decide({name: torch.from_numpy(values) for name, values in vectors.items()})
        found = np.load(tmp_path / "out.npz")
        for name in ("posterior", "valence"):
            np.testing.assert_allclose(found[name], getattr(wanted, name), atol=1e-5, err_msg=name)
        np.testing.assert_allclose(found["weight"], wanted.weights, atol=1e-5)


def test_the_readme_runs_without_torch_and_says_what_to_mind(tmp_path: Path) -> None:
    export_onnx(make_model("entropy"), "version 3", tmp_path)
    text = (tmp_path / README).read_text()
    found = re.search("```python\n(.*?)```", text, re.S)
    assert found
    assert found[1].count("\n") <= 12
    code = "import sys; sys.modules['torch'] = None\n" + found[1]
    said = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True, capture_output=True, text=True).stdout
    assert said.split()[0] in LABELS
    assert "Valence was learnt from -1.50 to +2.00." in text
    assert "**Mind**: the model has learnt from drawn faces" in text


def test_the_file_tells_what_it_is(tmp_path: Path) -> None:
    export_onnx(make_model("entropy"), "version 3", tmp_path)
    written = onnx.load(tmp_path / NETWORK)
    onnx.checker.check_model(written, full_check=True)
    facts = {each.key: json.loads(each.value) for each in written.metadata_props}
    assert facts["version"] == "version 3"
    assert (facts["labels"], facts["feature_widths"]) == (list(LABELS), WIDTHS)
    assert (facts["branches"], facts["valence_range"]) == (["hubert-18", "hubert-19"], [-1.5, 2.0])
    assert [opset.version for opset in written.opset_import if opset.domain == ""] == [17]
    assert {path.name for path in tmp_path.iterdir()} == {NETWORK, README}


def test_a_file_that_decides_otherwise_is_not_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = onnx_export.Ensemble.forward

    def wrong(self, *vectors):
        posterior, valence, weight = right(self, *vectors)
        return posterior, valence + 0.01, weight

    monkeypatch.setattr(onnx_export.Ensemble, "forward", wrong)
    with pytest.raises(InputError, match=r"ONNX Runtime's valence is .* from torch's"):
        export_onnx(make_model("entropy"), "version 3", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_or_in_the_way_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="file cannot be written: "):
        export_onnx(make_model("entropy"), "version 3", tmp_path / "file")
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"install mer-pnao\[onnx\]"):
        export_onnx(make_model("entropy"), "version 3", tmp_path)
