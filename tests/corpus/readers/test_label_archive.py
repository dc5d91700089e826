"""The baseline's label archive: numpy writes it here, and nothing in it is ever run."""

import pickle
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.readers import label_archive
from mer_pnao.corpus.readers.label_archive import read_archive
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError

LABELS = ("neutral", "angry", "happy")
RAN = []


class Evil:
    """Runs when it is unpickled, unless the unpickler refuses."""

    def __reduce__(self) -> tuple[Any, ...]:
        return RAN.append, ("ran",)


def archive(path: Path, **parts: object) -> Path:
    np.savez_compressed(path, **parts)
    return path


@pytest.fixture
def whole(tmp_path: Path) -> Path:
    return archive(
        tmp_path / "label-6way.npz",
        train_corpus={"a": {"emo": "happy", "val": 0.5}, "b": {"emo": "angry", "val": np.float32(-1.25)}},
        test1_corpus={"c": {"emo": np.str_("neutral"), "val": np.float64(-10)}},
        test2_corpus={"d": {"emo": "happy", "val": ""}},
        test3_corpus={"e": {"emo": "angry"}, "f": {"emo": "", "val": float("nan")}},
    )


def test_all_parts_are_read_as_numpy_wrote_them(whole: Path) -> None:
    table = read_archive(whole, LABELS)
    assert table["name"].tolist() == list("abcdef")
    assert table["discrete"].tolist() == ["happy", "angry", "neutral", "happy", "angry", ""]
    assert table["split"].tolist() == ["train", "train", "test", "noise", "semi", "semi"]
    np.testing.assert_array_equal(table["valence"], [0.5, -1.25, np.nan, np.nan, np.nan, np.nan])


def test_numpy_itself_reads_the_same(whole: Path) -> None:
    with np.load(whole, allow_pickle=True) as known:
        emotions = {name: entry["emo"] for part in known.files for name, entry in known[part].item().items()}
    table = read_archive(whole, LABELS)
    assert dict(zip(table["name"], table["discrete"], strict=True)) == emotions


@pytest.mark.parametrize("protocol", range(2, pickle.HIGHEST_PROTOCOL + 1))
def test_a_foreign_object_is_named_and_never_run(tmp_path: Path, protocol: int) -> None:
    path = tmp_path / "label.npz"
    with zipfile.ZipFile(path, "w") as out, out.open("train_corpus.npy", "w") as file:
        np.lib.format.write_array_header_1_0(file, {"descr": "|O", "fortran_order": False, "shape": ()})
        file.write(pickle.dumps({"a": {"emo": Evil()}}, protocol))
    with pytest.raises(
        InputError, match=r"train_corpus is refused: the foreign pickled object (__builtin__|builtins)\."
    ):
        read_archive(path, LABELS)
    assert not RAN


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        ({"train_corpus": {"a": "happy"}}, "train_corpus must hold a dict for each clip's name, not 'happy' for 'a'"),
        ({"train_corpus": {1: {"emo": "happy"}}}, "must hold a dict for each clip's name"),
        ({"train_corpus": {"a": {"emo": ["happy"]}}}, r"clip 'a' has \['happy'\], neither a text nor a number"),
        ({"train_corpus": {"a": {"emo": "joy"}}}, "label 'joy' of clip 'a' is none of neutral, angry, happy"),
        ({"train_corpus": {"../a": {"emo": "happy"}}}, r"'\.\./a' is not the bare name of a clip"),
        ({"train_corpus": {"a\ud800": {"emo": "happy"}}}, "has .* with half a character"),
        ({"train_corpus": {"a": {"emo": "happy", "val": 7}}}, r"valence '7' is not a number in \[-5, 5\]"),
        ({"train_corpus": {"a": {"emo": "happy"}}, "test1_corpus": {"a": {"emo": "happy"}}}, "'a' is listed twice"),
        ({"train_corpus": np.zeros(3)}, r"must hold one dict, not float64 of the shape \(3,\)"),
        ({"train_corpus": ["a"]}, "must hold"),
        ({"labels": {"a": {"emo": "happy"}}}, "lists no clip"),
        ({"train_corpus": {}, "test4_corpus": {}}, "has the part 'test4_corpus', which is none of train_corpus, val_"),
        (
            {"train_corpus": {"a": {"emo": -1}, "b": {"emo": "happy"}}},
            "emotion of clip 'a' is -1, and corpus.archive_l",
        ),
        ({"train_corpus": {"a": {"emo": 0.5}, "b": {"emo": 1}}}, r"emotion of clip 'a' is 0\.5, and corpus.archive_la"),
    ],
)
def test_other_contents_are_refused(tmp_path: Path, parts: dict[str, object], message: str) -> None:
    path = archive(tmp_path / "label.npz", **parts)
    with pytest.raises(InputError, match=message) as raised:
        read_archive(path, LABELS)
    assert str(path) in str(raised.value)


MELD = ("anger", "joy", "sadness", "neutral", "disgust", "fear", "surprise")  # the archive's 0 to 6


@pytest.fixture
def meld(tmp_path: Path) -> Path:
    return archive(
        tmp_path / "label.npz",
        train_corpus={
            "train_dia0_utt0": {"emo": 3, "val": -10},
            "train_dia0_utt1": {"emo": np.int64(0), "val": -10},
            "train_dia1_utt0": {"emo": 6, "val": -10},
        },
        val_corpus={"val_dia0_utt0": {"emo": 2, "val": -10}},
        test_corpus={"test_dia0_utt0": {"emo": 1, "val": -10}, "test_dia0_utt1": {"emo": 4, "val": -10}},
    )


