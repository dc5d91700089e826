"""Any table that a person or a program may write is read as it says, or refused in a sentence: never a crash."""

import csv
import io
import unicodedata
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mer_pnao.corpus.manifest import COLUMNS, read_csv, read_labels, read_manifest
from mer_pnao.features.remarks import read_remarks, write_remarks
from mer_pnao.foundations.errors import InputError

LABELS = ("neutral", "angry", "happy")
HEADERS = st.lists(
    st.sampled_from([*COLUMNS, "emotion", "encoder", "action", "reason", "", "x", " name"]), min_size=1, max_size=8
)
CELLS = st.one_of(
    st.sampled_from(["", "a", "b", "NA", "nan", "happy", "angry", "train", "test", "noise", "skipped", "-10", "1e999"]),
    st.sampled_from(
        ["0.5", "-5", "٣", "0x1", "1_0", "9" * 400, "..", "a/b", "\ufeff", "\x00", "\r", "\n", '"', "=1+1"]
    ),
    st.text(max_size=6),
)
TEXTS = st.builds(
    lambda head, rows, end, quoting, mark: mark + _write([head, *rows], end, quoting),
    HEADERS,
    st.lists(st.lists(CELLS, max_size=9), max_size=6),
    st.sampled_from(["\n", "\r\n", "\r"]),
    st.sampled_from(["proper", "none"]),
    st.sampled_from(["", "\ufeff"]),
)
BYTES = st.one_of(
    TEXTS.map(lambda text: text.encode("utf-8", "surrogatepass")),
    TEXTS.map(lambda text: text.encode("utf-16", "replace")),
    st.binary(max_size=60),
)
OFTEN = settings(max_examples=300, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)


def _write(rows: list[list[str]], end: str, quoting: str) -> str:
    if quoting == "none":
        return end.join(",".join(row) for row in rows)
    text = io.StringIO()
    csv.writer(text, lineterminator=end).writerows(rows)
    return text.getvalue()


@OFTEN
@given(content=BYTES)
def test_any_file_is_a_table_or_an_input_error(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "table.csv"
    path.write_bytes(content)
    for read in (read_csv, lambda path: read_labels(path, LABELS), lambda path: read_labels(path, ()), read_manifest):
        with suppress(InputError):
            table = read(path)
            assert all(isinstance(cell, str) for column in table if column != "valence" for cell in table[column])
    with suppress(InputError):
        read_remarks(path)


WORDS = st.text(st.characters(codec="utf-8", exclude_categories=("C", "Z")), min_size=1, max_size=8)
NAMES = st.text(
    st.characters(codec="utf-8", exclude_categories=("C", "Zl", "Zp"), exclude_characters="/\\"), min_size=1
)
ROWS = st.lists(
    st.tuples(
        NAMES.map(lambda name: unicodedata.normalize("NFC", name)).filter(lambda name: name not in (".", "..")),
        WORDS,
        st.one_of(st.just(""), st.floats(-5, 5).map(repr)),
        st.one_of(st.just(""), WORDS),
        st.sampled_from(["train", "test", "noise"]),
    ),
    min_size=1,
    max_size=6,
    unique_by=lambda row: row[0],
)


@OFTEN
@given(
    rows=ROWS,
    order=st.permutations(["name", "discrete", "valence", "speaker", "split"]),
    end=st.sampled_from(["\n", "\r\n"]),
)
def test_a_right_table_is_read_cell_for_cell(
    tmp_path: Path, rows: list[tuple[str, ...]], order: list[str], end: str
) -> None:
    columns = ["name", "discrete", "valence", "speaker", "split"]
    shuffled = [[row[columns.index(column)] for column in order] for row in rows]
    path = tmp_path / "labels.csv"
    path.write_bytes(_write([order, *shuffled], end, "proper").encode())
    table = read_labels(path, ())
    for place, column in enumerate(columns):
        expected = [row[place] for row in rows]
        if column == "valence":
            np.testing.assert_array_equal(table[column], [float(text) if text else np.nan for text in expected])
        else:
            assert table[column].tolist() == expected


def test_a_table_of_skipped_clips_with_other_cells_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "skipped.csv"
    write_remarks(path, [])
    header = path.read_text()
    for row in ("a,b,skipped\n", "a,b,skipped,c,d\n", "a,b,eaten,c\n", 'a,b,skipped,"c\n', "a,b,skipped,\udcff\n"):
        path.write_bytes((header + row).encode("utf-8", "surrogateescape"))
        with pytest.raises(InputError, match=r"skipped\.csv is not a table of skipped clips"):
            read_remarks(path)
