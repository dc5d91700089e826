import time

import numpy as np
import pytest
from scipy.stats import permutation_test
from sklearn.metrics import f1_score

from mer_pnao.evaluation import bootstrap
from mer_pnao.evaluation.bootstrap import Predicted, bootstrap_of_means, paired_bootstrap
from mer_pnao.evaluation.scores import score

LABELS = np.array(["neutral", "angry", "happy", "sad"])


def corpus(clips: int, seed: int = 1) -> tuple[np.ndarray, np.ndarray, dict[str, Predicted]]:
    r = np.random.default_rng(seed)
    emotion, valence = r.choice(LABELS, clips, p=[0.4, 0.3, 0.2, 0.1]), r.normal(size=clips)
    systems = {}
    for name, errors in {"baseline": 0.4, "better": 0.2, "worse": 0.7}.items():
        wrong = r.random(clips) < errors
        systems[name] = Predicted(
            np.where(wrong, r.choice(LABELS, clips), emotion), valence + errors * r.normal(size=clips)
        )
    return emotion, valence, systems


def slow(emotion, valence, systems, resamples, seed, groups=None):
    """Com of every resample with scikit-learn, one at a time."""
    names = np.arange(len(emotion)) if groups is None else np.asarray(groups)
    units = [np.flatnonzero(names == unit) for unit in np.unique(names)]
    taken = np.random.default_rng(seed).integers(len(units), size=(resamples, len(units)))
    drawn = [np.concatenate([units[unit] for unit in each]) for each in taken]
    coms = {}
    for name, each in systems.items():
        emotion_pred, valence_pred = np.asarray(each.emotion), np.asarray(each.valence)
        coms[name] = []
        for clips in drawn:
            dis = f1_score(emotion[clips], emotion_pred[clips], average="weighted", zero_division=0)
            squares = (valence[clips] - valence_pred[clips]) ** 2
            known = squares[np.isfinite(squares)]
            coms[name].append(dis - (0.25 * known.mean() if len(known) else 0))
    return {name: np.array(each) for name, each in coms.items()}


@pytest.mark.parametrize("chunk", [1 << 20, 100, 7])
@pytest.mark.parametrize("missing", [0.0, 0.5])
@pytest.mark.parametrize("speakers", [None, 7])
def test_it_agrees_with_scikit_learn_on_every_resample(monkeypatch, chunk, missing, speakers):
    monkeypatch.setattr(bootstrap, "DRAWS_AT_ONCE", chunk)  # the chunks must not change the draws
    emotion, valence, systems = corpus(25)
    valence = np.where(np.random.default_rng(2).random(25) < missing, np.nan, valence)
    groups = speakers and [f"speaker{i}" for i in np.random.default_rng(4).integers(speakers, size=25)]
    found = paired_bootstrap(emotion, valence, systems, "baseline", resamples=60, seed=3, groups=groups)
    coms = slow(emotion, valence, systems, 60, 3, groups)
    for name, each in found.items():
        assert [each.com_low, each.com_high] == pytest.approx(np.percentile(coms[name], [2.5, 97.5]), abs=1e-12)
        gains = coms[name] - coms["baseline"]
        assert [each.gain_low, each.gain_high] == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=1e-12)
        near = np.where(abs(gains) < 1e-12, 0, gains)
        assert each.p_better == pytest.approx((near > 0).mean() + (near == 0).mean() / 2, abs=1e-12)
        assert each.scores == score(emotion, systems[name].emotion, valence, systems[name].valence)


def test_a_system_against_itself_is_a_coin():
    emotion, valence, systems = corpus(40)
    twins = {"baseline": systems["better"], "twin": systems["better"], "other": systems["worse"]}
    found = paired_bootstrap(emotion, valence, twins, "baseline", resamples=500)
    assert found["baseline"].p_better == found["twin"].p_better == 0.5
    assert (found["twin"].gain_low, found["twin"].gain_high) == (0, 0)


def test_a_clearly_better_system_is_found_better_and_a_worse_one_worse():
    emotion, valence, systems = corpus(400)
    found = paired_bootstrap(emotion, valence, systems, "baseline")
    assert found["better"].p_better > 0.99 > 0.01 > found["worse"].p_better
    assert found["better"].gain_low > 0 > found["worse"].gain_high
    for each in found.values():
        assert each.com_low < each.scores.com < each.com_high


