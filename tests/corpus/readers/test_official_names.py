"""RAVDESS and CREMA-D from their file names, against the tables that others made of the same files."""

from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import CorpusError, write_manifest
from mer_pnao.corpus.readers import cremad, ravdess
from mer_pnao.corpus.readers.official_names import Take
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError

SHARED = Path(__file__).parents[4] / "shared/data"
HERE = pytest.mark.skipif(not SHARED.is_dir(), reason="the real data in ../shared/data is not here")
TEST_ACTORS = tuple(f"actor{number}" for number in range(19, 25))


def test_a_name_of_ravdess_says_all() -> None:
    assert ravdess.parse("01-01-03-02-01-01-07") == Take("happy", "strong", "actor07")
    assert ravdess.parse("02-01-03-02-01-01-07") is None  # no sound
    assert ravdess.parse("03-01-03-02-01-01-07") is None  # no picture
    assert ravdess.parse("01-02-03-02-01-01-07") is None  # song


def test_a_name_of_cremad_says_all() -> None:
    assert cremad.parse("1001_DFA_ANG_XX") == Take("angry", "unspecified", "actor1001")
    assert cremad.parse("1091_IEO_FEA_HI") == Take("fearful", "high", "actor1091")


@pytest.mark.parametrize("name", ["01-01-01-01-01-01", "01-01-09-01-01-01-01", "01-01-01-01-01-01-25", "x", ""])
def test_other_names_are_not_of_ravdess(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of RAVDESS"):
        ravdess.parse(name)


@pytest.mark.parametrize("name", ["1001_DFA_ANG", "1001_DFA_ANG_XXL", "1001_DFA_CAL_XX", "DFA_ANG_XX", ""])
def test_other_names_are_not_of_cremad(name: str) -> None:
    with pytest.raises(ValueError, match="is not a name of CREMA-D"):
        cremad.parse(name)


def corpus_of(kind: str, **taken: Any) -> CorpusConfig:
    return CorpusConfig(kind=kind, root="x", **{"labels": (), **taken})  # type: ignore[arg-type]


def plant(root: Path, *places: str) -> Path:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()
    return root


@HERE
def test_all_of_ravdess_as_the_ready_features_have_it(tmp_path: Path) -> None:
    known = pd.read_csv(SHARED / "ravdess/labels.csv")
    for name in known["name"]:
        place = f"Video_Speech_Actor_{name[-2:]}/Actor_{name[-2:]}"
        plant(
            tmp_path, f"{place}/{name}.mp4", f"{place}/02{name[2:]}.mp4", f"Song/Actor_{name[-2:]}/01-02{name[5:]}.mp4"
        )
    table = read_corpus(corpus_of("ravdess", test_speakers=TEST_ACTORS), tmp_path, 0)
    write_manifest(table, tmp_path / "manifest.csv")
    columns = ["name", "discrete", "speaker", "split"]
    ours, theirs = (part[columns].sort_values("name", ignore_index=True) for part in (table, known))
    pd.testing.assert_frame_equal(ours, theirs, check_dtype=False)
    # Neutral has no strong version: 24 actors, 2 sentences, 2 repetitions, of 7 emotions twice and of one once.
    assert Counter(table["intensity"]) == {"normal": 24 * 4 * 8, "strong": 24 * 4 * 7}
    corpus = corpus_of("ravdess", labels=("happy", "sad"), intensities=("strong",), test_speakers=TEST_ACTORS)
    strong = read_corpus(corpus, tmp_path, 0)
    assert Counter(strong["discrete"]) == {"happy": 96, "sad": 96}


@HERE
def test_all_of_cremad_as_its_table_of_votes_has_it(tmp_path: Path) -> None:
    known = pd.read_csv(SHARED / "cremad/votes.csv", dtype=str)
    plant(tmp_path, *(f"VideoFlash/{name}.flv" for name in known["name"]), "AudioWAV/1001_DFA_ANG_XX.wav")
    table = read_corpus(corpus_of("cremad"), tmp_path, 0)
    acted = dict(zip(known["name"], known["acted"], strict=True))
    assert all(
        cremad.EMOTIONS[acted[name]] == label for name, label in zip(table["name"], table["discrete"], strict=True)
    )
    assert dict(zip(table["name"], table["speaker"], strict=True)) == {
        name: f"actor{actor}" for name, actor in zip(known["name"], known["actor"], strict=True)
    }
    assert Counter(table["discrete"]) == {
        "neutral": 1087,
        **dict.fromkeys(["angry", "disgust", "fearful", "happy", "sad"], 1271),
    }
    assert Counter(table["intensity"]) == {"low": 455, "medium": 455, "high": 455, "unspecified": 6077}
    write_manifest(table, tmp_path / "manifest.csv")  # no actor is on both sides
    assert 0.17 < (table["split"] == "test").mean() < 0.23


def test_what_is_not_an_official_name_is_refused_file_by_file(tmp_path: Path) -> None:
    plant(tmp_path, "Actor_01/01-01-01-01-01-01-01.mp4", "mine.mp4", "Actor_01/01-01-01-01-01-01.mp4")
    with pytest.raises(CorpusError, match=r"01-01-01-01-01-01\.mp4: .* is not a name of RAVDESS") as raised:
        read_corpus(corpus_of("ravdess"), tmp_path, 0)
    assert len(raised.value.faults) == 2


@pytest.mark.parametrize(
    ("kind", "wrong", "right", "start"),
    [
        ("cremad", "1040_ITH_SAD_X.flv", "{}_ITH_SAD_XX.flv", 1001),
        ("ravdess", "Actor_01/mine.mp4", "01-01-04-01-01-01-{}.mp4", 10),
    ],
)
def test_few_misnamed_clips_are_skipped_and_said(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str, wrong: str, right: str, start: int
) -> None:
    plant(tmp_path, wrong, *(right.format(actor) for actor in range(start, start + 10)))
    corpus = corpus_of(kind, max_skipped=0.1)
    assert len(read_corpus(corpus, tmp_path, 0)) == 10
    assert capsys.readouterr().err.startswith(f"{wrong} is skipped: '{Path(wrong).stem}' is not a name of ")
    with pytest.raises(CorpusError, match=rf"{wrong}: .* is not a name of "):
        read_corpus(replace(corpus, max_skipped=0.09), tmp_path, 0)


def test_unknown_words_and_empty_choices_are_refused(tmp_path: Path) -> None:
    plant(tmp_path, "01-01-01-01-01-01-01.mp4")
    with pytest.raises(InputError, match=r"corpus\.labels names 'worried'; this corpus has neutral, calm, happy"):
        read_corpus(corpus_of("ravdess", labels=("neutral", "worried")), tmp_path, 0)
    with pytest.raises(InputError, match=r"corpus\.intensities names 'loud'; this corpus has normal, strong"):
        read_corpus(corpus_of("ravdess", intensities=("loud",)), tmp_path, 0)
    with pytest.raises(InputError, match="holds no clip of the wanted kind"):
        read_corpus(corpus_of("ravdess", intensities=("strong",)), tmp_path, 0)


def test_a_clone_without_its_videos_is_named_as_that(tmp_path: Path) -> None:
    plant(tmp_path, "1001_DFA_ANG_XX.flv", "1001_DFA_SAD_XX.flv")
    (tmp_path / "1001_DFA_SAD_XX.flv").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n")
    with pytest.raises(CorpusError, match=r"1001_DFA_SAD_XX\.flv is a pointer and no clip: `git lfs pull`"):
        read_corpus(corpus_of("cremad"), tmp_path, 0)
