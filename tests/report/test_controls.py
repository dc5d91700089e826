"""`reports/controls.csv`, its figure and its print, from outcomes with a known truth."""

import io
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from matplotlib.image import imread
from rich.console import Console

from mer_pnao.controls.names import METHODS, PNAO, TITLES
from mer_pnao.controls.run import Outcome
from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.evaluation.scores import score
from mer_pnao.report.controls import controls_table, print_controls, write_controls
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.examples import Examples

SIZES = (1, 3)
SEEDS = (0, 7, 8)


def dataset_of(valence: bool) -> Dataset:
    rng = np.random.default_rng(0)

    def part(clips: int) -> Examples:
        values = rng.normal(0, 1, clips) if valence else np.full(clips, np.nan)
        names = tuple(f"c{i}" for i in range(clips))
        features = {"a": np.zeros((clips, 1), np.float32)}
        return Examples(names, features, rng.integers(0, 3, clips), values.astype(np.float32), None, 3)

    return Dataset(part(90), part(60), ("x", "y", "z"))


def outcomes_of(dataset: Dataset, seeds: tuple[int, ...]) -> list[Outcome]:
    """The dense network is right most often, then PNAO, then the rest; each seed errs elsewhere."""
    skill = dict.fromkeys(METHODS, 0.6) | {"dense": 0.95, PNAO: 0.8}

    def decide(examples: Examples, method: str, size: int, seed: int) -> Predicted:
        rng = np.random.default_rng([seed, size, METHODS.index(method)])
        wrong = rng.random(len(examples)) > skill[method]
        valence = np.nan_to_num(examples.valence) + rng.normal(0, 0.5, len(examples))
        return Predicted(np.where(wrong, (examples.emotion + 1) % 3, examples.emotion), valence)

    return [
        Outcome(
            method,
            size,
            seed,
            10 * (size + 1),
            1000.0 if method == "dense" else 1000 - 200 * size + seed,
            decide(dataset.train, method, size, seed),
            decide(dataset.test, method, size, seed),
        )
        for seed in seeds
        for method in METHODS
        for size in SIZES
    ]


@pytest.mark.parametrize("valence", [True, False])
def test_a_row_holds_means_over_the_seeds_and_their_spread(valence: bool) -> None:
    dataset = dataset_of(valence)
    outcomes = outcomes_of(dataset, SEEDS)
    table = controls_table(outcomes, dataset, "demo", 200, 0).set_index(["method", "round"])
    assert list(table.index) == [(method, size) for size in SIZES for method in METHODS]
    for (method, size), row in table.iterrows():
        mine = [each for each in outcomes if (each.method, each.size) == (method, size)]
        for column, split, examples in (("com", "test", dataset.test), ("trainval_com", "trainval", dataset.train)):
            decided = [getattr(each, split) for each in mine]
            coms = [score(examples.emotion, d.emotion, examples.valence, d.valence).com for d in decided]
            assert row[column] == pytest.approx(np.mean(coms))
            assert row[f"{column}_std"] == pytest.approx(pd.Series(coms).std())
        assert row["parameters"] == (1000 if method == "dense" else 1000 - 200 * size + 5)
        assert row["parameters_ratio"] == pytest.approx(row["parameters"] / 1000)
        assert (row["seeds"], row["epochs"], row["profile"]) == (3, 10 * (size + 1), "demo")
        assert row["com_low"] < row["com"] < row["com_high"]
        assert np.isnan(row["dim"]) != valence
        assert row["gain"] == pytest.approx(row["com"] - table.loc[(PNAO, size), "com"])
    assert (table.loc["dense", "p_better_than_pnao"] > 0.95).all()
    assert (table.loc["dense", "trainval_p_better_than_pnao"] > 0.95).all()
    assert (table.loc["random", "p_better_than_pnao"] < 0.05).all()
    assert (table.loc[PNAO, "p_better_than_pnao"] == 0.5).all()


def test_one_seed_is_the_paired_bootstrap_and_has_no_spread() -> None:
    dataset = dataset_of(True)
    outcomes = outcomes_of(dataset, (0,))
    table = controls_table(outcomes, dataset, "demo", 200, 3).set_index(["method", "round"])
    systems = {each.method: each.test for each in outcomes if each.size == 3}
    want = paired_bootstrap(dataset.test.emotion, dataset.test.valence, systems, PNAO, 200, 3)
    for method in METHODS:
        row = table.loc[(method, 3)]
        assert (row["com_low"], row["com_high"]) == (want[method].com_low, want[method].com_high)
        assert row["p_better_than_pnao"] == want[method].p_better
        assert np.isnan(row["com_std"])


@pytest.mark.parametrize("valence", [True, False])
@pytest.mark.parametrize("seeds", [(0,), SEEDS])
def test_files_are_whole_and_the_same_twice(valence: bool, seeds: tuple[int, ...], tmp_path: Path) -> None:
    dataset = dataset_of(valence)
    table = controls_table(outcomes_of(dataset, seeds), dataset, "demo", 100, 0)
    for name in ("one", "two"):
        write_controls(table, valence, tmp_path / name)
    for name in ("controls.csv", "controls.png"):
        assert (tmp_path / "one" / name).read_bytes() == (tmp_path / "two" / name).read_bytes()
    assert [path.name for path in sorted((tmp_path / "one").iterdir())] == ["controls.csv", "controls.png"]
    again = pd.read_csv(tmp_path / "one/controls.csv")
    pd.testing.assert_frame_equal(again, table.round(6), check_dtype=False, atol=1e-6)
    assert imread(tmp_path / "one/controls.png").std() > 0.05


@pytest.mark.parametrize("seeds", [(0,), SEEDS])
def test_the_print_fits_a_terminal_of_80_columns(seeds: tuple[int, ...]) -> None:
    dataset = dataset_of(True)
    table = controls_table(outcomes_of(dataset, seeds), dataset, "demo", 100, 0)
    worst = ["trainval_com", "com", "com_low", "com_high"]
    table.loc[0, worst] = -table.loc[0, worst]  # Com is negative where valence is far off
    console = Console(file=io.StringIO(), width=80)
    print_controls(table, console)
    said = console.file.getvalue()  # type: ignore[attr-defined]
    lines = [line for line in said.splitlines() if any(line.strip().startswith(title) for title in TITLES.values())]
    assert len(lines) == len(METHODS) * len(SIZES)
    for line, row in zip(lines, table.to_dict("records"), strict=True):
        assert TITLES[row["method"]] in line
        assert f"{row['com']:.3f}" in line
        assert f"{row['com_low']:.2f} … {row['com_high']:.2f}" in line
        assert line.count("…") == 1  # the interval's; nothing is cut off
    assert all(len(one) == len(other) for one, other in pairwise(lines))