def test_pairing_cancels_what_the_clips_do_to_both():
    emotion, valence, systems = corpus(300)
    nearly = np.array(systems["baseline"].emotion)
    nearly[:3] = emotion[:3]
    found = paired_bootstrap(
        emotion,
        valence,
        {"baseline": systems["baseline"], "nearly": Predicted(nearly, systems["baseline"].valence)},
        "baseline",
    )
    each = found["nearly"]
    assert each.gain_high - each.gain_low < (each.com_high - each.com_low) / 5


def test_without_valence_com_is_dis():
    emotion, _, systems = corpus(60)
    none = np.full(60, np.nan)
    only_emotion = {name: Predicted(each.emotion, none) for name, each in systems.items()}
    found = paired_bootstrap(emotion, none, only_emotion, "baseline", resamples=200, seed=5)
    coms = slow(emotion, none, only_emotion, 200, 5)
    for name, each in found.items():
        assert each.scores.dim is None
        assert each.scores.com == each.scores.dis
        assert each.com_low == pytest.approx(np.percentile(coms[name], 2.5), abs=1e-12)


def test_the_interval_has_the_width_of_theory_for_a_proportion():
    """With a single true class, hit with chance p, F1 = 2p / (1 + p): the delta method gives its variance."""
    clips = 2000
    truth = np.zeros(clips, dtype=int)
    predicted = (np.arange(clips) >= 1500).astype(int)  # hits 1500 of 2000: F1 = 2p / (1 + p)
    found = paired_bootstrap(truth, np.full(clips, np.nan), {"one": Predicted(predicted, np.zeros(clips))})["one"]
    p = 0.75
    deviation = 2 / (1 + p) ** 2 * np.sqrt(p * (1 - p) / clips)
    assert found.scores.com == pytest.approx(2 * p / (1 + p))
    assert (found.com_high - found.com_low) / (2 * 1.96) == pytest.approx(deviation, rel=0.06)
    assert found.p_better is None