def test_all_parts_of_meld_are_read_and_its_numbers_are_words(meld: Path) -> None:
    table = read_archive(meld, MELD, MELD)
    assert table["discrete"].tolist() == ["neutral", "anger", "surprise", "sadness", "joy", "disgust"]
    assert table["split"].tolist() == ["train", "train", "train", "dev", "test", "test"]
    assert table["name"].tolist()[3] == "val_dia0_utt0"
    assert table["valence"].isna().all()
    trained = read_archive(meld, (), MELD, "train")
    assert trained["split"].tolist() == ["train"] * 4 + ["test"] * 2


def test_numbers_that_nothing_names_are_refused(meld: Path) -> None:
    named = "the emotion of clip 'train_dia0_utt0' is 3, and corpus.archive_labels"
    with pytest.raises(InputError, match=rf"label\.npz: {named} is not there to name it"):
        read_archive(meld, MELD)
    with pytest.raises(InputError, match=rf"{named} names 0 to 2"):
        read_archive(meld, (), MELD[:3])
    numbers = tuple("0123456")
    assert read_archive(meld, numbers)["discrete"].tolist() == list("306214")  # where the profile has them as labels


@pytest.mark.parametrize("labels", [(), MELD])
def test_what_has_sentiments_alone_is_refused(tmp_path: Path, labels: tuple[str, ...]) -> None:
    parts = {
        f"{part}_corpus": {f"{part}{i}": {"emo": 0, "val": i - 1.5} for i in range(3)} for part in ("train", "val")
    }
    with pytest.raises(InputError, match=r"label\.npz has no classes: the emotion of each clip is 0, as in .*CMU-MOSI"):
        read_archive(archive(tmp_path / "label.npz", **parts), labels, labels)


def test_a_corpus_without_parts_is_divided_by_the_speakers_in_its_names(tmp_path: Path) -> None:
    clips = {
        f"Ses0{s}{sex}_impro01_{sex}{i:03d}": {"emo": i % 4, "val": 2.5}
        for s in range(1, 6)
        for sex in "FM"
        for i in range(4)
    }
    archive(tmp_path / "label_4way.npz", whole_corpus=clips)
    corpus = CorpusConfig(
        kind="mertools",
        root="x",
        labels=(),
        label_file="label_4way.npz",
        archive_labels=("happy", "angry", "sad", "neutral"),
        speaker_in_name=r"^Ses0\d",
        test_speakers=("Ses05",),
    )
    table = read_corpus(corpus, tmp_path, 0)
    assert table["split"].tolist() == ["train"] * 32 + ["test"] * 8
    assert table["speaker"].unique().tolist() == ["Ses01", "Ses02", "Ses03", "Ses04", "Ses05"]
    assert table["discrete"].tolist()[:4] == ["happy", "angry", "sad", "neutral"]
    drawn = read_corpus(replace(corpus, test_speakers=()), tmp_path, 0)
    assert drawn.groupby("split")["speaker"].nunique().to_dict() == {"test": 1, "train": 4}
    with pytest.raises(
        InputError, match=r"speaker_in_name '\^Ses5' finds nothing in the name of clip 'Ses01F_impro01_F000'"
    ):
        read_corpus(replace(corpus, speaker_in_name="^Ses5"), tmp_path, 0)


def test_stand_ins_for_labels_that_are_not_out_are_no_labels(tmp_path: Path) -> None:
    """MER 2024 to 2026: as long as the baseline has no labels it writes neutral for each clip to predict."""
    emotions = ["happy", "angry"] * 5
    parts = {
        "train_corpus": {f"a{i}": {"emo": emotion} for i, emotion in enumerate(emotions)},
        "test1_corpus": {f"b{i}": {"emo": "neutral"} for i in range(3)},
    }
    archive(tmp_path / "label.npz", **parts)
    corpus = CorpusConfig(kind="mertools", root="x", labels=LABELS, label_file="label.npz")
    table = read_corpus(corpus, tmp_path, 0)
    assert table["split"].value_counts().to_dict() == {"train": 8, "test": 2, "candidates": 3}
    assert set(table["path"]) == {""}
    assert set(table.loc[table["split"] == "candidates", "discrete"]) == {""}
    parts["test1_corpus"]["b1"]["emo"] = "angry"
    archive(tmp_path / "label.npz", **parts)
    table = read_corpus(corpus, tmp_path, 0)
    assert table["split"].tolist() == ["train"] * 10 + ["test"] * 3
    assert table["discrete"].tolist()[10:] == ["neutral", "angry", "neutral"]


def test_broken_and_bursting_files_are_refused(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    content = whole.read_bytes()
    monkeypatch.setattr(label_archive, "_MOST_BYTES", 100)
    with pytest.raises(InputError, match="train_corpus unpacks to more than"):
        read_archive(whole, LABELS)
    monkeypatch.undo()
    rng = np.random.default_rng(0)
    for length in range(0, len(content), 40):
        whole.write_bytes(content[:length])
        with pytest.raises(InputError):
            read_archive(whole, LABELS)
    refused = 0
    for _ in range(300):
        damaged = bytearray(content)
        damaged[rng.integers(len(content))] ^= 1 << rng.integers(8)
        whole.write_bytes(damaged)
        try:
            read_archive(whole, LABELS)
        except InputError:
            refused += 1
    assert refused > 100  # a flipped date or attribute changes nothing
    whole.unlink()
    with pytest.raises(InputError, match=r"label-6way\.npz does not exist"):
        read_archive(whole, LABELS)
