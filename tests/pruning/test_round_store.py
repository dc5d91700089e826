"""Rounds on disk: whole or not at all, and nothing damaged is taken for a round."""

import os
from pathlib import Path

import pytest
import torch

from mer_pnao.network.emotion_network import Prediction
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import FoldResult
from mer_pnao.training.fit import Epoch


def folds() -> tuple[FoldResult, ...]:
    torch.manual_seed(0)
    held_out = Prediction(torch.randn(2, 3, 4), torch.randn(2, 3), torch.rand(2, 3), torch.rand(3, 4), torch.randn(3))
    curves = (
        Epoch(0, 1e-3, 1.1, 1.0, 0.1, 1.0, 1.0, 0.3, None, 0.3),
        Epoch(1, 1 / 3, 0.9, 0.8, 0.1, 1, 1, 0.4, 0.1, 0.375),
    )
    return (FoldResult({"w": torch.randn(3, 2), "kept": torch.arange(3)}, curves, 7, held_out),)


def test_a_round_comes_back_to_the_last_digit(tmp_path: Path) -> None:
    store, (want,) = DiskRoundStore(tmp_path), folds()
    store.save("k", (want,))
    loaded = store.load("k")
    assert loaded is not None
    (got,) = loaded
    assert got.curves == want.curves
    assert got.pruned == want.pruned
    assert all(torch.equal(got.state[name], want.state[name]) for name in want.state)
    assert all(torch.equal(a, b) for a, b in zip(got.held_out, want.held_out, strict=True))


def test_other_users_may_read_a_round(tmp_path: Path) -> None:
    before = os.umask(0o022)
    try:
        DiskRoundStore(tmp_path / "rounds").save("k", folds())
    finally:
        os.umask(before)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (tmp_path / "rounds").rglob("*")}
    assert modes == {"k": 0o755, "fold-0.safetensors": 0o644, "folds.json": 0o644}


def test_unknown_and_damaged_rounds_are_not_there(tmp_path: Path) -> None:
    store = DiskRoundStore(tmp_path)
    assert store.load("k") is None
    store.save("k", folds())
    weights = tmp_path / "k" / "fold-0.safetensors"
    weights.write_bytes(weights.read_bytes()[:50])
    assert store.load("k") is None
    store.save("k", folds())  # and is written anew
    assert store.load("k") is not None


@pytest.mark.parametrize(
    "facts", ["[]", "{}", "[{}]", "[1]", "\x00", '[{"pruned": 1, "curves": [[0]]}]', '[{"pruned": 1}, {}]']
)
def test_facts_of_another_shape_are_no_round(tmp_path: Path, facts: str) -> None:
    store = DiskRoundStore(tmp_path)
    store.save("k", folds())
    (tmp_path / "k" / "folds.json").write_text(facts)
    assert store.load("k") is None


def test_an_interrupted_write_leaves_no_round(tmp_path: Path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    def full(*_: object) -> None:
        raise OSError("No space left on device")

    monkeypatch.setattr("mer_pnao.pruning.round_store.save", full)
    store = DiskRoundStore(tmp_path)
    with pytest.raises(OSError, match="No space"):
        store.save("k", folds())
    assert list(tmp_path.iterdir()) == []
    assert store.load("k") is None


def test_two_writers_of_one_round_leave_one(tmp_path: Path) -> None:
    first, second = DiskRoundStore(tmp_path), DiskRoundStore(tmp_path)
    first.save("k", folds())
    second.save("k", folds())
    assert [path.name for path in tmp_path.iterdir()] == ["k"]
