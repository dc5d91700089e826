"""`fit` against a slow training loop that shares nothing with it but the network's forward pass.

Full batches and no dropout leave nothing to chance. The loop runs in float64, with the L1 norm in the autograd graph,
AdamW written out, the schedule as a formula and the scores from scikit-learn.
"""

import math
from copy import deepcopy
from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score, mean_squared_error

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import DivergenceError, fit, predict, score_of

CONFIG = TrainingConfig(epochs=8, batch=90, learning_rate=0.01, warmup=0.25, floor=0.1, weight_decay=0.1, patience=8)
ALPHA = 3e-3


@dataclass(frozen=True)
class SlowEpoch:
    """The network after one epoch, and the epoch's figures."""

    state: dict[str, np.ndarray]
    rate: float
    losses: tuple[float, float, float]  # AWL, emotion, valence, before the step
    deltas: tuple[float, float]  # after the step
    scores: tuple[float, float, float]  # Dis, Dim, Com of the validation clips


def slow_fit(
    network: EmotionNetwork, train: Examples, validation: Examples, config: TrainingConfig, alpha: float
) -> list[SlowEpoch]:
    network = deepcopy(network).double()
    weights = dict(network.named_parameters())
    weights |= {name: torch.zeros((), dtype=torch.float64, requires_grad=True) for name in ("s1", "s2")}
    first = {name: torch.zeros_like(p) for name, p in weights.items()}
    second = {name: torch.zeros_like(p) for name, p in weights.items()}
    x, held_out = ({k: v.double() for k, v in of.tensors().items()} for of in (train, validation))
    e, v = torch.from_numpy(train.emotion), torch.from_numpy(train.valence).double()
    known = ~torch.isnan(v)
    epochs = []
    for step in range(config.epochs):
        p = network.train()(x)
        l_e = -p.posterior[range(len(e)), e].log().mean()
        l_e = l_e + sum(-log[range(len(e)), e].mean() for log in p.log_posteriors) / len(p.log_posteriors)
        l_v = ((p.valence - v)[known] ** 2).mean()
        l_v = l_v + sum(((of - v)[known] ** 2).mean() for of in p.valences) / len(p.valences)
        d1, d2 = weights["s1"].exp(), weights["s2"].exp()
        awl = l_e / d1**2 + l_v / (2 * d2**2) + torch.log(1 + d1) + torch.log(1 + d2)
        norm = sum(w.abs().sum() for name, w in weights.items() if name.endswith(".weight"))
        gradients = torch.autograd.grad(awl + alpha * norm, list(weights.values()))
        rate = by_formula(step, config)
        with torch.no_grad():
            for (name, w), gradient in zip(weights.items(), gradients, strict=True):
                first[name] = 0.9 * first[name] + 0.1 * gradient
                second[name] = 0.999 * second[name] + 0.001 * gradient**2
                if name.endswith(".weight"):
                    w -= rate * config.weight_decay * w
                unbiased = first[name] / (1 - 0.9 ** (step + 1)), second[name] / (1 - 0.999 ** (step + 1))
                w -= rate * unbiased[0] / (unbiased[1].sqrt() + 1e-8)
            found = network.eval()(held_out)
        true = validation.valence[~np.isnan(validation.valence)]
        dim = mean_squared_error(true, found.valence.numpy()[~np.isnan(validation.valence)])
        dis = f1_score(validation.emotion, found.posterior.numpy().argmax(axis=1), average="weighted", zero_division=0)
        state = {name: value.detach().clone().numpy() for name, value in network.state_dict().items()}
        deltas = weights["s1"].exp().item(), weights["s2"].exp().item()
        losses = awl.item(), l_e.item(), l_v.item()
        epochs.append(SlowEpoch(state, rate, losses, deltas, (dis, dim, dis - dim / 4)))
    return epochs


def by_formula(step: int, config: TrainingConfig) -> float:
    """Full batches: one step an epoch. The first quarter rises to the peak, a half cosine falls to a tenth of it."""
    rising = config.epochs // 4
    if step < rising:
        return config.learning_rate * (step + 1) / (rising + 1)
    turned = math.pi * (step - rising) / (config.epochs - 1 - rising)
    return config.learning_rate * (0.1 + 0.9 * (1 + math.cos(turned)) / 2)


def parts(examples: Examples) -> tuple[Examples, Examples]:
    """90 training and 30 validation clips; every seventh clip has no valence."""
    rows = np.arange(len(examples))
    valence = np.where(rows % 7 == 0, np.nan, examples.valence).astype(np.float32)
    examples = replace(examples, valence=valence)
    return examples.select(rows[rows % 4 > 0]), examples.select(rows[rows % 4 == 0])


def network_of(blueprint: Blueprint, train: Examples, seed: int = 0) -> EmotionNetwork:
    torch.manual_seed(seed)
    network = EmotionNetwork(replace(blueprint, config=replace(blueprint.config, dropout=0.0)))
    network.fit_zscore(train.tensors())
    return network


