"""What a progress bar leaves behind, and what errors look like."""

import errno

import pytest
from safetensors import SafetensorError

from mer_pnao.foundations.console import input_errors, progress


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


@pytest.mark.parametrize(
    "full",
    [
        OSError(errno.ENOSPC, "No space left on device", "data/x"),
        OSError(errno.EDQUOT, "Disk quota exceeded"),
        SafetensorError("Error while serializing: I/O error: No space left on device (os error 28)"),
    ],
)
def test_a_full_disk_is_one_sentence(full, capsys):
    with pytest.raises(SystemExit, match="2"), input_errors():
        raise full
    said = capsys.readouterr().err
    assert said == f"error: there is no room left to write to ({full}); what is finished is kept\n"


def test_other_faults_keep_their_traceback():
    with pytest.raises(PermissionError), input_errors():
        raise PermissionError(errno.EACCES, "Permission denied")
    with pytest.raises(KeyError), input_errors():
        raise KeyError("x")