def test_the_seed_decides_the_draws():
    emotion, valence, systems = corpus(50)
    first, again, other = (paired_bootstrap(emotion, valence, systems, "baseline", 100, seed) for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_it_is_fast():
    emotion, valence, systems = corpus(1000)
    six = {f"{name}-{i}": each for name, each in systems.items() for i in range(2)}
    start = time.process_time()
    paired_bootstrap(emotion, valence, six, "baseline-0", resamples=2000)
    assert time.process_time() - start < 3  # about 0.5 s; the slow loop needs a minute


def test_wrong_arguments_are_refused():
    emotion, valence, systems = corpus(10)
    with pytest.raises(ValueError, match="'dense' is not among the systems baseline, better, worse"):
        paired_bootstrap(emotion, valence, systems, "dense")
    with pytest.raises(ValueError, match="resamples must be at least 1, got 0"):
        paired_bootstrap(emotion, valence, systems, resamples=0)
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap(emotion[:-1], valence, systems)
    with pytest.raises(ValueError, match="one length"):
        paired_bootstrap(emotion, valence, systems, groups=["a", "b"])


def test_resamples_without_any_of_the_rare_valences_are_left_out():
    """One known valence with an error of 2: Com is 1 - .25 * 4 in every resample that has it."""
    valence = np.array([3.0] + [np.nan] * 9)
    system = Predicted(np.zeros(10, int), np.where(np.arange(10) == 0, 5.0, 0.0))
    (result,) = paired_bootstrap(np.zeros(10, int), valence, {"s": system}, resamples=300).values()
    assert (result.com_low, result.com_high) == (0.0, 0.0)


def test_speakers_are_drawn_with_all_their_clips():
    """Half of the speakers are read well and half badly: an interval over clips takes no notice, and is too narrow."""
    groups = np.repeat([f"speaker{i}" for i in range(12)], 50)
    truth = np.resize([0, 1], 600)
    predicted = np.where(np.repeat(np.arange(12) % 2, 50), truth, 0)
    system = {"one": Predicted(predicted, np.zeros(600))}
    widths = []
    for of in (None, groups):
        (found,) = paired_bootstrap(truth, np.full(600, np.nan), system, groups=of).values()
        widths.append(found.com_high - found.com_low)
    assert widths[1] > 3 * widths[0]


def test_a_single_speaker_is_no_sample_of_speakers_and_clips_are_drawn():
    emotion, valence, systems = corpus(60)
    one = paired_bootstrap(emotion, valence, systems, "baseline", 200, groups=["only"] * 60)
    assert one == paired_bootstrap(emotion, valence, systems, "baseline", 200)


@pytest.mark.parametrize("speakers", [2, 5, 9])
def test_below_ten_speakers_their_differences_are_tested_exactly(speakers):
    emotion, valence, systems = corpus(20 * speakers)
    groups = np.resize([f"speaker{i}" for i in range(speakers)], len(emotion))
    found = paired_bootstrap(emotion, valence, systems, "baseline", 100, groups=groups)

    def coms(system):
        rows = [np.flatnonzero(groups == name) for name in np.unique(groups)]
        parts = [(emotion[i], np.asarray(system.emotion)[i], valence[i], np.asarray(system.valence)[i]) for i in rows]
        return np.array([score(*part).com for part in parts])

    for name, side in (("better", "greater"), ("worse", "less")):
        pairs = (coms(systems[name]), coms(systems["baseline"]))
        want = permutation_test(
            pairs, lambda x, y: np.mean(x - y), permutation_type="samples", n_resamples=np.inf, alternative=side
        )
        assert found[name].p_sign_flip == pytest.approx(want.pvalue)
    assert found["baseline"].p_sign_flip == 1
    wrong = Predicted(np.roll(LABELS, 1)[[list(LABELS).index(name) for name in emotion]], valence)
    every = {"baseline": wrong, "right": Predicted(emotion, valence)}
    found = paired_bootstrap(emotion, valence, every, "baseline", 100, groups=groups)
    assert found["right"].p_sign_flip == 2**-speakers, "every speaker gains"


def test_with_ten_speakers_or_unknown_ones_there_is_no_sign_flip_test():
    emotion, valence, systems = corpus(100)
    for groups in (None, [f"speaker{i % 10}" for i in range(100)]):
        found = paired_bootstrap(emotion, valence, systems, "baseline", 50, groups=groups)
        assert [each.p_sign_flip for each in found.values()] == [None] * 3


def test_of_several_seeds_each_resample_takes_one_the_same_for_all_systems():
    emotion, valence, systems = corpus(25)
    _, _, more = corpus(25, seed=5)
    trained = {"baseline": [systems["baseline"], more["baseline"]], "better": [systems["better"], more["better"]]}
    trained["probe"] = [systems["worse"]]  # which has no seed
    found = bootstrap_of_means(emotion, valence, trained, "baseline", resamples=150, seed=3)
    first, second = (slow(emotion, valence, each, 150, 3) for each in (systems, more))
    second_is_taken = np.random.default_rng([3, 1]).random(150) >= 0.5
    taken = {name: np.where(second_is_taken, second[name], first[name]) for name in ("baseline", "better")}
    taken["probe"] = first["worse"]
    for name, each in found.items():
        assert [each.com_low, each.com_high] == pytest.approx(np.percentile(taken[name], [2.5, 97.5]), abs=1e-12)
        gains = taken[name] - taken["baseline"]
        assert [each.gain_low, each.gain_high] == pytest.approx(np.percentile(gains, [2.5, 97.5]), abs=1e-12)
        near = np.isclose(gains, 0, rtol=0, atol=1e-12)
        assert each.p_better == pytest.approx(np.mean((gains > 0) & ~near) + 0.5 * np.mean(near))
        singles = [score(emotion, of.emotion, valence, of.valence) for of in trained[name]]
        assert each.scores.com == pytest.approx(np.mean([single.com for single in singles]))
        assert each.scores.dim == pytest.approx(np.mean([single.dim for single in singles]))


def test_the_mean_of_one_seed_is_the_paired_bootstrap():
    emotion, valence, systems = corpus(40)
    alone = {name: [each] for name, each in systems.items()}
    assert bootstrap_of_means(emotion, valence, alone, "baseline", 100, 1) == paired_bootstrap(
        emotion, valence, systems, "baseline", 100, 1
    )
