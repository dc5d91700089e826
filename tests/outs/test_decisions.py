"""What predictions.csv and branches.csv hold of a system's decisions."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import Decisions, branches_table, predictions_table, read_predictions

LABELS = ("angry", "neutral", "happy")
BRANCHES = ("low", "high")


@pytest.fixture
def written(tmp_path: Path) -> tuple[Path, Decisions]:
    r = np.random.default_rng(1)
    whole = Decisions(
        r.dirichlet(np.ones(3), 4), r.normal(size=4), r.dirichlet(np.ones(2), 4), r.dirichlet(np.ones(3), (4, 2))
    )
    names, path = ["NA", "1", "x", "y"], tmp_path / "predictions.csv"
    predictions_table(names, "test", whole, LABELS, BRANCHES).to_csv(path, index=False)
    branches_table(names, "test", whole, LABELS, BRANCHES).to_csv(tmp_path / "branches.csv", index=False)
    return path, whole


def test_what_is_written_is_read_back(written: tuple[Path, Decisions]) -> None:
    path, whole = written
    table, again = read_predictions(path, LABELS)
    assert table["name"].tolist() == ["NA", "1", "x", "y"]
    for one, other in zip(again.arrays, whole.arrays, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-15)
    rows = pd.read_csv(path.with_name("branches.csv"), dtype=str, keep_default_na=False)
    assert list(rows) == ["name", "split", "branch", "posterior_angry", "posterior_neutral", "posterior_happy"]
    assert rows[["name", "branch"]].to_numpy().tolist()[:3] == [["NA", "low"], ["NA", "high"], ["1", "low"]]
    assert float(rows["posterior_happy"][3]) == whole.branches[1, 1, 2]


def test_branches_that_do_not_fit_the_predictions_are_refused(written: tuple[Path, Decisions]) -> None:
    path, _ = written
    beside = path.with_name("branches.csv")
    lines = beside.read_text().splitlines(keepends=True)
    for spoilt in (lines[:-1], [lines[0], lines[2], lines[1], *lines[3:]]):
        beside.write_text("".join(spoilt))
        with pytest.raises(InputError, match=r"branches\.csv must hold a row for each clip of predictions\.csv and"):
            read_predictions(path, LABELS)
    beside.unlink()
    with pytest.raises(InputError, match=r"branches\.csv cannot be read: No such file"):
        read_predictions(path, LABELS)
