import os
import sys

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from mer_pnao.encoders.checkpoints import load_state_dict, load_strictly
from mer_pnao.encoders.hubert import HubertLayers
from mer_pnao.encoders.manet import MANet, load_manet
from mer_pnao.encoders.model_folder import checkpoint_digest
from mer_pnao.encoders.resnet import load_resnet
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest

STATE = {"weight": torch.arange(6.0).reshape(2, 3), "bias": torch.ones(2)}


def same(left: dict[str, torch.Tensor], right: dict[str, torch.Tensor]) -> bool:
    return left.keys() == right.keys() and all(torch.equal(left[key], right[key]) for key in left)


def test_a_safetensors_file_is_read(tmp_path):
    save_file(STATE, tmp_path / "net.safetensors")
    assert same(load_state_dict(tmp_path / "net.safetensors"), STATE)


@pytest.mark.parametrize("suffix", [".pth", ".pt", ".bin"])
@pytest.mark.parametrize("legacy", [False, True])  # of torch before 1.6
def test_a_bare_state_dict_is_read(tmp_path, suffix, legacy):
    path = tmp_path / f"net{suffix}"
    torch.save(STATE, path, _use_new_zipfile_serialization=not legacy)
    assert same(load_state_dict(path), STATE)


def test_the_authors_training_checkpoint_is_read_past_its_pickled_record(tmp_path, monkeypatch):
    class RecorderMeter:
        """The authors' class, which lived in their script."""

        def __init__(self) -> None:
            self.total_epoch = 100
            self.epoch_losses = np.zeros((100, 2), dtype=np.float32)
            self.best = np.float64(88.33)

    RecorderMeter.__module__, RecorderMeter.__qualname__ = "__main__", "RecorderMeter"
    monkeypatch.setattr(sys.modules["__main__"], "RecorderMeter", RecorderMeter, raising=False)
    optimizer = torch.optim.SGD([nn.Parameter(STATE["weight"].clone())], lr=0.1, momentum=0.9)
    checkpoint = {
        "epoch": 7,
        "state_dict": {f"module.{key}": tensor for key, tensor in STATE.items()},
        "best_acc": torch.tensor(88.33),
        "optimizer": optimizer.state_dict(),
        "recorder": RecorderMeter(),
    }
    torch.save(checkpoint, tmp_path / "net.pth")
    monkeypatch.delattr(sys.modules["__main__"], "RecorderMeter")

    assert same(load_state_dict(tmp_path / "net.pth"), STATE)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def test_a_foreign_pickled_object_is_refused_by_name_and_never_run(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    torch.save({"state_dict": STATE, "recorder": Evil()}, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth holds the foreign pickled object posix\.mkdir"):
        load_state_dict(tmp_path / "net.pth")
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("net.pth", b"", "not a readable checkpoint"),
        ("net.pth", b"not a checkpoint", "not a checkpoint"),
        ("net.safetensors", b"", "not a readable safetensors"),
        ("net.safetensors", b"\x10" * 64, "not a readable safetensors"),
        ("net.pkl", b"x", r"must end in .*'\.pkl'"),
    ],
)
def test_what_is_no_checkpoint_is_refused(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message) as refusal:
        load_state_dict(tmp_path / name)
    assert name in str(refusal.value)


def test_a_truncated_checkpoint_is_refused(tmp_path):
    for name, write in (("net.pth", torch.save), ("net.safetensors", save_file)):
        write(STATE, tmp_path / name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: len(content) - 20])
        with pytest.raises(InputError, match="not a"):
            load_state_dict(tmp_path / name)


def test_an_absent_checkpoint_is_refused(tmp_path):
    with pytest.raises(InputError, match="no such checkpoint"):
        load_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize("content", [[1, 2], {"epoch": 3}, {}, {"weight": "text"}])
def test_a_file_without_tensors_is_refused(tmp_path, content):
    torch.save(content, tmp_path / "net.pth")
    with pytest.raises(InputError, match=r"net\.pth"):
        load_state_dict(tmp_path / "net.pth")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda state: state.pop("bias"), "the key bias is missing"),
        (lambda state: state.update(extra=torch.zeros(1)), "the key extra is unexpected"),
        (lambda state: state.update(bias=torch.zeros(5)), r"bias has the shape \(5,\) and not \(2,\)"),
    ],
)
def test_a_misfit_is_refused_by_its_first_key(tmp_path, change, message):
    state = dict(STATE)
    change(state)
    with pytest.raises(InputError, match=rf"net\.pth does not fit: .*{message}"):
        load_strictly(lambda: nn.Linear(3, 2), state, tmp_path / "net.pth")


def test_a_fitting_state_is_loaded_for_evaluation(tmp_path):
    network = load_strictly(lambda: nn.Linear(3, 2), STATE, tmp_path / "net.pth")
    assert torch.equal(network(torch.ones(3)), STATE["weight"].sum(dim=1) + 1)
    assert not network.training
    assert not any(parameter.requires_grad for parameter in network.parameters())


def test_a_checkpoint_of_another_network_is_refused(demo):
    with pytest.raises(InputError, match=r"the key conv1\.weight is missing"):
        load_manet(demo / "resnet.safetensors")
    with pytest.raises(InputError, match=r"the key conv1_7x7_s2\.weight is missing"):
        load_resnet(demo / "manet.safetensors")
    with pytest.raises(InputError, match="folder with config"):
        HubertLayers(demo, [1])


def test_a_width_that_no_network_has_is_refused(tmp_path):
    state = MANet(4).state_dict() | {"conv1.weight": torch.zeros(6, 3, 7, 7)}
    save_file(state, tmp_path / "net.safetensors")
    with pytest.raises(InputError, match="multiple of 4, not 6"):
        load_manet(tmp_path / "net.safetensors")


def test_a_digest_tells_contents_and_names_apart(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "hubert"}')
    (folder / "pytorch_model.bin").write_bytes(b"1")
    assert digest(folder / "pytorch_model.bin") == "6b86b273ff34fce19d6b804eff5a3f5747ada4eaa22f1d49c01e52ddb7875b4b"
    assert checkpoint_digest(folder / "pytorch_model.bin") == digest(folder / "pytorch_model.bin")
    before = checkpoint_digest(folder)
    (folder / "README.md").write_text("decides nothing")
    (folder / "tf_model.h5").write_bytes(b"nor do weights that are not read")
    assert checkpoint_digest(folder) == before
    (folder / "preprocessor_config.json").write_text("{}")
    seen = {before, checkpoint_digest(folder)}
    (folder / "pytorch_model.bin").write_bytes(b"2")
    seen.add(checkpoint_digest(folder))
    (folder / "pytorch_model.bin").rename(folder / "model.safetensors")
    assert len(seen | {checkpoint_digest(folder)}) == 4
    with pytest.raises(InputError, match="no such file"):
        digest(tmp_path / "absent")
    with pytest.raises(InputError, match="no such checkpoint"):
        checkpoint_digest(tmp_path / "absent")


@pytest.mark.parametrize("content", [b"abc", b"Rar!\x1a\x07\x00 and so on", b"\x80"])
def test_bytes_that_are_no_checkpoint_are_refused_by_name(tmp_path, content):
    path = tmp_path / "weights.pth"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"weights\.pth is not a"):
        load_state_dict(path)
