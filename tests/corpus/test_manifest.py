"""Labels and manifests: what is read, and each wrong table refused by row and file."""

import errno
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_pnao.corpus.manifest import (
    COLUMNS,
    CorpusError,
    alike,
    labels_of,
    read_csv,
    read_labels,
    read_manifest,
    write_manifest,
)
from mer_pnao.corpus.readers.labelled_folder import read_folder
from mer_pnao.foundations.errors import InputError

LABELS = ("neutral", "angry", "happy")
SHARED = Path(__file__).parents[3] / "shared/data"


def csv(tmp_path: Path, text: str | bytes) -> Path:
    path = tmp_path / "labels.csv"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_and_defaults(tmp_path: Path) -> None:
    table = read_labels(csv(tmp_path, "name,discrete,valence\n001,happy,-2.25\nb c,angry,\n"), LABELS)
    assert table["name"].tolist() == ["001", "b c"]  # a number stays a name
    assert table["valence"].tolist()[0] == -2.25
    assert np.isnan(table["valence"][1])
    assert table["split"].tolist() == ["", ""]
    assert table["speaker"].tolist() == ["", ""]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "name,discrete\na,happy\nb,joyful\n",
            "row 3: label 'joyful' of clip 'b' is none of neutral, angry, happy",
        ),
        ("name,discrete\na,happy\na,angry\n", "row 3: clip 'a' is listed twice"),
        ("name,discrete\n../a,happy\n", r"row 2: '\.\./a' is not the bare name of a clip"),
        ("name,discrete\n..,happy\n", r"row 2: '\.\.' is not the bare name"),
        ("name,discrete\nc:\\a,happy\n", "row 2: .* is not the bare name of a clip"),
        ("name,discrete\n,happy\n", "row 2: '' is not the bare name of a clip"),
        ("name,discrete,valence\na,happy,high\n", "row 2: valence 'high' is not a number"),
        ("name,discrete,valence\na,happy,5\nb,happy,5.01\n", r"row 3: valence '5\.01' is not a number in \[-5, 5\]"),
        ("name,discrete,valence\na,happy,-9.99\n", r"row 2: valence '-9\.99' is not a number in \[-5, 5\]"),
        ("name,discrete,valence\na,happy,inf\n", "row 2: valence 'inf' is not a number"),
        ("name,discrete,valence\na,happy,nan\n", "row 2: valence 'nan' is not a number"),
        ("name,discrete,split\na,happy,dev set\n", "row 2: split 'dev set' of clip 'a' is not train, test or another"),
        (
            "name,discrete,split\na,happy,Test\n",
            "row 2: split 'Test' of clip 'a' is not train, test or another lower-case",
        ),
        ("name,discrete,split\na,happy,trainval\n", "row 2: split 'trainval' of clip 'a' is not train, test"),
        ("name,discrete,split\na,,test\n", "row 2: clip 'a' has no label, as only clips of further test splits may"),
        ('name,discrete,speaker\na,happy,"s\n1"\n', "row 2: speaker 's.n1' of clip 'a' is not a word"),
        ("name,discrete,valence\na,happy\n", "row 2: 2 cells, but the header has 3"),
        ("name,discrete\na,happy\nb,happy,0.5\n", "row 3: 3 cells, but the header has 2"),
        ("discrete,name\nhappy\n", "row 2: 1 cells, but the header has 2"),
        ("name,discrete\na,happy\n\nb,happy\n", "row 3 is empty, but rows follow it"),
        ("name,name,discrete\na,b,happy\n", "has the column 'name' twice"),
        ("name,discrete,emotion\na,happy,happy\n", "both a column 'discrete' and a column 'emotion'"),
        ("\nname,discrete\n", "it has no header in its first row"),
        ("clip,feeling\na,happy\n", "has no column 'name', only 'clip', 'feeling'"),
        ("name,feeling\na,happy\n", "has no column 'emotion' or 'discrete', only 'name', 'feeling'"),
        ("name,emotion,Speaker\na,happy,s1\n", "has the column 'Speaker'; write it 'speaker'"),
        ("name,emotion, split\na,happy,test\n", "has the column ' split'; write it 'split'"),
        ("name;emotion;valence\na;happy;1,5\nb;sad\n", "row 3: 2 cells, but the header has 3"),
        ("name;emotion;valence\na;happy;1.000,5\n", "row 2: valence '1.000.5' is not a number"),
        ("# made by hand\nname,emotion\na,happy\n", "has '# made by hand' above its header: .* above row 2$"),
        ("Labels, 2024,\n,,\nname,emotion,\na,happy,\n", "has 'Labels, 2024' above its header: .* above row 3$"),
        ("Labels;\nname;emotion\na;happy\n", "has 'Labels' above its header: delete what is above row 2$"),
        ("Labels\nname\temotion\na\thappy\n", "has 'Labels' above its header: delete what is above row 2$"),
        ("sep=;\nname;emotion\na;happy\n", "has 'sep=' above its header: delete what is above row 2$"),
        ("name ,emotion\na,happy\n", "has the column 'name '; write it 'name'"),
        (b"name,emotion\na,fr\xf6hlich\n", "is not a readable CSV file: save it as UTF-8"),
        ("name,discrete\n", "lists no clip"),
        ("", "is not a readable CSV file"),
        (b"\xff\xfe\x00name", "is not a readable CSV file"),
        ('name,discrete\n"a,happy\n', "is not a readable CSV file"),
    ],
)
def test_wrong_tables_are_refused_by_row_and_file(tmp_path: Path, text: str | bytes, message: str) -> None:
    path = csv(tmp_path, text)
    with pytest.raises(InputError, match=message) as raised:
        read_labels(path, LABELS)
    assert str(path) in str(raised.value)


