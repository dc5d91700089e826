"""Out-of-fold predictions never come from a network that saw the clip or its speaker.

One speaker's clips are spoilt, features and labels. Whatever is learnt from them changes; whatever holds them out must
not change in a single bit: z-score statistics, weights, importances, masks, in any round.
"""

from dataclasses import replace

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import from_state
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.pnao import optimise_architecture
from mer_pnao.pruning.rounds import FoldResult, Optimisation, Round
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import predict
from mer_pnao.training.folds import make_folds

FOLDS = 3
SPEAKER = "speaker07"
ONE_EPOCH = TrainingConfig(epochs=1, batch=20, learning_rate=5e-3)  # no early stop that the held-out clips could choose
PNAO = PnaoConfig(naor=0.4, alpha=1e-3, rounds=2, min_nodes=2)


class Forgetful:
    """A store that holds no round."""

    def load(self, key: str) -> None:
        return None

    def save(self, key: str, folds: tuple[FoldResult, ...]) -> None:
        pass


@pytest.fixture
def folds(examples: Examples) -> np.ndarray:
    return make_folds(examples.emotion, examples.speakers, FOLDS, 0)


@pytest.fixture
def spoken(examples: Examples) -> np.ndarray:
    """Which clips the speaker says, (N,)."""
    return np.array([speaker == SPEAKER for speaker in examples.speakers or ()])


def spoil(examples: Examples, rows: np.ndarray, labels: bool = True, features: bool = True) -> Examples:
    """The same clips with other labels and features in some rows."""
    draw = np.random.default_rng(9)
    spoilt = {
        name: np.where(rows[:, None], 5 + 3 * draw.standard_normal(values.shape), values).astype(np.float32)
        for name, values in examples.features.items()
    }
    emotion = np.where(rows, (examples.emotion + 1) % examples.classes, examples.emotion)
    valence = np.where(rows, -4 * examples.valence + 1, examples.valence).astype(np.float32)
    return replace(
        examples,
        features=spoilt if features else examples.features,
        emotion=emotion if labels else examples.emotion,
        valence=valence if labels else examples.valence,
    )


def rounds_of(
    blueprint: Blueprint,
    examples: Examples,
    folds: np.ndarray,
    training: TrainingConfig = ONE_EPOCH,
    pnao: PnaoConfig = PNAO,
) -> list[Round]:
    return list(optimise_architecture(Optimisation(blueprint, examples, folds, training, pnao, 0), Forgetful()))


@pytest.mark.parametrize("fusion", ["entropy", "attention"])
def test_a_speakers_clips_reach_every_network_but_the_one_that_holds_them_out(
    fusion: str, blueprint: Blueprint, examples: Examples, folds: np.ndarray, spoken: np.ndarray
) -> None:
    plan = replace(blueprint, fusion=fusion)
    (own,) = set(folds[spoken])  # one fold holds all of the speaker's clips out
    spoilt = spoil(examples, spoken)
    clean_rounds, spoilt_rounds = (rounds_of(plan, each, folds) for each in (examples, spoilt))
    for number, (clean, other) in enumerate(zip(clean_rounds, spoilt_rounds, strict=True)):
        for fold, (before, after) in enumerate(zip(clean.folds, other.folds, strict=True)):
            same = before.state.keys() == after.state.keys() and all(
                torch.equal(value, after.state[name]) for name, value in before.state.items()
            )
            assert same == (fold == own), (number, fold)
            moved = not torch.equal(before.state["zscore.a.mean"], after.state["zscore.a.mean"])
            assert moved == (fold != own)
        network = from_state(plan, clean.folds[own].state)  # the speaker's judge knows the speaker in neither run
        said = predict(network, spoilt.select(np.flatnonzero(folds == own)).tensors())
        assert torch.equal(other.out_of_fold.posterior[folds == own], said.posterior)
        assert torch.equal(other.out_of_fold.valence[folds == own], said.valence)
        neighbours = (folds == own) & ~spoken  # held out by the same network, and not spoilt
        assert torch.equal(other.out_of_fold.posterior[neighbours], clean.out_of_fold.posterior[neighbours])
        assert not torch.equal(other.out_of_fold.posterior[folds != own], clean.out_of_fold.posterior[folds != own])
    assert clean_rounds[1].folds[own].pruned > 0
    assert clean_rounds[2].folds[own].pruned > 0


def test_a_clips_label_has_no_part_in_its_own_prediction(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray, spoken: np.ndarray
) -> None:
    (own,) = set(folds[spoken])
    clean, spoilt = (rounds_of(blueprint, each, folds) for each in (examples, spoil(examples, spoken, features=False)))
    for before, after in zip(clean, spoilt, strict=True):
        rows = folds == own
        assert torch.equal(before.out_of_fold.posterior[rows], after.out_of_fold.posterior[rows])
        assert torch.equal(before.out_of_fold.valence[rows], after.out_of_fold.valence[rows])
        assert torch.equal(before.out_of_fold.weights[:, rows], after.out_of_fold.weights[:, rows])


def test_held_out_clips_choose_the_epoch_and_nothing_else(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Over many epochs the training runs as if the held-out clips were others; only what is kept of it may differ."""
    many = TrainingConfig(epochs=6, batch=20, learning_rate=5e-3, patience=6)
    dense = replace(PNAO, rounds=0)
    (clean,) = rounds_of(blueprint, examples, folds, many, dense)
    for fold in range(FOLDS):
        (spoilt,) = rounds_of(blueprint, spoil(examples, folds == fold), folds, many, dense)
        before, after = clean.folds[fold].curves, spoilt.folds[fold].curves
        learnt = [(e.learning_rate, e.train_loss, e.emotion_loss, e.valence_loss, e.delta1, e.delta2) for e in before]
        assert learnt == [
            (e.learning_rate, e.train_loss, e.emotion_loss, e.valence_loss, e.delta1, e.delta2) for e in after
        ]
        assert [e.com for e in before] != [e.com for e in after]


def test_zscore_statistics_are_those_of_the_folds_training_clips(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    for each in rounds_of(blueprint, examples, folds):
        for fold, result in enumerate(each.folds):
            for name, values in examples.features.items():
                own = values[folds != fold].astype(np.float64)
                np.testing.assert_allclose(result.state[f"zscore.{name}.mean"], own.mean(axis=0), atol=1e-5)
                np.testing.assert_allclose(result.state[f"zscore.{name}.std"], own.std(axis=0), rtol=1e-5)
                assert np.abs(result.state[f"zscore.{name}.mean"].numpy() - values.mean(axis=0)).max() > 1e-2


def test_every_clip_is_judged_once_in_its_own_place(
    blueprint: Blueprint, examples: Examples, folds: np.ndarray
) -> None:
    """Clip by clip: the prediction in row i is that of clip i, by the network of fold i."""
    last = rounds_of(blueprint, examples, folds)[-1]
    networks, inputs = last.networks(), examples.tensors()
    for i in range(len(examples)):
        alone = predict(networks[folds[i]], {name: values[i : i + 1] for name, values in inputs.items()})
        assert torch.allclose(last.out_of_fold.posterior[i], alone.posterior[0], atol=1e-6)
        assert torch.allclose(last.out_of_fold.valence[i], alone.valence[0], atol=1e-5)
        assert torch.allclose(last.out_of_fold.log_posteriors[:, i], alone.log_posteriors[:, 0], atol=1e-5)
        assert torch.allclose(last.out_of_fold.valences[:, i], alone.valences[:, 0], atol=1e-5)
        assert torch.allclose(last.out_of_fold.weights[:, i], alone.weights[:, 0], atol=1e-6)
