"""AFG, its three scorers, by hand: `docs/paper.md` gives the formulas that the paper leaves out."""

import math

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.network.gathering import SCORERS, AttentionGathering
from mer_pnao.network.modality import ModalityMLP

WIDTHS = {"a": 3, "v": 4, "w": 2}
HIDDEN, WIDTH = 6, 5


def gathering_of(
    scorer: str,
    kept: dict[str, tuple[list[int], list[int]]] | None = None,
    temperature: float = 1.0,
) -> AttentionGathering:
    everything = {name: (list(range(HIDDEN)), list(range(WIDTH))) for name in WIDTHS}
    mlps = {
        name: ModalityMLP(WIDTHS[name], torch.tensor(inner), torch.tensor(outer), 0.4, "relu")
        for name, (inner, outer) in (kept or everything).items()
    }
    return AttentionGathering(mlps, scorer, HIDDEN, WIDTH, 0.4, temperature).double().eval()


def clips(count: int = 5) -> dict[str, np.ndarray]:
    draw = np.random.default_rng(1)
    return {name: draw.standard_normal((count, width)) for name, width in WIDTHS.items()}


def gathered(gathering: AttentionGathering, features: dict[str, np.ndarray]) -> torch.Tensor:
    return gathering({name: torch.from_numpy(values) for name, values in features.items()}).detach()


def by_hand(
    gathering: AttentionGathering, scorer: str, features: dict[str, np.ndarray], temperature: float
) -> np.ndarray:
    """One clip at a time, one modality at a time; the fused vector at full width, zero where nobody feeds it."""
    p = {name: value.numpy() for name, value in gathering.state_dict().items()}
    count = len(next(iter(features.values())))
    fused = np.zeros((count, WIDTH))
    for b in range(count):
        short, spread = [], []
        for name in WIDTHS:
            mlp = f"modalities.{name}"
            inner = np.maximum(p[f"{mlp}.inner.weight"] @ features[name][b] + p[f"{mlp}.inner.bias"], 0)
            outer = np.maximum(p[f"{mlp}.outer.weight"] @ inner + p[f"{mlp}.outer.bias"], 0)
            full = np.zeros(WIDTH)
            full[p[f"{mlp}.outer_kept"]] = outer
            short.extend(outer)
            spread.append(full)
        if scorer == "tanh":
            project = np.zeros((WIDTH, WIDTH))
            project[:, p["fused_kept"]] = p["scorer.project.weight"]
            scores = np.array([(p["scorer.score.weight"] @ np.tanh(project @ h))[0] for h in spread])
        elif scorer == "linear":
            scores = p["scorer.score.weight"] @ np.array(short) + p["scorer.score.bias"]
        elif scorer == "mean":
            scores = np.zeros(len(WIDTHS))
        else:
            inner = np.maximum(p["scorer.inner.weight"] @ np.array(short) + p["scorer.inner.bias"], 0)
            outer = np.maximum(p["scorer.outer.weight"] @ inner + p["scorer.outer.bias"], 0)
            scores = p["scorer.score.weight"] @ outer + p["scorer.score.bias"]
        alpha = scores if scorer == "mlp" else np.exp(scores / temperature) / np.exp(scores / temperature).sum()
        for share, h in zip(alpha, spread, strict=True):
            fused[b] += share * h
    return fused


