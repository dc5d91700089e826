"""`mer score`: the metric of two files, against scikit-learn and published figures, and each wrong file refused."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.metrics import f1_score, mean_squared_error

from mer_pnao.commands.score_files import score_files
from mer_pnao.foundations.errors import InputError

SHARED = Path(__file__).parents[3] / "shared/data"
MULTI = {"neutral": 88, "angry": 105, "happy": 93, "sad": 50, "worried": 57, "surprise": 18}  # MER-MULTI's 411 clips
HEAD = "name,discrete,valence\n"


def file(folder: Path, name: str, text: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_labels_of_some_candidates_score_these_alone(tmp_path: Path) -> None:
    """MER 2025: 20,000 candidates are handed in, and the labels that come out are of some of them, without valence."""
    labels = file(tmp_path, "track1_test_dis.csv", "name,discrete\nc,happy\na,sad\n")
    said = file(tmp_path, "candidates.csv", "name,discrete\na,sad\nb,angry\nc,sad\n")
    scores, clips = score_files(labels, said, subset=True)
    assert (scores.dis, scores.dim, scores.com, clips) == (pytest.approx(0.5 * 2 / 3), None, scores.dis, 2)
    with pytest.raises(InputError, match=r"candidates\.csv predicts clip 'b', which .*track1_test_dis\.csv does not"):
        score_files(labels, said)
    with pytest.raises(InputError, match=r"track1_test_dis\.csv has no prediction for clip 'b' of .*candidates\.csv"):
        score_files(said, labels, subset=True)


def scored(folder: Path, labels: str, predictions: str) -> tuple[float, float | None, float, int]:
    scores, clips = score_files(file(folder, "labels.csv", labels), file(folder, "said.csv", predictions))
    return scores.dis, scores.dim, scores.com, clips


def test_the_majority_class_of_training_has_the_published_floor(tmp_path: Path) -> None:
    names = [f"sample_{i:05d}" for i in range(411)]
    truth = [emotion for emotion, clips in MULTI.items() for _ in range(clips)]
    labels = "name,discrete\n" + "".join(f"{n},{e}\n" for n, e in zip(names, truth, strict=True))
    dis, dim, com, clips = scored(tmp_path, labels, "name,discrete\n" + "".join(f"{n},neutral\n" for n in names))
    assert dis == pytest.approx(0.0755, abs=5e-5)
    assert (dim, com, clips) == (None, dis, 411)


def test_a_case_worked_by_hand_in_any_order_of_rows(tmp_path: Path) -> None:
    """`NA` is a name; -10 and an empty valence are none; a prediction may leave the scale."""
    labels = HEAD + "a,happy,1\nNA,sad,-10\nb,sad,5\nc,happy,\n"
    said = HEAD + "c,happy,\nb,sad,5.3\nNA,happy,high\na,happy,0.5\n"
    f1_happy, f1_sad = 2 * 2 / (2 + 3), 2 * 1 / (2 + 1)
    dim = (0.5**2 + 0.3**2) / 2
    dis, found, com, clips = scored(tmp_path, labels, said)
    assert dis == pytest.approx((2 * f1_happy + 2 * f1_sad) / 4)
    assert found == pytest.approx(dim)
    assert com == pytest.approx(dis - 0.25 * dim)
    assert clips == 4


EMOTIONS = ["neutral", "angry", "happy"]
CLIPS = st.lists(
    st.tuples(st.sampled_from(EMOTIONS), st.sampled_from([*EMOTIONS, "sleepy"]), st.integers(-20, 20), st.booleans()),
    min_size=1,
    max_size=20,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(clips=CLIPS, shuffle=st.randoms(use_true_random=False))
def test_any_table_is_scored_as_scikit_learn_does_in_any_order(tmp_path: Path, clips, shuffle) -> None:
    labels = [f"clip {i},{true},{value / 4 if known else ''}\n" for i, (true, _, value, known) in enumerate(clips)]
    said = [f"clip {i},{guess},{7 - value / 3}\n" for i, (_, guess, value, _) in enumerate(clips)]
    shuffle.shuffle(labels)
    shuffle.shuffle(said)
    dis, dim, com, count = scored(tmp_path, HEAD + "".join(labels), HEAD + "".join(said))
    true, guess, values, known = zip(*clips, strict=True)
    assert dis == pytest.approx(f1_score(true, guess, average="weighted", zero_division=0))
    rows = [i for i, each in enumerate(known) if each]
    expected = mean_squared_error([values[i] / 4 for i in rows], [7 - values[i] / 3 for i in rows]) if rows else None
    assert dim == (None if expected is None else pytest.approx(expected))
    assert com == pytest.approx(dis - 0.25 * (expected or 0))
    assert count == len(clips)


CELLS = st.sampled_from(
    ["a", "b", "NA", "happy", "", "1", "-10", "5.3", "1e999", "nan", '"', '"x,y"', " ", "\u00e9", "\0"]
)
HEADS = st.permutations(["name", "discrete", "valence"]).flatmap(lambda names: st.sampled_from([names, names[:2]]))
TABLES = st.tuples(HEADS, st.lists(st.lists(CELLS, min_size=1, max_size=4), max_size=5)).map(
    lambda parts: "\n".join(",".join(row) for row in (parts[0], *parts[1])) + "\n"
)


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(labels=TABLES, said=TABLES)
def test_any_two_tables_are_scored_or_refused(tmp_path: Path, labels: str, said: str) -> None:
    with suppress(InputError):  # anything else is a crash
        dis, dim, com, clips = scored(tmp_path, labels, said)
        assert 0 <= dis <= 1
        assert com == pytest.approx(dis - 0.25 * (dim or 0))
        assert clips >= 1


def test_a_spreadsheet_of_another_country_scores_the_same(tmp_path: Path) -> None:
    labels, said = HEAD + "a,NA,1.5\nb,None,-2\n", HEAD + "b,None,-1.25\na,NA,1.5\n"
    local = [text.replace(",", ";").replace(".", ",") for text in (labels, said)]
    assert scored(tmp_path, *local) == scored(tmp_path, labels, said) == (1, 0.28125, 0.9296875, 2)


GOOD = HEAD + "a,happy,1\nb,sad,-2\n"


@pytest.mark.parametrize(
    ("labels", "said", "sentence"),
    [
        (GOOD, HEAD + "a,happy,1\n", "said.csv has no prediction for clip 'b' of labels.csv"),
        (GOOD, HEAD, "said.csv lists no clip"),
        (
            GOOD,
            GOOD + "c,sad,1\nd,sad,1\n",
            "said.csv predicts clip 'c' and 1 more, which labels.csv does not list",
        ),
        (
            GOOD,
            HEAD + "a,happy,1\nB,sad,1\n",
            "said.csv has no prediction for clip 'b' of labels.csv, and said.csv predicts clip 'B', which labels.csv "
            "does not list",
        ),
        (
            HEAD + "01,happy,1\nb,sad,1\n",
            HEAD + "1,happy,1\nb,sad,1\n",
            "said.csv has no prediction for clip '01' of labels.csv; there is '1': a spreadsheet takes leading zeros "
            "away, and said.csv predicts clip '1', which labels.csv does not list",
        ),
        (GOOD, "Mine;;\n" + GOOD.replace(",", ";"), "said.csv has 'Mine' above its header: delete what is above row 2"),
        (GOOD, GOOD + "a,sad,1\n", "said.csv, row 4: clip 'a' is listed twice"),
        (GOOD + "b,sad,1\n", GOOD, "labels.csv, row 4: clip 'b' is listed twice"),
        (GOOD, HEAD + "a,happy,1\n,sad,1\n", "said.csv, row 3: the clip has no name"),
        (GOOD, HEAD + "a,happy,1\nb,,1\n", "said.csv, row 3: clip 'b' has no emotion"),
        (GOOD, HEAD + "b,sad,1\na\n", "said.csv, row 3: 1 cells, but the header has 3"),
        (HEAD + "a,happy,1\nb,,\n", GOOD, "labels.csv, row 3: clip 'b' has no emotion"),
        (GOOD, "clip,discrete\na,happy\n", "said.csv has no column 'name', only 'clip', 'discrete'"),
        (GOOD, "name,feeling\na,happy\n", "said.csv has no column 'emotion' or 'discrete', only 'name', 'feeling'"),
        (
            GOOD,
            "name,discrete\na,happy\nb,sad\n",
            "said.csv has no column 'valence', but labels.csv has the valence of clip 'a' and 1 more",
        ),
        (GOOD, HEAD + "b,sad,high\na,happy,1\n", "said.csv, row 2: valence 'high' of clip 'b' is not a number"),
        (GOOD, HEAD + "b,sad,1\na,happy,\n", "said.csv, row 3: valence '' of clip 'a' is not a number"),
        (GOOD, HEAD + "b,sad,1\na,happy,inf\n", "said.csv, row 3: valence 'inf' of clip 'a' is not a number"),
        (GOOD, HEAD + "b,sad,1\na,happy,nan\n", "said.csv, row 3: valence 'nan' of clip 'a' is not a number"),
        (HEAD + "a,happy,5.3\nb,sad,x\n", GOOD, "labels.csv, row 2: valence '5.3' is not a number in [-5, 5]"),
    ],
)
def test_what_does_not_fit_is_one_sentence(tmp_path: Path, labels: str, said: str, sentence: str) -> None:
    with pytest.raises(InputError) as raised:
        scored(tmp_path, labels, said)
    assert str(raised.value).replace(f"{tmp_path}/", "") == sentence


@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00name", b'name,discrete\n"a,happy\n'])
def test_what_is_no_csv_is_named(tmp_path: Path, content: bytes) -> None:
    good, bad = file(tmp_path, "good.csv", GOOD), file(tmp_path, "bad.csv", content)
    for pair in ((good, bad), (bad, good)):
        with pytest.raises(InputError, match=r"bad\.csv is not a readable CSV file"):
            score_files(*pair)
    with pytest.raises(InputError, match=r"none\.csv does not exist"):
        score_files(good, tmp_path / "none.csv")


def test_marks_of_other_systems_do_not_matter(tmp_path: Path) -> None:
    """A byte order mark, line ends, quotes, other columns and their order, two ways to spell an accent."""
    labels = file(tmp_path, "labels.csv", b'\xef\xbb\xbfname,discrete,valence\r\n"a, b",happy,1\r\n\xc3\xa9,sad,2\r\n')
    said = 'valence,posterior_sad,discrete,name\n2,0.5,sad,e\N{COMBINING ACUTE ACCENT}\n1,0.1,happy,"a, b"\n'
    scores, clips = score_files(labels, file(tmp_path, "said.csv", said))
    assert (scores.dis, scores.dim, scores.com, clips) == (1, 0, 1, 2)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data in ../shared/data is not here")
def test_real_labels_against_themselves_and_a_constant(tmp_path: Path) -> None:
    path = SHARED / "ravdess/labels.csv"
    scores, clips = score_files(path, path)
    assert (scores.dis, scores.dim, scores.com, clips) == (1.0, None, 1.0, 1440)
    table = pd.read_csv(path)
    constant = tmp_path / "calm.csv"
    table.assign(discrete="calm").sample(frac=1, random_state=0).to_csv(constant, index=False)
    share = (table["discrete"] == "calm").mean()
    assert score_files(path, constant)[0].dis == pytest.approx(share * 2 * share / (1 + share))
    assert np.isclose(share, 192 / 1440)
