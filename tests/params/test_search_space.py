"""The space: its grids, and what of it is refused."""

import math
import re
from itertools import pairwise, product
from pathlib import Path

import pytest
from optuna.study import create_study

from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import load_params
from mer_pnao.params.search_space import Knob, LogGrid, SearchConfig, WholeRange
from mer_pnao.search.sampler import OnGrid
from mer_pnao.search.trial import draw, with_values

PROFILE = Path(__file__).parents[2] / "profiles/demo.yaml"
PROFILES = sorted(PROFILE.parent.glob("*.yaml"))


def test_a_grid_has_both_ends_and_equal_ratios() -> None:
    values = LogGrid(0.0125, 0.4, 6).values
    assert values == (0.0125, 0.025, 0.05, 0.1, 0.2, 0.4)
    odd = LogGrid(0.01234567, 0.9876543, 9).values
    assert (odd[0], odd[-1]) == (0.01234567, 0.9876543)
    ratios = [after / before for before, after in pairwise(odd)]
    assert all(math.isclose(ratio, (odd[-1] / odd[0]) ** (1 / 8), rel_tol=0.01) for ratio in ratios)
    assert LogGrid(0.3, 0.3, 1).values == (0.3,)


@pytest.mark.parametrize("path", PROFILES, ids=lambda path: path.stem)
def test_a_profiles_space_holds_its_own_values_and_its_budget_no_more_than_the_space(path: Path) -> None:
    params = load_params(path)
    for knob in params.search.knobs():
        assert knob.holds(getattr(getattr(params, knob.section), knob.name)), knob.name
    assert params.search.trials <= params.search.points + 1, "its own values may lie between the grid's points"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("naor", "{low: 0.5, high: 0.1, points: 3}", r"search\.naor\.high must be at least 0\.5, got 0\.1"),
        ("naor", "{low: 0.0, high: 0.1, points: 3}", r"search\.naor\.low must be greater than 0, got 0\.0"),
        ("naor", "{low: 0.1, high: 0.5, points: 0}", r"search\.naor\.points must lie in \[1, 1000\], got 0"),
        ("naor", "{low: 0.1, high: 0.5, points: 1}", r"search\.naor\.points must be at least 2 to hold both"),
        ("naor", "{low: 0.1, high: 0.1, points: 2}", r"search\.naor\.points must leave values .* differ .* got 2"),
        ("naor", "{low: 0.1, high: 0.101, points: 9}", r"search\.naor\.points must leave values .* got 9"),
        ("naor", "{low: 0.1, high: 1.5, points: 3}", r"search\.naor must lie in \[0, 1\], got 1\.5"),
        ("naor", "{low: 0.1, high: 0.5}", r"search\.naor\.points is missing"),
        ("naor", "{low: 0.1, high: 0.5, points: 3, step: 1}", r"search\.naor\.step is not a known parameter"),
        ("alpha", "[0.1, 0.2]", r"search\.alpha: "),
        ("rounds", "{low: 4, high: 3}", r"search\.rounds\.high must be at least 4, got 3"),
        ("rounds", "{low: 4, high: 100}", r"search\.rounds must lie in \[0, 99\], got 100"),
        ("hidden", "[64]", r"search\.hidden must hold at least two values, or none, got only 64"),
        ("hidden", "[64, 32]", r"search\.hidden must rise, got \[64, 32\]"),
        ("hidden", "[0, 32]", r"search\.hidden must lie in \[1, 65536\], got 0"),
        ("dropout", "[0.1, 0.99]", r"search\.dropout must lie in \[0, 0\.95\], got 0\.99"),
        ("learning_rate", "[0.0, 0.1]", r"search\.learning_rate must be greater than 0, got 0\.0"),
        ("scorer", "[tanh, dot]", r"search\.scorer must be one of linear, mean, mlp, tanh, got 'dot'"),
        ("scorer", "[tanh, tanh]", r"search\.scorer must name each word once"),
        ("trials", "0", r"search\.trials must lie in \[1, 100000\], got 0"),
    ],
)
def test_wrong_spaces_are_refused_in_one_sentence(tmp_path: Path, name: str, value: str, message: str) -> None:
    path = tmp_path / "params.yaml"
    text = re.sub(rf"(?ms)(^search:.*?^  {name}:).*?(?=^  \w)", rf"\1 {value}\n", PROFILE.read_text(), count=1)
    path.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        load_params(path)
    assert "\n" not in str(raised.value)


