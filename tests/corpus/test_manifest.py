"""Labels and manifests: what is read, and each wrong table refused by row and file."""

from contextlib import suppress
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mer_pnao.corpus.labelled_folder import read_folder
from mer_pnao.corpus.manifest import COLUMNS, read_labels, read_manifest, write_manifest
from mer_pnao.corpus.mertools import read_features_folder
from mer_pnao.errors import InputError

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
    assert table["split"].tolist() == ["train", "train"]
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
        ("name,discrete,split\na,happy,dev\n", "row 2: split 'dev' of clip 'a' is none of train, test"),
        ("clip,emotion\na,happy\n", "has no column 'name', only 'clip', 'emotion'"),
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


@given(st.text(max_size=200))
def test_any_text_is_a_table_or_an_input_error(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("csv") / "labels.csv"
    path.write_text(text, encoding="utf-8", errors="surrogatepass")
    with suppress(InputError):  # anything else is a crash
        assert set(read_labels(path, LABELS)["discrete"]) <= set(LABELS)


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


def test_labelled_folder_finds_its_clips(tmp_path: Path) -> None:
    csv(tmp_path, "name,discrete\na,happy\nb,angry\n")
    (tmp_path / "clips").mkdir()
    (tmp_path / "clips/a.mp4").touch()
    with pytest.raises(InputError, match=r"row 3: .*clips holds no clip 'b'"):
        read_folder(tmp_path, LABELS)
    (tmp_path / "clips/b.AVI").touch()
    assert read_folder(tmp_path, LABELS)["path"].tolist() == ["clips/a.mp4", "clips/b.AVI"]
    (tmp_path / "clips/b.mov").touch()
    with pytest.raises(InputError, match="holds clip 'b' twice"):
        read_folder(tmp_path, LABELS)


@pytest.mark.skipif(not SHARED.is_dir(), reason="the real data in ../shared/data is not here")
def test_real_label_tables() -> None:
    emotions = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
    ravdess = read_features_folder(SHARED / "ravdess", emotions)
    assert ravdess["split"].value_counts().to_dict() == {"train": 1080, "test": 360}
    assert ravdess["valence"].isna().all()
    assert ravdess["speaker"].nunique() == 24
    media = read_folder(SHARED / "media", emotions)
    assert len(media) == 24
    assert media["path"][0].startswith("clips/")
