"""From a profile to a run of Algorithm 1: one way for the stages, the search and the controls."""

import inspect
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.controls import comparison
from mer_pnao.controls.run import run_controls
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.params.profile import Params
from mer_pnao.pruning.rounds import Optimisation, Round
from mer_pnao.search import trial as search_trial
from mer_pnao.systems import train as stages
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.optimisation import folds_of, optimisation_of
from mer_pnao.training.examples import Examples


def same(one: Optimisation, other: Optimisation) -> bool:
    """Whether two runs have one key in every round."""
    arrays = np.array_equal(one.folds, other.folds) and one.examples.digest() == other.examples.digest()
    plain = {"folds": one.folds, "examples": one.examples}
    return arrays and replace(other, **plain) == replace(one, **plain)  # type: ignore[arg-type]


def test_the_profile_decides_every_value(examples: Examples, small_profile: Params) -> None:
    params = small_profile.model_copy(update={"seeds": (3, 4)})
    run = optimisation_of("enf_pnao", examples, params)
    features = params.features
    assert run.blueprint == Blueprint(
        {"a": 12, "b": 10, "v": 8}, features.acoustic, features.visual, 3, "entropy", params.network, features.gathered
    )
    assert (run.training, run.pnao, run.seed) == (params.training, params.pnao, 3)
    assert optimisation_of("enf_pnao", examples, params, 4).seed == 4
    assert np.array_equal(run.folds, folds_of(examples, params))
    dense = optimisation_of("baseline", examples, params)
    assert dense.blueprint.fusion == "attention"
    assert dense.pnao == replace(params.pnao, alpha=0.0, rounds=0)


def test_stages_search_and_controls_ask_for_the_same_run(
    examples: Examples, small_profile: Params, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Only so does a stage find in the store what a search or the controls have trained."""
    asked: list[Optimisation] = []

    class Asked(Exception):  # noqa: N818
        """Nothing is to be trained here."""

    def refuse(of: Optimisation | list[Optimisation], *rest: object) -> Iterator[Round]:
        asked.extend(of if isinstance(of, list) else [of])
        raise Asked

    monkeypatch.setattr(stages, "optimise_in_step", refuse)
    monkeypatch.setattr(search_trial, "optimise_architecture", refuse)
    monkeypatch.setattr(comparison, "optimise_architecture", refuse)
    params = small_profile
    dataset = Dataset(examples, examples, params.corpus.labels)
    store = object()
    with pytest.raises(Asked):
        list(stages.run_systems({"enf_pnao": tmp_path}, dataset, params, store))  # type: ignore[arg-type]
    own = {knob.name: getattr(getattr(params, knob.section), knob.name) for knob in params.search.knobs()}
    task = search_trial.Task(examples, params, ("com",))
    counting = type("Counting", (), {"hits": 0, "misses": 0})()
    with pytest.raises(Asked):
        search_trial.objective(search_trial.FixedTrial(own), task, counting)
    with pytest.raises(Asked):
        list(run_controls(dataset, params, store))  # type: ignore[arg-type]
    of_stage, of_search, of_controls = asked
    most = replace(params.pnao, rounds=params.search.rounds.high)  # a search reads the number from the curve
    assert same(replace(of_stage, pnao=most), of_search)
    # The controls run every schedule out and rewind as the paper does, whatever the profile says.
    training = replace(params.training, patience=params.training.epochs)
    rounds = replace(params.pnao, rounds=max(params.controls.rounds), rewind="learning_rate")
    assert same(replace(of_stage, training=training, pnao=rounds), of_controls)


def test_what_shapes_the_network_is_code_that_its_stages_depend_on() -> None:
    """DVC tracks the values of params.yaml, not the code in params/: nothing in there may shape a network."""
    assert "systems" in Path(inspect.getfile(optimisation_of)).parts
    assert not [
        name for name, member in vars(Params).items() if "Blueprint" in str(getattr(member, "__annotations__", ""))
    ]