def test_every_draw_lies_on_the_grid_and_depends_on_the_trials_before_it_alone() -> None:
    config = SearchConfig(
        naor=LogGrid(0.1, 0.8, 4),
        alpha=LogGrid(1e-5, 1e-3, 3),
        rounds=WholeRange(2, 5),
        hidden=(16, 40, 128),
        dropout=(0.1, 0.2, 0.5),
        scorer=("tanh", "mean"),
    )
    assert [knob.name for knob in config.knobs()] == ["naor", "alpha", "rounds", "hidden", "dropout", "scorer"]
    knobs = config.drawn()
    assert [knob.name for knob in knobs] == ["naor", "alpha", "hidden", "dropout", "scorer"]
    assert config.points == 4 * 3 * 3 * 3 * 2

    def search(interrupted: bool) -> list[dict[str, object]]:
        study, drawn = create_study(sampler=OnGrid(knobs, 5), direction="maximize"), []
        for number in range(24):
            if interrupted and number % 5 == 0:
                study.sampler = OnGrid(knobs, 5)
            trial = study.ask()
            drawn.append(draw(trial, knobs))
            study.tell(trial, -abs(math.log(trial.params["naor"] / 0.2)) - 0.01 * trial.params["dropout"])
        return drawn

    drawn = search(interrupted=False)
    for values in drawn:
        assert all(values[knob.name] in knob.grid for knob in knobs)
    for knob in knobs:  # the first, random trials do not move all knobs together
        assert len({values[knob.name] for values in drawn[:10]}) > 1
    pairs = {(values["naor"], values["alpha"]) for values in drawn[:10]}
    assert len(pairs) > 4
    assert drawn == search(interrupted=True)
    late = [values["naor"] for values in drawn[14:]]
    assert late.count(0.2) > len(late) / 2, "TPE goes where the values are"


@pytest.mark.parametrize("directions", [["maximize"], ["maximize", "minimize"]])
def test_a_space_is_drawn_to_its_end_without_a_point_twice(directions: list[str]) -> None:
    """The trials beyond the first ten are TPE's, which would go where the values are."""
    config = SearchConfig(
        naor=LogGrid(0.1, 0.8, 4), alpha=LogGrid(1e-4, 1e-4, 1), hidden=(16, 40, 128), scorer=("tanh", "mean")
    )
    knobs = config.drawn()
    study = create_study(sampler=OnGrid(knobs, 5), directions=directions)
    between = {"naor": 0.3, "alpha": 1e-4, "hidden": 40, "scorer": "mean"}
    study.enqueue_trial(between)  # it takes no point of the grid
    points = []
    for _ in range(1 + config.points):
        trial = study.ask()
        points.append(tuple(draw(trial, knobs).values()))
        value = -abs(math.log(trial.params["naor"] / 0.2))
        study.tell(trial, [value, trial.params["hidden"]][: len(directions)])
    assert points[0] == tuple(between.values())
    assert sorted(points[1:]) == sorted(product(*(knob.grid for knob in knobs)))


def test_the_nearest_point_is_measured_by_ratio_where_the_grid_has_ratios() -> None:
    assert Knob("naor", (0.1, 1.0)).nearest(0.3) == 0.1
    assert Knob("naor", (0.1, 1.0)).nearest(0.33) == 1.0
    assert Knob("dropout", (0.1, 0.5)).nearest(0.31) == 0.5


def test_values_go_to_their_sections() -> None:
    params = load_params(PROFILE)
    changed = with_values(params, {"naor": 0.7, "rounds": 1, "hidden": 99, "learning_rate": 0.5})
    assert (changed.pnao.naor, changed.pnao.rounds, changed.pnao.alpha) == (0.7, 1, params.pnao.alpha)
    assert (changed.network.hidden, changed.network.width) == (99, params.network.width)
    assert changed.training.learning_rate == 0.5
    assert params.pnao.naor == 0.05
