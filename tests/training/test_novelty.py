"""The distance to the training clips: held against a whole covariance, and its rate of false alarms."""

import warnings

import numpy as np
import pytest
from numpy.typing import NDArray

from mer_pnao.training.novelty import fit_novelty

FOLDS, CLIPS_A_SPEAKER = 5, 20


def clips_of(speakers: int, width: int, seed: int) -> NDArray[np.float32]:
    """Correlated vectors, in which a speaker's clips have something in common."""
    draw = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(6, width))
    own = np.repeat(draw.normal(size=(speakers, 6)), CLIPS_A_SPEAKER, axis=0)
    hidden = own + draw.normal(size=own.shape)
    return (5 + hidden @ mixing + draw.normal(size=(len(own), width))).astype(np.float32)


def folds_of(speakers: int) -> NDArray[np.int64]:
    return np.repeat(np.arange(speakers) % FOLDS, CLIPS_A_SPEAKER)


def test_it_is_mahalanobis_distance_with_the_covariance_of_the_model() -> None:
    """Signal and noise as in the textbook, C = W W' + s I, inverted whole."""
    features, further = clips_of(20, 40, seed=0), clips_of(3, 40, seed=1)
    mean, std = features.mean(axis=0, dtype=float), features.std(axis=0, dtype=float)
    scaled = (features - mean) / std
    values, vectors = np.linalg.eigh(np.cov(scaled.T, bias=True))
    values, vectors = values[::-1], vectors[:, ::-1]
    noise = values[16:].mean()
    covariance = (vectors[:, :16] * (values[:16] - noise)) @ vectors[:, :16].T + noise * np.eye(40)
    offset = (further - mean) / std
    want = np.sqrt(np.einsum("ij,jk,ik->i", offset, np.linalg.inv(covariance), offset))
    got = fit_novelty(features, folds_of(20), 0.01).distance(further)
    np.testing.assert_allclose(got / got[0], want / want[0], rtol=1e-5)  # by which the unit of "far" drops out


def test_of_new_speakers_clips_few_are_called_far() -> None:
    novelty = fit_novelty(clips_of(60, 40, seed=0), folds_of(60), 0.05)
    alarms = np.concatenate([novelty.distance(clips_of(60, 40, seed)) > 1 for seed in range(2, 8)])
    assert 0.02 < alarms.mean() < 0.08


def test_what_breaks_the_correlations_is_far_even_where_no_single_number_is() -> None:
    features = clips_of(60, 40, seed=0)
    novelty = fit_novelty(features, folds_of(60), 0.01)
    shuffled = np.random.default_rng(0).permuted(features, axis=0)  # each dimension has the same values as before
    assert (novelty.distance(shuffled) > 1).mean() > 0.9
    assert (novelty.distance(features + 5 * features.std(axis=0)) > 1).all()


@pytest.mark.parametrize("width", [1, 2, 30])
def test_dimensions_without_variance_and_narrow_sets(width: int) -> None:
    features = clips_of(10, width, seed=0)
    features[:, 0] = 0.1  # as action units that never occur
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        distance = fit_novelty(features, folds_of(10), 0.01).distance(features)
    assert np.isfinite(distance).all()
    assert (distance > 1).mean() < 0.05


def test_units_do_not_matter_and_neither_does_what_never_varied() -> None:
    """A set of values near 1e-9 is scaled as any other; a dimension that was constant in training is none."""
    draw = np.random.default_rng(4)
    train = draw.standard_normal((80, 6)).astype(np.float32)
    train[:, 5] = 0.25
    folds = np.arange(80) % 4
    far = train[:1] + np.array([[1000, 0, 0, 0, 0, 0]], np.float32)
    scales = [1.0, 1e-9]
    large, small = (fit_novelty(train * np.float32(s), folds, 0.01).distance(far * np.float32(s)) for s in scales)
    assert large > 50
    assert small == pytest.approx(large, rel=1e-3)
    odd = train[:1].copy()
    odd[0, 5] = 26.0
    novelty = fit_novelty(train, folds, 0.01)
    assert novelty.distance(odd) == novelty.distance(train[:1])
