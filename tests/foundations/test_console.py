"""What a progress bar leaves behind."""

import pytest

from mer_pnao.foundations.console import progress


@pytest.mark.parametrize(("total", "left"), [(None, "600/600"), (600, "600/600"), (900, "600/900")])
def test_a_bar_without_a_total_ends_with_what_was_done(
    total: int | None, left: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COLUMNS", "100")
    with progress("counting", total) as done:
        for _ in range(6):
            done(100)
    last = capsys.readouterr().err
    assert left in last
    assert "?" not in last
