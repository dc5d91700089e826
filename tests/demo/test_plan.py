"""The plan of the synthetic corpus against the published statistics of MER 2023."""

import itertools
from collections import Counter, defaultdict
from dataclasses import astuple

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from mer_pnao.demo.plan import ClipPlan, SyntheticConfig, plan_corpus

PAIRS = {("worried", "sad"), ("sad", "worried"), ("surprise", "happy"), ("happy", "surprise")}
# Table of MER 2023: neutral, angry, happy, sad, worried, surprise.
PUBLISHED = {
    "train": {"neutral": 871, "angry": 822, "happy": 689, "sad": 383, "worried": 462, "surprise": 146},
    "test": {"neutral": 88, "angry": 105, "happy": 93, "sad": 50, "worried": 57, "surprise": 18},
}


@pytest.fixture(scope="module")
def clips() -> tuple[ClipPlan, ...]:
    return plan_corpus(SyntheticConfig())


@pytest.mark.parametrize(("split", "size"), [("train", 360), ("test", 120)])
def test_labels_have_the_published_shares(clips: tuple[ClipPlan, ...], split: str, size: int) -> None:
    counts = Counter(clip.label for clip in clips if clip.split == split)
    assert sum(counts.values()) == size
    for label, published in PUBLISHED[split].items():
        exact = published / sum(PUBLISHED[split].values()) * size
        assert abs(counts[label] - exact) < 1  # largest remainders round by less than one clip


def test_valence_has_the_published_mean_and_variance() -> None:
    clips = plan_corpus(SyntheticConfig(train_clips=4000, test_clips=1))
    valence = np.array([clip.valence for clip in clips])
    # Over 4000 clips the standard error of the mean is .03, that of the variance about .07.
    assert valence.mean() == pytest.approx(-0.691, abs=0.12)
    assert valence.var() == pytest.approx(3.197, abs=0.25)


def test_valence_lies_on_the_grid_and_takes_the_side_of_its_emotion(clips: tuple[ClipPlan, ...]) -> None:
    by_emotion = defaultdict(list)
    for clip in clips:
        assert -5 <= clip.valence <= 5
        assert (clip.valence * 4).is_integer()
        by_emotion[clip.label].append(clip.valence)
    assert np.mean(by_emotion["happy"]) > 1
    assert abs(np.mean(by_emotion["neutral"])) < 0.5
    assert all(np.mean(by_emotion[label]) < -1 for label in ("angry", "sad", "worried"))
    assert min(by_emotion["surprise"]) < 0 < max(by_emotion["surprise"])


def test_test_speakers_are_unseen_in_training(clips: tuple[ClipPlan, ...]) -> None:
    speakers = {split: {clip.speaker.name for clip in clips if clip.split == split} for split in ("train", "test")}
    assert (len(speakers["train"]), len(speakers["test"])) == (19, 5)
    assert not speakers["train"] & speakers["test"]


def test_names_say_nothing_of_split_or_label(clips: tuple[ClipPlan, ...]) -> None:
    assert [clip.name for clip in clips] == [f"clip{number:04d}" for number in range(1, 481)]
    in_test = np.array([clip.split == "test" for clip in clips])
    assert all(10 <= block.sum() <= 30 for block in np.split(in_test, 6))
    neighbours = np.mean([a.label == b.label for a, b in itertools.pairwise(clips)])
    assert neighbours < 0.3  # by chance the sum of the squared shares, .20


def test_label_noise_prefers_the_confusable_pairs() -> None:
    clips = plan_corpus(SyntheticConfig(train_clips=3000, label_noise=0.1))
    wrong = [(clip.label, clip.emotion) for clip in clips if clip.label != clip.emotion]
    assert len(wrong) / len(clips) == pytest.approx(0.1, abs=0.015)
    paired = sum(pair in PAIRS for pair in wrong)
    from_pairs = sum(label in {"worried", "sad", "surprise", "happy"} for label, _ in wrong)
    assert paired / from_pairs == pytest.approx(0.7 + 0.3 / 5, abs=0.07)
    assert {pair for pair in wrong if pair not in PAIRS}
    clean = plan_corpus(SyntheticConfig(label_noise=0.0))
    assert all(clip.label == clip.emotion for clip in clean)


