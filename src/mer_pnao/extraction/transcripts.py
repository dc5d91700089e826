"""What is said in the clips: a table of transcripts."""

from collections.abc import Iterable, Mapping
from pathlib import Path

from mer_pnao.corpus.manifest import alike, read_csv
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed


def read_transcripts(path: Path, clips: Iterable[str], column: str = "text") -> Mapping[str, str]:
    """Clip -> its words, "" for none, of a CSV file with the columns `name` and, often one a language, `column`.

    Names are in Unicode's composed form (NFC). Raises what `read_csv` raises, and InputError for a missing column, a
    clip that is listed twice, one of the `clips` asked for that is listed but for spaces or leading zeros, or a table
    without a word of them.
    """
    table = read_csv(path)
    for needed in ("name", column):
        if needed not in table:
            raise InputError(f"{path} has no column {needed!r}, only {', '.join(map(repr, table.columns))}")
    words: dict[str, str] = {}
    for row, (name, text) in enumerate(zip(table["name"].map(composed), table[column], strict=True), start=2):
        if name in words:
            raise InputError(f"{path}, row {row}: clip {name!r} is listed twice")
        words[name] = text.strip()
    clips = set(clips)
    hint = alike(words.keys() - clips)
    for name in sorted(clips - words.keys()):
        if hint(name):
            raise InputError(f"{path} has no clip {name!r}{hint(name)}")
    if not any(words.get(name) for name in clips):
        raise InputError(f"{path} has no word of any of the clips in its column {column!r}")
    return words
