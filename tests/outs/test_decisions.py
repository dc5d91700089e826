"""What predictions.csv and branches.csv hold of a system's decisions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import Decisions, branches_table, predictions_table, read_predictions

LABELS = ("angry", "neutral", "happy")
BRANCHES = ("low", "high")
NAMES = ["NA", "1", "x", "y"]


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Decisions]:
    r = np.random.default_rng(1)
    whole = Decisions(
        r.dirichlet(np.ones(3), 4), r.normal(size=4), r.dirichlet(np.ones(2), 4), r.dirichlet(np.ones(3), (4, 2))
    )
    path = tmp_path / "predictions.csv"
    predictions_table(NAMES, "test", whole, LABELS, BRANCHES).to_csv(path, index=False)
    branches_table(NAMES, "test", whole, LABELS, BRANCHES).to_csv(tmp_path / "branches.csv", index=False)
    return path, whole


def test_what_is_written_is_read_back(written: tuple[Path, Decisions]) -> None:
    path, whole = written
    recorded = read_predictions(path, LABELS)
    assert recorded.table["name"].tolist() == NAMES
    again = recorded.decisions("test", NAMES)
    for one, other in zip(again.arrays, whole.arrays, strict=True):
        np.testing.assert_array_equal(one, other)
    rows = pd.read_csv(path.with_name("branches.csv"), dtype=str, keep_default_na=False)
    assert list(rows) == ["name", "split", "branch", "posterior_angry", "posterior_neutral", "posterior_happy"]
    assert rows[["name", "branch"]].to_numpy().tolist()[:3] == [["NA", "low"], ["NA", "high"], ["1", "low"]]
    assert float(rows["posterior_happy"][3]) == whole.branches[1, 1, 2]


def test_branches_that_do_not_fit_the_predictions_are_refused(written: tuple[Path, Decisions]) -> None:
    path, _ = written
    beside = path.with_name("branches.csv")
    lines = beside.read_text().splitlines(keepends=True)
    for spoilt in (lines[:-1], [*lines, lines[1]]):
        beside.write_text("".join(spoilt))
        with pytest.raises(InputError, match=r"branches\.csv must hold one row for each test clip and the branch '"):
            read_predictions(path, LABELS).decisions("test", NAMES)
    beside.unlink()
    with pytest.raises(InputError, match=r"branches\.csv is not readable: .*No such file"):
        read_predictions(path, LABELS)


def test_decisions_come_in_the_order_of_the_names_whatever_the_order_of_the_files(
    written: tuple[Path, Decisions],
) -> None:
    path, whole = written
    for file in (path, path.with_name("branches.csv")):
        head, *lines = file.read_text().splitlines(keepends=True)
        file.write_text("".join([head, *lines[::-1]]))
    got = read_predictions(path, LABELS).decisions("test", ["x", "NA", "y", "1"])
    for one, other in zip(got.arrays, whole.arrays, strict=True):
        np.testing.assert_array_equal(one, other[[2, 0, 3, 1]])
    assert got.posterior.flags.c_contiguous  # else confidences differ in their last digit


def test_predictions_of_other_clips_are_refused(written: tuple[Path, Decisions]) -> None:
    path, _ = written
    recorded = read_predictions(path, LABELS)
    with pytest.raises(
        InputError, match=r"predictions\.csv predicts the clip 'y', which the manifest does not have in"
    ):
        recorded.rows("test", NAMES[:3])
    assert recorded.rows("test", [*NAMES, "skipped"])["name"].tolist() == NAMES
    with pytest.raises(InputError, match=r"predictions\.csv holds no prediction for the clip 'z' in the split 'test'"):
        recorded.decisions("test", [*NAMES, "z"])