def test_every_fault_of_a_table_is_kept(tmp_path: Path) -> None:
    path = csv(tmp_path, "name,discrete,valence\n../a,happy,\nb,joyful,9\nb,happy,\n")
    with pytest.raises(CorpusError, match=r"row 2: .* \(3 more: `mer check` lists them\)") as raised:
        read_labels(path, LABELS)
    assert [fault.removeprefix(f"{path}, row ")[0] for fault in raised.value.faults] == ["2", "3", "3", "4"]


def test_a_column_emotion_means_the_same_as_discrete(tmp_path: Path) -> None:
    assert read_labels(csv(tmp_path, "name,emotion\na,happy\n"), LABELS)["discrete"].tolist() == ["happy"]


def test_what_spreadsheets_add_is_left_out(tmp_path: Path) -> None:
    """A byte order mark, ends of lines as Windows has them, a column of row numbers without a name, empty last rows."""
    text = "\ufeff,name,discrete\r\n0,NA,happy\r\n1,b,angry\r\n,,\r\n\r\n"
    table = read_labels(csv(tmp_path, text), LABELS)
    assert table["name"].tolist() == ["NA", "b"]
    assert table["discrete"].tolist() == ["happy", "angry"]
    assert read_labels(csv(tmp_path, "\ufeffname,discrete\na,happy\n"), LABELS)["name"].tolist() == ["a"]


@pytest.mark.parametrize("separator", [";", "\t"])
def test_semicolons_and_tabs_separate_cells_too_and_commas_are_decimal_then(tmp_path: Path, separator: str) -> None:
    rows = ["name,emotion,valence,speaker", "0001,happy,2!25,a!b", "b,angry,,", "c,angry,-1,", ",,,", ""]
    text = "\r\n".join(rows).replace(",", separator).replace("!", ",")
    table = read_labels(csv(tmp_path, "\ufeff" + text), LABELS)
    assert table["name"].tolist() == ["0001", "b", "c"]
    np.testing.assert_array_equal(table["valence"], [2.25, np.nan, -1])
    assert table["speaker"].tolist() == ["a,b", "", ""]  # decimal commas are of numbers


def test_words_that_mean_nothing_elsewhere_are_emotions_and_names(tmp_path: Path) -> None:
    words = ["None", "NA", "nan", "null", "NaN", "-"]
    rows = [*(f"{word},{word},train" for word in words), "a,NA,test", "b,,wild"]
    table = read_labels(csv(tmp_path, "\n".join(["name,discrete,split", *rows, ""])), ())
    write_manifest(table.assign(path=""), tmp_path / "manifest.csv")
    again = read_manifest(tmp_path / "manifest.csv")
    assert again["discrete"].tolist() == [*words, "NA", ""]
    assert again["name"].tolist() == [*words, "a", "b"]
    assert labels_of(again, tmp_path) == tuple(sorted(words))


def test_further_splits_may_lack_labels(tmp_path: Path) -> None:
    table = read_labels(csv(tmp_path, "name,discrete,split\na,happy,train\nb,angry,test\nc,,noise\n"), LABELS)
    write_manifest(table.assign(path=""), tmp_path / "manifest.csv")
    assert read_manifest(tmp_path / "manifest.csv")["discrete"].tolist() == ["happy", "angry", ""]


def test_without_a_label_set_any_word_is_a_label(tmp_path: Path) -> None:
    table = read_labels(csv(tmp_path, "name,discrete,split\na,joy,train\nb,awe,train\nc,fear,test\n"), ())
    assert labels_of(table, tmp_path) == ("awe", "joy")
    with pytest.raises(InputError, match="row 2: label ' joy' of clip 'a' is not a word without spaces"):
        read_labels(csv(tmp_path, "name,discrete\na, joy\n"), ())
    with pytest.raises(InputError, match="needs training clips of at least two emotions, got joy"):
        labels_of(table[:1], tmp_path)


