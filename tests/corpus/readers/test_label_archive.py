"""The baseline's label archive: numpy writes it here, and nothing in it is ever run."""

import pickle
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mer_pnao.corpus.readers import label_archive
from mer_pnao.corpus.readers.label_archive import read_archive
from mer_pnao.corpus.readers.mertools import read_features_folder
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
    table = read_features_folder(whole.parent, LABELS, whole.name)
    assert table["name"].tolist() == list("abcdef")
    assert table["discrete"].tolist() == ["happy", "angry", "neutral", "happy", "angry", ""]
    assert table["split"].tolist() == ["train", "train", "test", "noise", "semi", "semi"]
    np.testing.assert_array_equal(table["valence"], [0.5, -1.25, np.nan, np.nan, np.nan, np.nan])
    assert set(table["path"]) == {""}


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
    ],
)
def test_other_contents_are_refused(tmp_path: Path, parts: dict[str, object], message: str) -> None:
    path = archive(tmp_path / "label.npz", **parts)
    with pytest.raises(InputError, match=message) as raised:
        read_archive(path, LABELS)
    assert str(path) in str(raised.value)


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
