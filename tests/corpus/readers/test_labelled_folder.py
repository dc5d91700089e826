"""Own clips: found wherever they lie below the folder, under the name that the CSV gives them."""

import unicodedata
from pathlib import Path

import pytest

from mer_pnao.commands.clips import clip_name, clips_of
from mer_pnao.corpus.manifest import CorpusError
from mer_pnao.corpus.readers.labelled_folder import clips_in, read_folder
from mer_pnao.foundations.errors import InputError
from mer_pnao.serving.page import the_page

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


@pytest.mark.parametrize("ending", [".MTS", ".m4v", ".ts", ".3gp", ".wmv", ".MP4", ".m2ts", ".mpg", ".ogv"])
def test_a_clip_is_found_whatever_camera_wrote_it(tmp_path: Path, ending: str) -> None:
    touch(tmp_path, f"clips/a{ending}")
    assert list(clips_in(tmp_path)) == ["a"]
    assert list(clips_of([str(tmp_path / "clips" / "*")])) == ["a"]
    assert clip_name(f"a.b{ending}") == "a.b"
    assert ending.lower() in str(the_page().body)


def test_a_linked_folder_is_gone_through_once_and_by_its_own_place(tmp_path: Path) -> None:
    root, other = tmp_path / "root", tmp_path / "other disk"
    touch(root, "c/real/a.mp4", "e.mp4")
    touch(other, "b.mp4", "deep/d.mp4")
    touch(tmp_path, "not of it.mp4")
    for link, target in {
        "a link": root / "c" / "real",
        "b": other,
        "b again": other / "deep",
        "c/up": root,
        "c/real/above": tmp_path,
        "gone": tmp_path / "gone",
        "f.mp4": other / "b.mp4",
    }.items():
        (root / link).symlink_to(target)
    (other / "back").symlink_to(root)
    found = {name: path.relative_to(root).as_posix() for name, path in clips_in(root).items()}
    assert found == {"a": "c/real/a.mp4", "b": "b/b.mp4", "d": "b/deep/d.mp4", "e": "e.mp4", "f": "f.mp4"}
    (tmp_path / "link").symlink_to(root)
    assert list(clips_in(tmp_path / "link")) == list(found)


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
