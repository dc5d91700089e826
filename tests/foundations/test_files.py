"""Files are written whole or not at all, and what is no JSON object is refused in a sentence."""

from pathlib import Path

import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed, read_json, replacing, work_folder, write_json, write_text

ROOT = Path(__file__).parents[2]


def test_a_writer_that_fails_leaves_what_was_there_and_nothing_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    write_text(path, "ä")

    def fail() -> None:
        with replacing(path) as beside:
            beside.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert path.read_text(encoding="utf-8") == "ä"
    with pytest.raises(ValueError, match="JSON compliant"):
        write_json(path, {"value": float("nan")})
    assert [file.name for file in path.parent.iterdir()] == ["file.txt"]
    with replacing(path) as beside:
        beside.write_text("whole")
        assert path.read_text(encoding="utf-8") == "ä"  # until the last moment
    assert path.read_text() == "whole"


@pytest.mark.parametrize(
    ("content", "said"),
    [(b"{", "is not readable JSON"), (b"\xff", "is not readable JSON"), (b"[]", "is not a JSON object"),
     (b"[" * 100_000, "is not readable JSON"), (None, "is not readable JSON: .*No such file")],
)  # fmt: skip
def test_what_is_no_json_object_is_refused_by_name(content: bytes | None, said: str, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "facts.json").write_bytes(content)
    with pytest.raises(InputError, match=rf"/facts\.json {said}"):
        read_json(tmp_path / "facts.json")


def test_names_are_composed_and_files_replaced_in_one_place() -> None:
    assert composed("Mu\u0308ller") == "M\u00fcller"
    source = ROOT / "src/mer_pnao"
    texts = {path.relative_to(source).as_posix(): path.read_text() for path in source.rglob("*.py")}
    for words in ('normalize("NFC"', "getpid()}"):
        assert [name for name, text in texts.items() if words in text] == ["foundations/files.py"]


@pytest.mark.parametrize(
    ("root", "folder"), [(None, "project/work"), ("", "project/work"), ("/checkout", "/checkout/work")]
)
def test_work_lies_in_the_checkout_that_dvc_names(
    monkeypatch: pytest.MonkeyPatch, root: str | None, folder: str
) -> None:
    monkeypatch.delenv("DVC_ROOT", raising=False)
    if root is not None:
        monkeypatch.setenv("DVC_ROOT", root)
    assert work_folder(Path("project")) == Path(folder)
