"""Entropy fusion of human judges on CREMA-D: the public function on 7442 real pairs of posteriors.

For every clip some people heard the voice alone and others saw the face alone; the shares of their votes are two
branches' posteriors that no network had a part in. `docs/findings.md` says what follows from it.
"""

import csv
from pathlib import Path

import numpy as np
import pytest
import torch
from sklearn.metrics import f1_score

from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.network.fusion import entropy_fusion

VOTES = Path(__file__).parents[3] / "shared/data/cremad/votes.csv"
LETTERS = "ADFHNS"
TIES = 0.002  # equal votes fall to the first letter; an ulp in a fused posterior may break them otherwise
pytestmark = pytest.mark.skipif(not VOTES.is_file(), reason="the votes of ../shared/data/cremad are absent")


@pytest.fixture(scope="module")
def truths() -> dict[str, np.ndarray]:
    """The acted emotion and the one with most audio-visual votes, (7442,) class indices each."""
    with VOTES.open(encoding="utf-8") as file:
        acted = np.array([LETTERS.index(row["acted"][0]) for row in csv.DictReader(file)])
    return {"acted": acted, "most audio-visual votes": shares("av").argmax(axis=1)}


@pytest.fixture(scope="module")
def decisions() -> dict[str, np.ndarray]:
    """Posteriors (7442, 6) of each way to decide."""
    voice, face = shares("voice"), shares("face")
    emotion = torch.from_numpy(np.stack([voice, face]))
    fused, _, _ = entropy_fusion(emotion, torch.zeros(emotion.shape[:2], dtype=torch.float64))
    return {"entropy fusion": fused.numpy(), "mean": (voice + face) / 2, "face": face, "voice": voice}


def shares(of: str) -> np.ndarray:
    """Vote shares (7442, 6) from the voice, the face or both (`av`), normalised to one."""
    with VOTES.open(encoding="utf-8") as file:
        votes = np.array([[float(row[f"{of}_{letter}"]) for letter in LETTERS] for row in csv.DictReader(file)])
    assert votes.shape == (7442, 6)
    return votes / votes.sum(axis=1, keepdims=True)


@pytest.mark.parametrize(
    ("truth", "expected"),
    [
        ("acted", {"entropy fusion": 0.661, "mean": 0.662, "face": 0.685, "voice": 0.453}),
        ("most audio-visual votes", {"entropy fusion": 0.770, "mean": 0.770, "face": 0.768, "voice": 0.546}),
    ],
)
def test_weighted_f1_of_the_judges(
    truth: str, expected: dict[str, float], truths: dict[str, np.ndarray], decisions: dict[str, np.ndarray]
) -> None:
    found = {
        name: float(f1_score(truths[truth], posterior.argmax(axis=1), average="weighted"))
        for name, posterior in decisions.items()
    }
    assert found == pytest.approx(expected, abs=TIES)


def test_entropy_weighting_alone_adds_nothing_to_the_plain_mean(
    truths: dict[str, np.ndarray], decisions: dict[str, np.ndarray]
) -> None:
    """The 95 % interval of the gain holds zero, and it is narrow: no gain of half a point was missed."""
    nothing = np.full(7442, np.nan)  # no valence: Com is the weighted F1
    for truth in truths.values():
        predicted = {name: Predicted(decisions[name].argmax(axis=1), nothing) for name in ("entropy fusion", "mean")}
        gain = paired_bootstrap(truth, nothing, predicted, baseline="mean", resamples=400)["entropy fusion"]
        assert gain.gain_low is not None
        assert gain.gain_high is not None
        assert -0.005 < gain.gain_low < 0 < gain.gain_high < 0.005


def test_the_weights_do_differ_from_the_mean(decisions: dict[str, np.ndarray]) -> None:
    """The finding is not an accident of equal weights: the surer judges get more, and 159 decisions change."""
    voice, face = shares("voice"), shares("face")
    _, _, weights = entropy_fusion(torch.from_numpy(np.stack([voice, face])), torch.zeros(2, 7442, dtype=torch.float64))
    assert float((weights - 0.5).abs().mean()) == pytest.approx(0.179, abs=0.001)
    changed = decisions["entropy fusion"].argmax(axis=1) != decisions["mean"].argmax(axis=1)
    assert int(changed.sum()) == pytest.approx(159, abs=15)
