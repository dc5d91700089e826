"""Equations 1-4 by hand: numbers worked on paper, and every weight's part in the two outputs."""

import math

import numpy as np
import pytest
import torch

from mer_pnao.network.decoding import JointDecoder

# D = 2, C = 2; the comments of the test below work the numbers.
STATE = {
    "emotion.weight": [[1.0, 0.0], [0.0, 2.0]],  # W_e
    "emotion.bias": [0.0, math.log(3)],  # b_e
    "valence_of_fused.weight": [[0.5, -1.0]],  # W_hv
    "valence_of_fused.bias": [0.25],  # b_hv
    "valence_of_emotion.weight": [[2.0, -4.0]],  # W_ev
    "valence_of_emotion.bias": [3.0],  # b_ev
    "valence.weight": [[10.0, 100.0]],  # W_vv
    "valence.bias": [7.0],  # b_vv
}


def decoder_of(state: dict[str, list[float]] | dict[str, list[list[float]]]) -> JointDecoder:
    decoder = JointDecoder(2, 2).double()
    decoder.load_state_dict({name: torch.tensor(values, dtype=torch.float64) for name, values in state.items()})
    return decoder


def test_hand_worked() -> None:
    log_posterior, valence = decoder_of(STATE)(torch.tensor([[0.0, 0.0]], dtype=torch.float64))
    # eq. 1: softmax(0, ln 3) = (1/4, 3/4).
    assert log_posterior.exp().tolist() == [pytest.approx([1 / 4, 3 / 4])]
    # eq. 3: v_h = 1/4. eq. 4 reads the posterior: tanh(2/4 - 4*3/4 + 3) = tanh(1/2). eq. 2: 10 v_h + 100 v_e + 7.
    assert valence.tolist() == pytest.approx([10 / 4 + 100 * math.tanh(1 / 2) + 7])
    log_posterior, valence = decoder_of(STATE)(torch.tensor([[math.log(6), math.log(2) / 2]], dtype=torch.float64))
    # (ln 6, ln 2 + ln 3): equal logits, so (1/2, 1/2); v_e = tanh(1 - 2 + 3) = tanh 2.
    assert log_posterior.exp().tolist() == [pytest.approx([1 / 2, 1 / 2])]
    v_h = 0.5 * math.log(6) - math.log(2) / 2 + 0.25
    assert valence.tolist() == pytest.approx([10 * v_h + 100 * math.tanh(2) + 7])


def test_random_decoders_follow_the_formulas() -> None:
    draw = np.random.default_rng(4)
    for _ in range(20):
        clips, width, classes = (int(draw.integers(least, 9)) for least in (1, 1, 2))
        decoder = JointDecoder(width, classes).double()
        shapes = {name: tuple(value.shape) for name, value in decoder.state_dict().items()}
        p = {name: draw.standard_normal(shape) for name, shape in shapes.items()}
        decoder.load_state_dict({name: torch.from_numpy(value) for name, value in p.items()})
        fused = 2 * draw.standard_normal((clips, width))
        log_posterior, valence = decoder(torch.from_numpy(fused))
        for b, h in enumerate(fused):  # clip by clip, as the paper writes it
            logits = p["emotion.weight"] @ h + p["emotion.bias"]
            e = np.exp(logits) / np.exp(logits).sum()
            v_h = p["valence_of_fused.weight"] @ h + p["valence_of_fused.bias"]
            v_e = np.tanh(p["valence_of_emotion.weight"] @ e + p["valence_of_emotion.bias"])
            v = p["valence.weight"] @ np.array([v_h[0], v_e[0]]) + p["valence.bias"]
            np.testing.assert_allclose(log_posterior[b].detach().numpy(), np.log(e), rtol=1e-10, atol=1e-12)
            assert valence[b].item() == pytest.approx(v[0], rel=1e-10)


def test_gradients_are_those_of_finite_differences() -> None:
    torch.manual_seed(0)
    decoder = JointDecoder(3, 4).double()
    names = [name for name, _ in decoder.named_parameters()]

    def outputs(fused: torch.Tensor, *parameters: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return torch.func.functional_call(decoder, dict(zip(names, parameters, strict=True)), (fused,))

    fused = torch.randn(2, 3, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(outputs, (fused, *decoder.parameters()))


def test_log_posteriors_stay_exact_near_certainty() -> None:
    """A posterior of 1 - 4e-44 is 1 in any floating point; its logarithm, and so its entropy, are not lost."""
    state = STATE | {"emotion.bias": [0.0, 100.0]}
    log_posterior, _ = decoder_of(state)(torch.zeros(1, 2, dtype=torch.float64))
    assert log_posterior[0].tolist() == pytest.approx([-100.0, -math.exp(-100)], rel=1e-9)