def _class_separation(difficulty: float, channel: str, control: str) -> float:
    """Distance of happy from sad in `control`, in standard deviations within the class."""
    clips = plan_corpus(SyntheticConfig(difficulty=difficulty, label_noise=0.0))
    happy, sad = (
        np.array([getattr(getattr(clip, channel), control) for clip in clips if clip.emotion == emotion])
        for emotion in ("happy", "sad")
    )
    return float((happy.mean() - sad.mean()) / np.sqrt((happy.var() + sad.var()) / 2))


@pytest.mark.parametrize(("channel", "control"), [("face", "mouth_corner"), ("voice", "pitch")])
def test_difficulty_runs_from_easy_to_hopeless(channel: str, control: str) -> None:
    easy, middle, hopeless = (_class_separation(level, channel, control) for level in (0.0, 0.4, 1.0))
    assert easy > 4
    assert easy > middle > 0.5
    assert abs(hopeless) < 0.4  # the standard error of a difference without any effect is about .15


def test_fusing_pays() -> None:
    """The face knows happiness better, the voice anger, and both together more than either."""
    clips = plan_corpus(SyntheticConfig(train_clips=2000, test_clips=1000, difficulty=0.5, label_noise=0.0))
    face = np.array([astuple(clip.face) for clip in clips])
    voice = np.array([astuple(clip.voice) for clip in clips])
    labels = np.array([clip.label for clip in clips])
    train = np.array([clip.split == "train" for clip in clips])

    def hits(controls: np.ndarray) -> np.ndarray:
        model = LinearDiscriminantAnalysis().fit(controls[train], labels[train])
        right: np.ndarray = model.predict(controls[~train]) == labels[~train]
        return right

    by_face, by_voice, by_both = hits(face), hits(voice), hits(np.hstack([face, voice]))
    happy, angry = labels[~train] == "happy", labels[~train] == "angry"
    assert by_face[happy].mean() > by_voice[happy].mean() + 0.05
    assert by_voice[angry].mean() > by_face[angry].mean() + 0.05
    assert by_both.mean() > max(by_face.mean(), by_voice.mean()) + 0.03


def test_same_seed_same_plan_and_another_seed_another() -> None:
    small = {"train_clips": 20, "test_clips": 5}
    assert plan_corpus(SyntheticConfig(**small, seed=1)) == plan_corpus(SyntheticConfig(**small, seed=1))
    assert plan_corpus(SyntheticConfig(**small, seed=1)) != plan_corpus(SyntheticConfig(**small, seed=2))


def test_clips_last_one_to_three_seconds(clips: tuple[ClipPlan, ...]) -> None:
    assert all(1 <= clip.duration <= 3 for clip in clips)
    assert len({clip.frames for clip in clips}) > 20


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"difficulty": 1.5}, r"difficulty must lie in \[0, 1\], got 1.5"),
        ({"difficulty": float("nan")}, r"difficulty must lie in \[0, 1\], got nan"),
        ({"label_noise": -0.1}, r"label_noise must lie in \[0, 0.5\], got -0.1"),
        ({"train_clips": 0}, r"train_clips must lie in \[1, 100000\], got 0"),
        ({"test_clips": -3}, r"test_clips must lie in \[1, 100000\], got -3"),
        ({"speakers": 1}, r"speakers must lie in \[2, 1000\], got 1"),
        ({"speakers": 4, "test_speakers": 4}, r"test_speakers must lie in \[1, 3\], got 4"),
        ({"seed": -1}, r"seed must lie in \[0, 4294967295\], got -1"),
    ],
)
def test_a_value_out_of_range_is_refused(values: dict[str, float], message: str) -> None:
    with pytest.raises(ValueError, match=f"^{message}$"):
        SyntheticConfig(**values)  # type: ignore[arg-type]
