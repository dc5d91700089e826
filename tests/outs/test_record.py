"""record.json: one reader and writer, which gives back what it was given."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mer_pnao.evaluation.fusion_effect import FusionEffect
from mer_pnao.evaluation.scores import Scores
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.names import RECORD
from mer_pnao.outs.record import Member, Record, RoundOutcome, Settings, SingleNetworks

ROOT = Path(__file__).parents[2]
words, numbers = st.text(max_size=12), st.floats(allow_nan=False, allow_infinity=False)
counts = st.integers(0, 2**40)
plain = st.dictionaries(words, st.one_of(st.none(), st.booleans(), counts, numbers, words), max_size=4)
scores = st.builds(Scores, numbers, st.none() | numbers, numbers)
stated = {
    "algorithm": words,
    "acoustic": st.lists(words, max_size=3).map(tuple),
    "visual": st.lists(words, max_size=3).map(tuple),
    "naor": st.none() | numbers,
    "alpha": numbers,
    "rewind": st.none() | words,
    "scope": st.none() | words,
    "min_nodes": st.none() | counts,
    "rounds": st.none() | counts,
    "rule": st.none() | words,
    "ratio": st.none() | numbers,
    "scorers": st.none() | st.booleans(),
    "stop_early": st.none() | st.booleans(),
    "gathered": words,
    "fusion": words,
    "seed": counts,
    "fold_seed": counts,
    "folds": counts,
    "network": plain,
    "training": plain,
    "members": st.lists(st.builds(Member, system=words, round=st.none() | counts, weight=numbers), max_size=2).map(
        tuple
    ),
}
effects = st.builds(FusionEffect, *[counts] * 6, numbers)
rounds = st.builds(
    RoundOutcome,
    round=counts,
    best=st.booleans(),
    key=words,
    kept=st.dictionaries(words, st.tuples(numbers, counts), max_size=3),
    pruned_nodes=counts,
    nothing_pruned=st.booleans(),
    single=st.dictionaries(words, st.builds(SingleNetworks, scores=scores, fusion=effects), max_size=2),
)
records = st.builds(
    Record,
    system=words,
    settings=st.fixed_dictionaries({"profile": words}, optional=stated).map(lambda given: Settings(**given)),
    round=st.none() | rounds,
    parameters=counts,
    parameters_ratio=st.none() | numbers,
    scores=st.fixed_dictionaries({"trainval": scores, "test": scores}, optional={"noise": scores}),
    data_digest=words,
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(record=records)
def test_a_record_comes_back_as_it_was_written(record: Record, tmp_path: Path) -> None:
    record.write(tmp_path)
    again = Record.read(tmp_path)
    assert again == record
    assert again.settings.model_fields_set == record.settings.model_fields_set  # None is not the same as not stated
    assert json.loads((tmp_path / RECORD).read_text()) == record.flat()


WRITTEN: dict[str, Any] = {
    "system": "pnao",
    "profile": "demo",
    "acoustic": ["sound"],
    "round": 2,
    "best": True,
    "key": "k",
    "parameters": 9,
    "parameters_ratio": 0.5,
    "naor": 0.05,
    "rewind": None,
    "seed": 3,
    "training": {"epochs": 4},
    "kept": {"layer": [3.5, 6]},
    "pruned_nodes": 5,
    "nothing_pruned": False,
    "scores": {split: {"dis": 0.7, "dim": None, "com": 0.7} for split in ("trainval", "test")},
    "data_digest": "d",
}


def write(directory: Path, content: Any) -> None:
    (directory / RECORD).write_text(json.dumps(content))


def test_the_file_is_one_object_of_settings_and_outcome_side_by_side(tmp_path: Path) -> None:
    write(tmp_path, WRITTEN)
    record = Record.read(tmp_path)
    assert record.flat() == WRITTEN
    assert (record.number, record.com, record.settings.seed) == (2, 0.7, 3)
    assert record.settings.stated() == {name: WRITTEN[name] for name in WRITTEN if name in SETTINGS}
    assert record.marked(False).flat() == WRITTEN | {"best": False}


SETTINGS = ("profile", "acoustic", "naor", "rewind", "seed", "training")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"parameters": "many"}, "parameters: "),
        ({"scores": {"trainval": {"dis": 0.7, "dim": None, "com": 0.7}}}, "scores must have those of 'test'"),
        ({"scores": {**WRITTEN["scores"], "test": {"dis": 0.7}}}, "scores.test.dim: "),
        ({"kept": {"layer": [3.5]}}, "round.kept.layer"),
        ({"seed": "three"}, "settings.seed: "),
        ({"colour": "blue"}, "colour: "),
        ({"round": None}, "round.round: "),
    ],
)
def test_what_is_no_record_is_refused_in_one_sentence(change: dict[str, Any], said: str, tmp_path: Path) -> None:
    write(tmp_path, WRITTEN | change)
    with pytest.raises(InputError, match=rf"/record\.json is not the record of a finished round or system: .*{said}"):
        Record.read(tmp_path)


@pytest.mark.parametrize("key", ["system", "profile", "key", "best", "parameters", "scores", "data_digest"])
def test_what_a_record_lacks_is_named(key: str, tmp_path: Path) -> None:
    write(tmp_path, {name: value for name, value in WRITTEN.items() if name != key})
    with pytest.raises(InputError, match=rf"/record\.json is not the record .*\b{key}: Field required"):
        Record.read(tmp_path)


def test_what_is_no_json_object_is_refused(tmp_path: Path) -> None:
    for content, said in (("{", "is not a readable record: "), ("[]", "is not a JSON object")):
        (tmp_path / RECORD).write_text(content)
        with pytest.raises(InputError, match=rf"/record\.json {said}"):
            Record.read(tmp_path)
    (tmp_path / RECORD).unlink()
    with pytest.raises(InputError, match=r"/record\.json is not a readable record: .*No such file"):
        Record.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "home"),
    [
        (file, "outs/names.py")
        for file in ("record.json", "encoders.json", "curves.csv", "weights.csv", "predictions.csv", "branches.csv")
    ],
)
def test_an_output_is_named_in_one_place(name: str, home: str) -> None:
    source = ROOT / "src/mer_pnao"
    quoted = re.compile(rf"""["'/]{re.escape(name)}["']""")
    code = [*source.rglob("*.py"), *(ROOT / "pipelines").glob("*.py")]
    assert {str(path.relative_to(source)) for path in code if quoted.search(path.read_text())} == {home}
