"""What a model of several folds decides, and the confidence that every prediction carries."""

import os
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import scipy.stats
import torch

from mer_pnao.foundations.errors import InputError
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.decisions import Decisions, predictions_table
from mer_pnao.outs.networks import RoundModel, read_round, write_networks
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.predict import caveats_of
from mer_pnao.training.novelty import fit_novelty


def confidence(*posteriors: list[float]) -> list[float]:
    posterior = np.array(posteriors)
    clips = len(posterior)
    decisions = Decisions(posterior, np.zeros(clips), np.zeros((clips, 0)), np.zeros((clips, 0, posterior.shape[1])))
    labels = [f"class{i}" for i in range(posterior.shape[1])]
    table = predictions_table([str(i) for i in range(clips)], "test", decisions, labels, ())
    assert table["confidence"].tolist() == decisions.confidence().tolist()
    return table["confidence"].tolist()


def test_confidence_of_certain_is_one_and_uniform_is_zero_for_any_number_of_classes() -> None:
    for classes in range(2, 9):
        certain, uniform = [1.0] + [0.0] * (classes - 1), [1 / classes] * classes
        assert confidence(certain, uniform) == pytest.approx([1.0, 0.0], abs=1e-12)


def test_hand_worked_confidences() -> None:
    assert confidence([0.5, 0.5, 0.0, 0.0]) == pytest.approx([1 - np.log(2) / np.log(4)])  # one half
    assert confidence([0.5, 0.25, 0.125, 0.125]) == pytest.approx([1 - 1.75 / 2])  # 1.75 of 2 bits
    assert confidence([0.9, 0.1]) == pytest.approx([1 + 0.9 * np.log2(0.9) + 0.1 * np.log2(0.1)])


def test_confidences_of_random_posteriors_against_scipy() -> None:
    posteriors = np.random.default_rng(0).dirichlet(np.full(6, 0.5), size=50)
    assert confidence(*posteriors.tolist()) == pytest.approx(1 - scipy.stats.entropy(posteriors, axis=1) / np.log(6))


def test_a_model_decides_by_the_mean_of_its_folds(
    blueprint: Blueprint, plain_forward: Callable[..., dict[str, np.ndarray]]
) -> None:
    """Of posteriors, valences and weights, not of logarithms or votes; against the networks in numpy."""
    torch.manual_seed(0)
    features = {name: torch.randn(7, width) for name, width in blueprint.widths.items()}
    networks = tuple(EmotionNetwork(blueprint).eval() for _ in range(3))
    got = RoundModel("enf", 0, blueprint, ("x", "y", "z"), networks).decide(features)
    plain = {name: values.double().numpy() for name, values in features.items()}
    said = [
        plain_forward(blueprint, {k: v.double().numpy() for k, v in network.state_dict().items()}, plain)
        for network in networks
    ]
    np.testing.assert_allclose(got.posterior, sum(p["posterior"] for p in said) / 3, atol=1e-6)
    np.testing.assert_allclose(got.valence, sum(p["valence"] for p in said) / 3, atol=1e-6)
    np.testing.assert_allclose(got.weights, sum(p["weights"].T for p in said) / 3, atol=1e-6)
    of_branches = sum(np.exp(p["log_posteriors"]) for p in said) / 3  # (M, B, C)
    np.testing.assert_allclose(got.branches, of_branches.transpose(1, 0, 2), atol=1e-6)


def test_a_round_comes_back_to_the_last_digit(blueprint: Blueprint, tmp_path: Path) -> None:
    torch.manual_seed(0)
    networks = tuple(EmotionNetwork(blueprint).eval() for _ in range(2))
    vectors = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    novelty = {
        name: fit_novelty(vectors[:, :width], np.arange(40) % 4, 0.1) for name, width in blueprint.widths.items()
    }
    trained_on = TrainedOn(40, True, (-2.5, 3.0), novelty)
    model = RoundModel("enf", 3, blueprint, ("x", "y", "z"), networks, trained_on)
    before = os.umask(0o022)
    try:
        write_networks(tmp_path / "round-03", model)
    finally:
        os.umask(before)
    read = read_round(tmp_path / "round-03")
    assert (read.system, read.number, read.blueprint, read.labels) == ("enf", 3, blueprint, ("x", "y", "z"))
    for network, again in zip(networks, read.networks, strict=True):
        want, got = network.state_dict(), again.state_dict()
        assert want.keys() == got.keys()
        assert all(torch.equal(got[name], value) for name, value in want.items())
    again = read.trained_on
    assert again is not None
    assert (again.clips, again.drawn, again.valence) == (40, True, (-2.5, 3.0))
    features = {name: vectors[:, :width] for name, width in blueprint.widths.items()}
    for name, distance in trained_on.distances(features).items():
        np.testing.assert_array_equal(again.distances(features)[name], distance)
    files = list((tmp_path / "round-03").iterdir())
    assert {path.stat().st_mode & 0o777 for path in files} == {0o644}, "a server of another user reads them"


def test_a_model_without_a_record_of_its_training_clips_can_be_read(blueprint: Blueprint, tmp_path: Path) -> None:
    networks = (EmotionNetwork(blueprint).eval(),)
    write_networks(tmp_path, RoundModel("enf", 3, blueprint, ("x", "y", "z"), networks))
    for before, after in (("", ""), ('"trained_on": null', '"another": null')):
        config = tmp_path / "config.json"
        config.write_text(config.read_text().replace(before, after) if before else config.read_text())
        model = read_round(tmp_path)
        assert model.trained_on is None
        assert caveats_of(model) == ("what the model has learnt from is not on record",)


def test_a_model_without_valence_says_that_none_was_learnt() -> None:
    """Some training clips may have had one, and too few to learn from."""
    assert TrainedOn(40, False, None, {}).caveats() == ("no valence was learnt, so the answer's means nothing",)


def test_a_damaged_file_is_named(blueprint: Blueprint, tmp_path: Path) -> None:
    networks = (EmotionNetwork(blueprint).eval(),)
    write_networks(tmp_path, RoundModel("enf", 3, blueprint, ("x", "y", "z"), networks, TrainedOn(4, True, None, {})))
    (tmp_path / "novelty.safetensors").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"novelty.safetensors is not a model of this project"):
        read_round(tmp_path)


def test_rounding_takes_no_confidence_past_its_bounds() -> None:
    """A float32 posterior sums to one but for rounding."""
    uniform = np.full(6, 1 / 6, dtype=np.float32).astype(float)
    above = [1.0 + 1e-7, *[0.0] * 5]
    found = confidence(uniform.tolist(), (uniform * (1 + 1e-7)).tolist(), above)
    assert all(0 <= value <= 1 for value in found)
