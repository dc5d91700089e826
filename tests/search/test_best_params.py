"""best_params.yaml: written, and brought into params.yaml with its comments."""

import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.features.sets import write_shard
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import read_json
from mer_pnao.params.profile import load_params
from mer_pnao.params.search_space import Knob
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.search import best_params
from mer_pnao.search.best_params import BEST, apply_best, write_best
from mer_pnao.search.reading import read_record
from mer_pnao.search.record import RoundRecord, StudyRecord, TrialRecord
from mer_pnao.search.storage import open_storage
from mer_pnao.search.study import find_or_create
from mer_pnao.search.trial import COM, Task, load_task, settings_of
from mer_pnao.search.worker import work
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.train import run_systems

ROOT = Path(__file__).parents[2]


def trial(number: int, com: float, parameters: int = 100, rounds: int = 2, **values: object) -> TrialRecord:
    drawn = {"naor": 0.8, "alpha": 0.002, "rounds": rounds, **values}
    each = tuple(RoundRecord(f"key{i}", parameters, com + 0.1, 0.4, com) for i in range(rounds + 1))
    return TrialRecord(number, True, drawn, each, 200, 1, rounds, 1e9, 2.0, None, number == 0)  # type: ignore[arg-type]


def record_of(root: Path, *trials: TrialRecord, **change: object) -> StudyRecord:
    params = load_params(root / "params.yaml")
    knobs = params.search.knobs()
    content: dict[str, object] = {
        "name": "tiny-com-0123",
        "profile": params.profile,
        "objectives": ("com",),
        "com_at_least": 0.0,
        "knobs": knobs,
        "settings": settings_of(params, knobs),
        "data_digest": change.get("data_digest") or load_task(params, ()).train.digest(),
        "trials": trials,
        "importances": {},
        "lost": 0,
        "diverged": 0,
        "seconds": 3.0,
    }
    return StudyRecord(**(content | change))  # type: ignore[arg-type]


def test_the_highest_com_is_chosen_and_at_a_tie_what_is_smaller(project: Path) -> None:
    record = record_of(
        project, trial(0, 0.5), trial(1, 0.6, 90, 3), trial(2, 0.6, 80, 3), trial(3, 0.6, 80, 2), trial(4, 0.6, 80, 2)
    )
    assert record.chosen is not None
    assert record.chosen.number == 3
    smallest = record_of(project, *record.trials, objectives=("com", "parameters"), com_at_least=0.55)
    assert smallest.chosen is not None
    assert smallest.chosen.number == 3
    none = record_of(project, trial(0, 0.5, 9), trial(1, 0.6, 10), objectives=("com", "parameters"), com_at_least=0.7)
    assert none.chosen is not None
    assert none.chosen.number == 1
    assert [each.number for each in none.front] == [0, 1]


def test_applied_values_are_all_that_changes(project: Path, task: Task, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(best_params, "load_task", lambda *_: task)  # the profiles' clips are not here
    digest = task.train.digest()
    for profile in sorted((ROOT / "profiles").glob("*.yaml")):
        shutil.copyfile(profile, project / "params.yaml")
        text = (project / "params.yaml").read_text().replace("  rounds:", "  # of the paper\n  rounds:", 1)
        (project / "params.yaml").write_text(text)
        before = load_params(project / "params.yaml")
        write_best(record_of(project, trial(7, 0.6, rounds=3, naor=0.123), data_digest=digest), project / BEST)
        changed = apply_best(project)
        assert changed == [
            ("pnao.naor", before.pnao.naor, 0.123),
            ("pnao.alpha", before.pnao.alpha, 0.002),
            ("pnao.rounds", before.pnao.rounds, 3),
        ]
        after = (project / "params.yaml").read_text()
        differing = [
            (one, other) for one, other in zip(text.splitlines(), after.splitlines(), strict=True) if one != other
        ]
        assert [other for _, other in differing] == ["  naor: 0.123", "  alpha: 0.002", "  rounds: 3"]
        assert load_params(project / "params.yaml").pnao.rounds == 3
        assert apply_best(project) == []
        assert not list(project.glob(".params*"))


def test_the_winner_is_not_trained_again(project: Path, task: Task, tmp_path: Path) -> None:
    """After `apply`, the stage finds every round of the chosen trial in the store; its last one is what was found."""
    storage, registry = open_storage(project, None)
    study, _ = find_or_create(storage, registry, task)
    work(study, registry, 6, task, DiskRoundStore(tmp_path / "rounds"))
    record = read_record(study, task)
    write_best(record, project / BEST)
    apply_best(project)
    params, store = load_params(project / "params.yaml"), DiskRoundStore(tmp_path / "rounds")
    chosen = record.chosen
    assert chosen is not None
    assert {name: getattr(params.pnao, name) for name in chosen.values} == chosen.values
    folders = list(run_systems({"enf_pnao": tmp_path / "models"}, dataset_of(params), params, store))
    assert (store.hits, store.misses) == (params.pnao.rounds + 1, 0)
    last = read_json(folders[-1] / "record.json")
    assert (last["scores"]["trainval"]["com"], last["parameters"]) == (chosen.best.com, chosen.best.parameters)
    assert load_task(params, (COM,)).train.digest() == task.train.digest()


def test_without_a_complete_trial_there_is_nothing_to_write(project: Path) -> None:
    with pytest.raises(InputError, match=r"the study tiny-com-0123 has no trial that ran to its end"):
        write_best(record_of(project), project / BEST)
    assert not (project / BEST).exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "profile: tiny",
            "profile: demo",
            r"best_params\.yaml is of the profile 'demo', and .*params\.yaml holds 'tiny'",
        ),
        ("    naor:", "    noar:", r"best_params\.yaml: values\.pnao\.noar is nothing that a search finds"),
        (
            "naor: 0.8",
            "naor: 8.5",
            r"best_params\.yaml would make a wrong params\.yaml: pnao\.naor must lie in \[0, 1\]",
        ),
        ("naor: 0.8", "naor: many", r"best_params\.yaml would make a wrong params\.yaml: pnao\.naor.*got 'many'"),
        ("trial: 7", "trial: x", r"best_params\.yaml: trial: input should be a valid integer"),
        ("trial: 7\n", "", r"best_params\.yaml: trial: field required"),
        ("trial: 7", "trial: [7", r"best_params\.yaml is not readable YAML: line"),
    ],
)
def test_a_file_that_does_not_fit_changes_nothing(project: Path, old: str, new: str, message: str) -> None:
    write_best(record_of(project, trial(7, 0.6)), project / BEST)
    text, before = (project / BEST).read_text(), (project / "params.yaml").read_bytes()
    assert text.count(old) == 1
    (project / BEST).write_text(text.replace(old, new))
    with pytest.raises(InputError, match=message) as raised:
        apply_best(project)
    assert "\n" not in str(raised.value)
    assert (project / "params.yaml").read_bytes() == before
    assert not list(project.glob(".params*"))


