"""`docs/paper.md` names a test for every equation, figure and ruling: each of them exists."""

import re
from pathlib import Path

TESTS = Path(__file__).parent


def test_every_test_that_the_page_names_is_there() -> None:
    page = (TESTS.parent / "docs/paper.md").read_text(encoding="utf-8")
    section = page.split("## The test that holds each")[1].split("\n## ")[0]
    rows = re.findall(r"^\| (.+) \| `([\w/]+\.py)`: (.+) \| .+ \|$", section, re.MULTILINE)
    held = " ".join(paper for paper, _, _ in rows)
    for part in (
        "eq. 1-4",
        "eq. 5-7",
        "eq. 8",
        "eq. 9",
        "eq. 10",
        "eq. 11",
        "Algorithm 1",
        "Table 1",
        "Fig. 2",
        "Fig. 3",
        "Fig. 4",
    ):
        assert part in held
    for _, path, names in rows:
        source = (TESTS / path).read_text(encoding="utf-8")
        found = re.findall(r"`(\w+)`", names)
        assert found
        assert not [name for name in found if f"def test_{name}(" not in source], path
