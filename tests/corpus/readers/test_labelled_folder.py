"""Own clips: found wherever they lie below the folder, under the name that the CSV gives them."""

import unicodedata
from pathlib import Path

import pytest

from mer_pnao.corpus.manifest import CorpusError
from mer_pnao.corpus.readers.labelled_folder import clips_in, read_folder
from mer_pnao.foundations.errors import InputError

LABELS = ("angry", "happy")


def touch(root: Path, *places: str) -> None:
    for place in places:
        (root / place).parent.mkdir(parents=True, exist_ok=True)
        (root / place).touch()


def test_clips_lie_beside_the_labels_or_in_clips_at_any_depth(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,emotion\na,happy\nb c,angry\n")
    touch(tmp_path, "a.mp4", "day 1/b c.AVI", "day 1/notes.txt")
    assert read_folder(tmp_path, LABELS)["path"].tolist() == ["a.mp4", "day 1/b c.AVI"]
    touch(tmp_path, "clips/x/a.mov", "clips/b c.flv")
    assert read_folder(tmp_path, LABELS)["path"].tolist() == ["clips/x/a.mov", "clips/b c.flv"]


def test_every_missing_clip_is_named_by_row(tmp_path: Path) -> None:
    (tmp_path / "mine.csv").write_text("name,discrete\na,happy\nb,angry\nc,angry\n")
    touch(tmp_path, "clips/b.mp4")
    with pytest.raises(CorpusError, match=r"mine\.csv, row 2: .*clips holds no clip 'a' \(1 more") as raised:
        read_folder(tmp_path, LABELS, "mine.csv")
    assert "row 4" in raised.value.faults[1]


def test_a_space_or_leading_zeros_in_a_name_are_suspected_aloud(tmp_path: Path) -> None:
    (tmp_path / "labels.csv").write_text("name,discrete\n1,happy\nb ,angry\n0,happy\nc,angry\n")
    touch(tmp_path, "0001.mp4", "b.mp4", "000.mp4", "0010.mp4")
    with pytest.raises(CorpusError) as raised:
        read_folder(tmp_path, LABELS)
    ends = [fault.partition("holds no clip ")[2] for fault in raised.value.faults]
    assert ends == [
        "'1'; there is '0001': a spreadsheet takes leading zeros away",
        "'b '; there is 'b': spaces around a name count",
        "'0'; there is '000': a spreadsheet takes leading zeros away",
        "'c'",
    ]


def test_one_name_twice_is_refused(tmp_path: Path) -> None:
    touch(tmp_path, "x/a.mp4", "y/a.mov")
    with pytest.raises(InputError, match=r"holds clip 'a' twice: x/a\.mp4 and y/a\.mov"):
        clips_in(tmp_path)


def test_hidden_companions_are_left_alone(tmp_path: Path) -> None:
    touch(tmp_path, "a.mp4", "._a.mp4", "__MACOSX/a.mp4", ".cache/a.mp4")
    assert list(clips_in(tmp_path)) == ["a"]


@pytest.mark.parametrize(("on_disk", "in_table"), [("NFD", "NFC"), ("NFC", "NFD")])
def test_an_umlaut_is_one_name_however_it_is_spelled(tmp_path: Path, on_disk: str, in_table: str) -> None:
    name = "Grüße é"
    (tmp_path / "labels.csv").write_text(f"name,discrete\n{unicodedata.normalize(in_table, name)},happy\n")
    touch(tmp_path, f"{unicodedata.normalize(on_disk, name)}.mp4")
    table = read_folder(tmp_path, LABELS)
    assert table["name"].tolist() == [unicodedata.normalize("NFC", name)]
    assert (tmp_path / table["path"].iloc[0]).is_file()
    touch(tmp_path, f"{unicodedata.normalize(in_table, name)}.mp4")
    if len(list(tmp_path.iterdir())) == 3:  # a file system that keeps the two apart
        with pytest.raises(InputError, match="twice"):
            read_folder(tmp_path, LABELS)