@pytest.mark.parametrize("scorer", SCORERS)
def test_the_fused_vector_follows_the_formulas(scorer: str) -> None:
    for seed in range(20):
        torch.manual_seed(seed)
        gathering, features = gathering_of(scorer, temperature=2.5), clips()
        got = gathered(gathering, features)
        np.testing.assert_allclose(got.numpy(), by_hand(gathering, scorer, features, 2.5), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("scorer", SCORERS)
def test_modalities_with_different_nodes_meet_at_their_own_positions(scorer: str) -> None:
    """Trap 3: node j of every modality is added into position j, however many nodes lie before it in either."""
    kept = {"a": ([0, 5], [1, 2]), "v": ([1], [0, 2, 4]), "w": ([2, 3, 4], [1])}  # position 3 is fed by nobody
    for seed in range(20):
        torch.manual_seed(seed)
        gathering, features = gathering_of(scorer, kept), clips()
        assert gathering.fused_kept.tolist() == [0, 1, 2, 4]
        got = gathered(gathering, features)
        want = by_hand(gathering, scorer, features, 1.0)
        assert not want[:, 3].any()
        np.testing.assert_allclose(got.numpy(), want[:, [0, 1, 2, 4]], rtol=1e-10, atol=1e-12)


def test_hand_worked_softmax_over_the_modalities() -> None:
    """Scores (0, ln 2, ln 5) give 1/8, 2/8 and 5/8, whatever the clip."""
    gathering = gathering_of("linear")
    state = {name: torch.zeros_like(value) for name, value in gathering.state_dict().items() if "kept" not in name}
    for height, name in enumerate(WIDTHS):
        state[f"modalities.{name}.outer.bias"] = torch.full((WIDTH,), 8.0 * 10**height, dtype=torch.float64)
    state["scorer.score.bias"] = torch.tensor([0.0, math.log(2), math.log(5)], dtype=torch.float64)
    gathering.load_state_dict(state, strict=False)
    fused = gathered(gathering, clips())
    np.testing.assert_allclose(fused.numpy(), np.full((5, WIDTH), 1 + 20 + 500))


def test_hand_worked_tanh_scorer() -> None:
    """Two modalities of h = 0 score 0 and one of h = ln 2 / 2 scores 10 tanh(ln 2) = 6: softmax(6, 0, 0)."""
    gathering = gathering_of("tanh")
    state = {name: torch.zeros_like(value) for name, value in gathering.state_dict().items() if "kept" not in name}
    state["modalities.a.outer.bias"] = torch.full((WIDTH,), math.log(2) / 2, dtype=torch.float64)
    state["scorer.project.weight"][0, :2] = 1.0  # the sum of two nodes: ln 2
    state["scorer.score.weight"][0, 0] = 10.0
    gathering.load_state_dict(state, strict=False)
    fused = gathered(gathering, clips())
    expected = math.exp(6) / (math.exp(6) + 2) * math.log(2) / 2
    np.testing.assert_allclose(fused.numpy(), np.full((5, WIDTH), expected))


def test_dropout_thins_the_nodes_and_keeps_their_mean() -> None:
    """All h = 1 and equal scores: a fused position is a third of the survivors, each worth 1 / (1 - .4)."""
    torch.manual_seed(0)
    gathering = gathering_of("linear")
    state = {name: torch.zeros_like(value) for name, value in gathering.state_dict().items() if "kept" not in name}
    for name in WIDTHS:
        state[f"modalities.{name}.outer.bias"] = torch.ones(WIDTH, dtype=torch.float64)
    gathering.load_state_dict(state, strict=False)
    assert torch.allclose(gathered(gathering, clips(4000)), torch.ones(4000, WIDTH, dtype=torch.float64))
    survivors = gathered(gathering.train(), clips(4000)) * 3 * 0.6
    assert torch.allclose(survivors, survivors.round())
    assert survivors.unique().round().unique().tolist() == [0, 1, 2, 3]
    assert survivors.mean().item() == pytest.approx(3 * 0.6, abs=0.03)  # five standard deviations


@pytest.mark.parametrize("scorer", SCORERS)
def test_dropout_is_for_training_alone(scorer: str) -> None:
    torch.manual_seed(0)
    features = {name: torch.from_numpy(values).float() for name, values in clips().items()}
    for dropout in (0.4, 0.0):
        network = EmotionNetwork(
            Blueprint(WIDTHS, ("a",), ("v", "w"), 3, "entropy", NetworkConfig(HIDDEN, WIDTH, dropout, scorer))
        )
        still = network.eval()(features).posterior
        assert torch.equal(network(features).posterior, still)
        first, second = (network.train()(features).posterior for _ in range(2))
        assert torch.equal(first, second) == torch.equal(first, still) == (dropout == 0)