@pytest.mark.parametrize("fusion", ["entropy", "attention"])
@pytest.mark.parametrize("alpha", [0.0, ALPHA])
def test_every_epoch_is_the_slow_loops(fusion: str, alpha: float, blueprint: Blueprint, examples: Examples) -> None:
    train, validation = parts(examples)
    network = network_of(replace(blueprint, fusion=fusion), train)
    slow = slow_fit(network, train, validation, CONFIG, alpha)
    fitted = fit(network, train, validation, CONFIG, alpha, seed=3)
    assert len(fitted.curves) == len(slow) == CONFIG.epochs
    for number, (got, want) in enumerate(zip(fitted.curves, slow, strict=True)):
        assert got.epoch == number
        assert got.learning_rate == pytest.approx(want.rate, rel=1e-12)
        assert (got.train_loss, got.emotion_loss, got.valence_loss) == pytest.approx(want.losses, rel=1e-4)
        assert (got.delta1, got.delta2) == pytest.approx(want.deltas, rel=1e-5)
        assert (got.dis, got.dim, got.com) == pytest.approx(want.scores, rel=1e-3)
    best = max(range(len(slow)), key=lambda number: slow[number].scores[2])
    for name, value in fitted.state.items():
        np.testing.assert_allclose(value.numpy(), slow[best].state[name], rtol=0, atol=2e-4, err_msg=name)
    trained = {name: value.numpy() for name, value in network.state_dict().items()}
    for name, value in slow[-1].state.items():
        np.testing.assert_allclose(trained[name], value, rtol=0, atol=2e-4, err_msg=name)


def test_what_is_kept_is_the_best_epoch_and_not_the_last(blueprint: Blueprint, examples: Examples) -> None:
    """A rate that spoils the weights from the sixth step on: the network goes on, the state stays behind."""
    train, validation = parts(examples)

    def spoiling(step: int, *_: object) -> float:
        return 5e-3 if step < 5 else 0.5

    network = network_of(blueprint, train)
    fitted = fit(network, train, validation, CONFIG, 0.0, seed=0, schedule=spoiling)
    coms = [epoch.com for epoch in fitted.curves]
    best = coms.index(max(coms))
    assert best < 5 < len(coms) - 1
    kept = from_state(network.blueprint, fitted.state)
    assert score_of(predict(kept, validation.tensors()), validation).com == coms[best]
    trained = network.state_dict()
    assert any(not torch.equal(value, trained[name]) for name, value in fitted.state.items())


def test_of_equal_epochs_the_first_is_kept_and_the_patience_runs(blueprint: Blueprint, examples: Examples) -> None:
    """A learning rate of zero makes every epoch the same."""
    train, validation = parts(examples)
    network = network_of(blueprint, train)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    config = replace(CONFIG, patience=3)
    fitted = fit(network, train, validation, config, ALPHA, seed=0, schedule=lambda *_: 0.0)
    assert len({epoch.com for epoch in fitted.curves}) == 1
    assert [epoch.epoch for epoch in fitted.curves] == [0, 1, 2, 3]
    assert all(torch.equal(fitted.state[name], before[name]) for name in before)


def test_the_schedule_is_asked_for_every_step_in_order_from_zero(blueprint: Blueprint, examples: Examples) -> None:
    train, validation = parts(examples)
    asked: list[tuple[int, int]] = []

    def schedule(step: int, steps: int, config: TrainingConfig) -> float:
        asked.append((step, steps))
        return 1e-3 * (step + 1)

    config = replace(CONFIG, epochs=3, batch=20)  # 90 clips: four updates an epoch
    fitted = fit(network_of(blueprint, train), train, validation, config, 0.0, seed=0, schedule=schedule)
    assert asked == [(step, 12) for step in range(12)]
    assert [epoch.learning_rate for epoch in fitted.curves] == pytest.approx([4e-3, 8e-3, 12e-3])


def test_every_training_clip_is_used_in_every_epoch(blueprint: Blueprint, examples: Examples) -> None:
    """37 clips in batches of at least 16: none is dropped, for a broken one breaks the training wherever it sits."""
    train, validation = parts(examples)
    few = train.select(np.arange(37))
    network = network_of(blueprint, few)
    for row in range(len(few)):
        spoilt = few.features["a"].copy()
        spoilt[row, 0] = np.nan
        broken = replace(few, features={**few.features, "a": spoilt})
        with pytest.raises(DivergenceError, match="training diverged in epoch 0"):
            fit(deepcopy(network), broken, validation, replace(CONFIG, epochs=1, batch=16), 0.0, seed=5)


def test_zscore_statistics_are_no_weights_and_do_not_move(blueprint: Blueprint, examples: Examples) -> None:
    train, validation = parts(examples)
    network = network_of(blueprint, train)
    fitted = fit(network, train, validation, CONFIG, ALPHA, seed=0)
    for name, values in train.features.items():
        exact = values.astype(np.float64)
        np.testing.assert_allclose(fitted.state[f"zscore.{name}.mean"], exact.mean(axis=0), atol=1e-5)
        np.testing.assert_allclose(fitted.state[f"zscore.{name}.std"], exact.std(axis=0), rtol=1e-5)