@pytest.mark.parametrize(
    ("section", "name", "value", "then"),
    [("training", "epochs", 9, 3), ("pnao", "min_nodes", 9, 4), ("network", "hidden", 9, 12)],
)
def test_changed_params_are_refused(
    project: Path, change: Callable[..., None], section: str, name: str, value: object, then: object
) -> None:
    write_best(record_of(project, trial(7, 0.6)), project / BEST)
    change(section, name, value)
    with pytest.raises(
        InputError, match=rf"was found with {section}\.{name} = {then}, and .*params\.yaml has {value}: search again"
    ):
        apply_best(project)


def test_other_training_clips_features_or_code_are_refused(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_best(record_of(project, trial(7, 0.6)), project / BEST)
    before, manifest = (project / "params.yaml").read_bytes(), project / "data/tiny/manifest.csv"
    clips, features = manifest.read_text(), project / "data/tiny/features"
    other_clips = r"best_params\.yaml was found with other training clips or features than data/tiny has: search again"

    manifest.write_text(clips.replace(",r3,", ",r33,"))
    with pytest.raises(InputError, match=other_clips):
        apply_best(project)
    manifest.write_text(clips)

    shard = features / "v/v/part-00000.parquet"
    vectors = shard.read_bytes()
    names = [f"clip{i:02d}" for i in range(60)]
    write_shard(shard, names, np.ones((60, 4), np.float32))
    with pytest.raises(InputError, match=other_clips):
        apply_best(project)
    shard.write_bytes(vectors)

    with monkeypatch.context() as patch:
        patch.setattr(best_params, "algorithm_version", lambda: "another")
        with pytest.raises(InputError, match=r"best_params\.yaml was found with other code of the science than this"):
            apply_best(project)

    shutil.rmtree(features)
    with pytest.raises(InputError, match="features"):
        apply_best(project)
    assert (project / "params.yaml").read_bytes() == before


def test_other_test_clips_change_nothing(project: Path) -> None:
    write_best(record_of(project, trial(7, 0.6)), project / BEST)
    manifest = project / "data/tiny/manifest.csv"
    manifest.write_text(manifest.read_text().replace(",e3,", ",e33,"))
    assert apply_best(project)


def test_a_missing_file_says_what_to_run(project: Path) -> None:
    with pytest.raises(InputError, match=r"best_params\.yaml is not there: run `mer search` or `make search` first"):
        apply_best(project)


def test_an_open_list_is_applied_too(project: Path, change: Callable[..., None]) -> None:
    change("search", "hidden", "[8, 12]")
    change("search", "scorer", "[tanh, mean]")
    write_best(record_of(project, trial(1, 0.6, hidden=8, scorer="mean")), project / BEST)
    assert {key: now for key, _, now in apply_best(project)}["network.hidden"] == 8
    assert load_params(project / "params.yaml").network.scorer == "mean"
    assert Knob("hidden", (8, 12)).holds(9)