def test_minus_ten_marks_a_missing_valence(tmp_path: Path) -> None:
    table = read_labels(csv(tmp_path, "name,discrete,valence\na,happy,-10\nb,angry,-10.0\nc,angry,-5\n"), LABELS)
    np.testing.assert_array_equal(table["valence"], [np.nan, np.nan, -5])


def test_a_manifest_with_a_wrong_valence_is_refused(tmp_path: Path) -> None:
    path = csv(tmp_path, f"{','.join(COLUMNS)}\na,a.mp4,happy,high,,train\n")
    with pytest.raises(InputError, match=r"labels\.csv, row 2: valence 'high' is not a number"):
        read_manifest(path)


def test_a_missing_table_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"labels\.csv does not exist"):
        read_labels(tmp_path / "labels.csv", LABELS)


def test_manifest_round_trip_and_shared_speakers(tmp_path: Path) -> None:
    rows = [("a", "a.mp4", "happy", 0.25, "s1", "train"), ("b", "b.mp4", "angry", np.nan, "s2", "test")]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    write_manifest(table, tmp_path / "x" / "manifest.csv")
    pd.testing.assert_frame_equal(read_manifest(tmp_path / "x" / "manifest.csv"), table, check_dtype=False)
    with pytest.raises(InputError, match="speaker 's1' is in both splits"):
        write_manifest(table.assign(speaker="s1"), tmp_path / "manifest.csv")
    with pytest.raises(InputError, match="no clip in the split 'test'"):
        write_manifest(table.assign(split="train"), tmp_path / "manifest.csv")
    write_manifest(table.assign(speaker=""), tmp_path / "manifest.csv")  # unknown speakers are not one speaker
    third = pd.DataFrame([("c", "c.mp4", "", np.nan, "s1", "noise")], columns=list(COLUMNS))
    with pytest.raises(InputError, match="speaker 's1' is in both splits, train and noise"):
        write_manifest(pd.concat([table, third]), tmp_path / "manifest.csv")
    with pytest.raises(InputError, match="two clips called 'a'"):
        write_manifest(table.assign(name="a"), tmp_path / "manifest.csv")


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data in ../shared/data is not here")
def test_real_label_tables() -> None:
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    ravdess = read_labels(SHARED / "ravdess/labels.csv", emotions)
    assert ravdess["split"].value_counts().to_dict() == {"train": 1080, "test": 360}
    assert ravdess["valence"].isna().all()
    assert ravdess["speaker"].nunique() == 24
    media = read_folder(SHARED / "media", emotions)
    assert len(media) == 24
    assert media["path"][0].startswith("clips/")


def test_a_disk_that_fills_leaves_the_manifest_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clips = [(f"c{i}", "happy", float("nan"), "", split, f"c{i}.mp4") for i, split in enumerate(("train", "test"))]
    table = pd.DataFrame(clips, columns=["name", "discrete", "valence", "speaker", "split", "path"])
    path = tmp_path / "data/manifest.csv"
    write_manifest(table, path)
    before = path.read_bytes()
    right = pd.DataFrame.to_csv

    def half(frame: pd.DataFrame, place: Path, **how: object) -> None:
        right(frame.head(1), place, **how)
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(pd.DataFrame, "to_csv", half)
    with pytest.raises(OSError, match="No space left"):
        write_manifest(table, path)
    assert path.read_bytes() == before
    assert [each.name for each in path.parent.iterdir()] == ["manifest.csv"]


def test_a_table_without_names_has_no_title(tmp_path: Path) -> None:
    said = '"What, Name, rank?"'
    table = read_csv(csv(tmp_path, f"Sr No.,Utterance,Emotion\n1,{said},joy\n2,name,joy\n"))
    assert table["Utterance"].tolist() == ["What, Name, rank?", "name"]


@pytest.mark.parametrize(
    ("text", "columns"),
    [
        ("name;emotion;valence (-5,5)\na;joy;1,5\n", ["name", "emotion", "valence (-5,5)"]),
        ("name\tsaid; heard\na\tb\n", ["name", "said; heard"]),
        ("name,a;b\nx,y\n", ["name", "a;b"]),
    ],
)
def test_the_separator_is_what_makes_a_name_of_the_header(tmp_path: Path, text: str, columns: list[str]) -> None:
    assert list(read_csv(csv(tmp_path, text))) == columns


def test_a_hint_names_the_one_that_it_may_be() -> None:
    assert alike(["0001", "b"])("1") == "; there is '0001': a spreadsheet takes leading zeros away"
    assert alike(["a "])("a") == "; there is 'a ': spaces around a name count"
    assert [alike(["1", "01"])("1"), alike(["000", "0"])("00"), alike(["b"])("a")] == ["", "", ""]
