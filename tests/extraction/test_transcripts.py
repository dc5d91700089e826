"""What is said in the clips, from tables as the challenges and people write them."""

from pathlib import Path

import pytest

from mer_pnao.extraction.transcripts import read_transcripts
from mer_pnao.foundations.errors import InputError


def test_a_column_is_a_language_and_a_name_is_composed(tmp_path: Path) -> None:
    table = tmp_path / "subtitle_chieng.csv"
    table.write_text(
        '\ufeffname,chinese,english\nmu\u0308ller,我很高兴," I am happy, so happy "\nb,,\n', encoding="utf-8"
    )
    assert read_transcripts(table, ["müller"], "chinese") == {"müller": "我很高兴", "b": ""}
    assert read_transcripts(table, ["müller"], "english") == {"müller": "I am happy, so happy", "b": ""}


def test_tabs_and_semicolons_separate_and_words_keep_their_commas(tmp_path: Path) -> None:
    table = tmp_path / "transcripts.csv"
    for separator in "\t;":
        table.write_text(f"name{separator}text\na{separator}well, 1,5\n", encoding="utf-8")
        assert read_transcripts(table, ["a"]) == {"a": "well, 1,5"}


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("name,chinese\na,我\n", "has no column 'text', only 'name', 'chinese'"),
        ("clip,text\na,b\n", "has no column 'name'"),
        ("name,text\na,b\na,c\n", "row 3: clip 'a' is listed twice"),
        ("name,text\na,\nb, \n", "has no word of any of the clips in its column 'text'"),
        ("name,text\na,b\nb ,c\n", "has no clip 'b'; there is 'b ': spaces around a name count"),
        ("name,text\na,b\n0b,c\n", "has no clip 'b'; there is '0b': a spreadsheet takes leading zeros away"),
        ("Said\nname;text\na;b\n", "has 'Said' above its header: delete what is above row 2"),
        ("name,text\nx,y\n", "has no word of any of the clips"),
    ],
)
def test_what_is_no_table_of_transcripts_is_refused(tmp_path: Path, content: str, said: str) -> None:
    table = tmp_path / "transcripts.csv"
    table.write_text(content, encoding="utf-8")
    with pytest.raises(InputError, match=said):
        read_transcripts(table, ["a", "b"])
