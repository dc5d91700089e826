"""Training: it learns, stops at the best epoch, repeats itself and refuses what diverges."""

import pickle
from dataclasses import replace

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import DivergenceError, Epoch, Fitted, fit, predict, score_of

CONFIG = TrainingConfig(epochs=12, batch=16, learning_rate=5e-3, patience=4)


def train(
    blueprint: Blueprint, examples: Examples, config: TrainingConfig = CONFIG, alpha: float = 0.0
) -> tuple[Fitted, Examples]:
    torch.manual_seed(0)
    network = EmotionNetwork(blueprint)
    rows = np.arange(len(examples))
    training, validation = examples.select(rows[rows % 4 > 0]), examples.select(rows[rows % 4 == 0])
    network.fit_zscore(training.tensors())
    return fit(network, training, validation, config, alpha, seed=3), validation


def test_it_learns_and_returns_its_best_epoch(blueprint: Blueprint, examples: Examples) -> None:
    fitted, validation = train(blueprint, examples)
    scores = score_of(predict(from_state(blueprint, fitted.state), validation.tensors()), validation)
    assert scores.com == max(epoch.com for epoch in fitted.curves)
    assert scores.dis > 0.75
    assert scores.dim is not None
    assert scores.dim < 0.6  # the variance of the valence is about .75


def test_the_early_stop_waits_for_its_patience(blueprint: Blueprint, examples: Examples) -> None:
    fitted, _ = train(blueprint, examples, replace(CONFIG, epochs=80, patience=3))
    coms = [epoch.com for epoch in fitted.curves]
    assert len(coms) < 80
    assert len(coms) - 1 - coms.index(max(coms)) == 3


def test_same_seed_same_numbers(blueprint: Blueprint, examples: Examples) -> None:
    first, second = (train(blueprint, examples)[0] for _ in range(2))
    assert first.curves == second.curves
    assert all(torch.equal(first.state[name], second.state[name]) for name in first.state)


def test_training_leaves_the_global_random_state_alone(blueprint: Blueprint, examples: Examples) -> None:
    torch.manual_seed(11)
    expected = torch.rand(3)
    torch.manual_seed(11)
    network = EmotionNetwork(blueprint)
    torch.manual_seed(11)
    fit(network, examples, examples, replace(CONFIG, epochs=1), 0.0, seed=0)
    assert torch.equal(torch.rand(3), expected)


def test_sparse_training_shrinks_the_weights(blueprint: Blueprint, examples: Examples) -> None:
    def mean_weight(alpha: float) -> float:
        config = replace(CONFIG, epochs=30, patience=30, floor=1.0)
        network = from_state(blueprint, train(blueprint, examples, config, alpha)[0].state)
        return float(np.mean([float(m.detach().abs().mean()) for m in network.weight_matrices()]))

    assert mean_weight(1e-2) < 0.5 * mean_weight(0.0)


def test_a_corpus_without_valence_trains_on_emotion_alone(blueprint: Blueprint, examples: Examples) -> None:
    fitted, _ = train(blueprint, replace(examples, valence=np.full(len(examples), np.nan, np.float32)))
    assert {epoch.dim for epoch in fitted.curves} == {None}
    assert all(epoch.com == epoch.dis and epoch.valence_loss == 0 and epoch.delta2 == 1 for epoch in fitted.curves)


def test_callbacks_see_every_epoch(blueprint: Blueprint, examples: Examples) -> None:
    seen: list[Epoch] = []
    torch.manual_seed(0)
    fitted = fit(EmotionNetwork(blueprint), examples, examples, CONFIG, 0.0, seed=0, callbacks=(seen.append,))
    assert tuple(seen) == fitted.curves


def test_divergence_is_refused_with_its_cause(blueprint: Blueprint, examples: Examples) -> None:
    broken = replace(examples, features={**examples.features, "a": np.full((120, 12), np.nan, np.float32)})
    with pytest.raises(
        DivergenceError, match=r"^training diverged in epoch 0: learning_rate 0\.005 is too high$"
    ) as met:
        fit(EmotionNetwork(blueprint), broken, examples, CONFIG, 0.0, seed=0)
    assert str(pickle.loads(pickle.dumps(met.value))) == str(met.value)  # noqa: S301  (from a process to another)


def test_divergence_in_the_last_step_of_an_epoch_is_seen(blueprint: Blueprint, examples: Examples) -> None:
    """With one step an epoch the loss is still finite: it was taken before the weights were spoilt."""
    config = TrainingConfig(epochs=1, batch=len(examples), learning_rate=1e38, warmup=0.0)
    with pytest.raises(DivergenceError, match=r"^training diverged in epoch 0: learning_rate 1e\+38 is too high$"):
        fit(EmotionNetwork(blueprint), examples, examples, config, 0.0, seed=0)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"epochs": 0}, r"epochs must lie in \[1, 100000\], got 0"),
        ({"learning_rate": 0.0}, "learning_rate must be greater than 0, got 0.0"),
        ({"learning_rate": np.inf}, "learning_rate must be finite, got inf"),
        ({"learning_rate": np.nan}, "learning_rate must be greater than 0, got nan"),
        ({"weight_decay": np.inf}, "weight_decay must be finite, got inf"),
        ({"warmup": 1.0}, r"warmup must lie in \[0, 0.9\], got 1.0"),
    ],
)
def test_config_names_key_value_and_range(change: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        TrainingConfig(**change)  # type: ignore[arg-type]


def test_before_step_may_change_the_gradients(blueprint: Blueprint, examples: Examples) -> None:
    def freeze(network: EmotionNetwork) -> None:
        for parameter in network.parameters():
            assert parameter.grad is not None
            parameter.grad.zero_()

    torch.manual_seed(0)
    network = EmotionNetwork(blueprint)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = replace(CONFIG, epochs=2, weight_decay=0.0)
    fitted = fit(network, examples, examples, config, 1e-2, seed=0, before_step=[freeze])
    assert all(torch.equal(fitted.state[name], before[name]) for name in before)


def test_bfloat16_trains_nearly_the_same_network(blueprint: Blueprint, examples: Examples) -> None:
    """Its rounding is some thousandths; the weights stay float32."""
    short = replace(CONFIG, epochs=3)
    full, half = (train(blueprint, examples, replace(short, precision=number))[0] for number in ("fp32", "bf16"))
    assert {value.dtype for value in half.state.values()} <= {torch.float32, torch.int64}
    assert any(not torch.equal(full.state[name], half.state[name]) for name in full.state)
    for one, other in zip(full.curves, half.curves, strict=True):
        assert other.train_loss == pytest.approx(one.train_loss, rel=0.02)
