"""A latency is measured once for a machine and an architecture."""

from pathlib import Path

import pytest
import torch

from mer_pnao.network.emotion_network import Blueprint, EmotionNetwork
from mer_pnao.outs.networks import RoundModel
from mer_pnao.pruning.surgery import compact
from mer_pnao.systems import cost as latency_memory
from mer_pnao.systems.cost import remembered_latency_ms


def model(blueprint: Blueprint, seed: int = 0) -> RoundModel:
    torch.manual_seed(seed)
    return RoundModel("enf", 0, blueprint, ("a", "b", "c"), (EmotionNetwork(blueprint).eval(),))


def test_same_architecture_same_figure_other_architecture_measured_anew(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    calls: list[int] = []

    def measured(*_: object) -> float:
        calls.append(1)
        return 1.0 + len(calls)

    monkeypatch.setattr(latency_memory, "latency_ms", measured)
    clip = {name: torch.zeros(1, width) for name, width in blueprint.widths.items()}
    assert remembered_latency_ms(model(blueprint), clip) == 2.0
    assert remembered_latency_ms(model(blueprint, seed=1), clip) == 2.0
    dense = model(blueprint)
    name, layer = next(iter(dense.networks[0].prunable().items()))
    mask = torch.arange(layer.out_features) > 3
    small = RoundModel("enf", 1, blueprint, dense.labels, (compact(dense.networks[0], {name: mask}),))
    assert remembered_latency_ms(small, clip) == 3.0


def test_a_memory_that_cannot_be_written_only_measures(
    blueprint: Blueprint, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("work").touch()
    clip = {name: torch.zeros(1, width) for name, width in blueprint.widths.items()}
    assert remembered_latency_ms(model(blueprint), clip) > 0
