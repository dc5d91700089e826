"""Batches: every clip once an epoch, mixing and hiding as their definitions say."""

import numpy as np
import pytest
import torch

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.training.batches import Batch, batches, drop_sets, exchange, mixup, standardized
from mer_pnao.training.examples import Examples


def batch_of(count: int) -> Batch:
    """Clip i has the features i and 10 i, the class i % 3 and the valence i."""
    numbers = torch.arange(count, dtype=torch.float32)
    features = {"voice": numbers[:, None].repeat(1, 2), "face": 10 * numbers[:, None]}
    return Batch(features, torch.eye(3)[torch.arange(count) % 3], numbers)


def test_standardized_clips_are_z_scored_and_their_labels_smoothed(blueprint: Blueprint, examples: Examples) -> None:
    network = EmotionNetwork(blueprint)
    network.fit_zscore(examples.tensors())
    clips = standardized(network, examples, 0.3, torch.float32)
    for name, values in examples.features.items():
        expected = (values - values.mean(axis=0)) / values.std(axis=0)
        np.testing.assert_allclose(clips.features[name], expected, atol=1e-4)
    expected = np.full((len(examples), examples.classes), 0.3 / examples.classes)
    expected[np.arange(len(examples)), examples.emotion] += 0.7
    np.testing.assert_allclose(clips.emotion, expected, atol=1e-6)


def test_an_epoch_sees_each_clip_once_with_its_own_label() -> None:
    order = torch.tensor([4, 0, 6, 2, 5, 1, 3])
    parts = list(batches(batch_of(7), order, dict.fromkeys(("voice", "face"), order), 3))
    assert [len(part.valence) for part in parts] == [3, 2, 2]
    assert torch.cat([part.valence for part in parts]).tolist() == order.tolist()
    for part in parts:
        assert part.features["face"].squeeze(1).tolist() == (10 * part.valence).tolist()
        assert part.emotion.argmax(dim=1).tolist() == (part.valence % 3).tolist()


def test_mixup_mixes_features_and_labels_by_one_share() -> None:
    count = 2000
    whole = Batch({"face": torch.eye(count)}, torch.eye(count), torch.arange(count, dtype=torch.float32))
    mixed = mixup(whole, 0.4, np.random.default_rng(0))
    assert torch.equal(mixed.features["face"], mixed.emotion)  # what is done to one is done to the other
    torch.testing.assert_close(mixed.emotion.sum(dim=1), torch.ones(count))
    torch.testing.assert_close(mixed.valence, (mixed.emotion * whole.valence).sum(dim=1), rtol=1e-4, atol=1e-2)
    own = mixed.emotion.diagonal()
    assert own.min() >= 0.5
    drawn = np.random.default_rng(1).beta(0.4, 0.4, 100_000)  # an independent draw of the same distribution
    assert float(own.mean()) == pytest.approx(np.maximum(drawn, 1 - drawn).mean(), abs=0.01)
    partners = (mixed.emotion - torch.diag(own)).count_nonzero(dim=0)
    assert partners.max() <= 1, "a clip helps one other at most: the partners are a permutation"


def test_a_mixture_with_an_unknown_valence_has_none() -> None:
    clips = batch_of(50)
    valence = clips.valence.clone()
    valence[::2] = torch.nan
    mixed = mixup(clips._replace(valence=valence), 1.0, np.random.default_rng(0))
    plain = mixup(clips, 1.0, np.random.default_rng(0))
    known = mixed.valence.isfinite()
    assert 0 < known.sum() < 50
    assert not known[::2].any()
    assert torch.equal(mixed.valence[known], plain.valence[known])


def test_modality_dropout_hides_whole_sets_and_keeps_the_mean() -> None:
    torch.manual_seed(0)
    count = 20_000
    clips = Batch({"voice": torch.ones(count, 2), "face": torch.ones(count, 1)}, torch.eye(1), torch.zeros(count))
    hidden = drop_sets(clips, 0.3)
    voice, face = hidden.features["voice"], hidden.features["face"].squeeze(1)
    assert torch.equal(voice[:, 0], voice[:, 1]), "a set is hidden whole"
    assert face.unique().tolist() == pytest.approx([0, 1 / 0.7])
    assert float((face == 0).float().mean()) == pytest.approx(0.3, abs=0.015)
    both = float(((face == 0) & (voice[:, 0] == 0)).float().mean())
    assert both == pytest.approx(0.09, abs=0.01), "sets are hidden independently"
    assert float(face.mean()) == pytest.approx(1, abs=0.02)


def test_without_strength_nothing_is_changed_or_drawn() -> None:
    clips, random = batch_of(8), np.random.default_rng(0)
    torch.manual_seed(0)
    assert mixup(clips, 0.0, random) is clips
    assert drop_sets(clips, 0.0) is clips
    assert random.random() == np.random.default_rng(0).random()
    drawn = torch.rand(1)
    torch.manual_seed(0)
    assert torch.equal(drawn, torch.rand(1))


def test_exchanged_features_come_from_clips_with_the_same_emotion() -> None:
    random = np.random.default_rng(0)
    emotion = random.integers(3, size=6000)
    order = random.permutation(6000)
    rows = exchange(order, emotion, [("voice", "pitch"), ("face",)], 0.4, np.random.default_rng(1))
    assert torch.equal(rows["voice"], rows["pitch"]), "the sets of a modality stay together"
    own = torch.from_numpy(order)
    for name in ("voice", "face"):
        assert (emotion[rows[name].numpy()] == emotion[order]).all()
        assert float((rows[name] != own).float().mean()) == pytest.approx(0.4, abs=0.02)
    both = ((rows["voice"] != own) & (rows["face"] != own)).float().mean()
    assert float(both) == pytest.approx(0.16, abs=0.02), "the modalities are exchanged independently"
    still = exchange(order, emotion, [("voice",), ()], 0.0, random)
    assert torch.equal(still["voice"], own)
