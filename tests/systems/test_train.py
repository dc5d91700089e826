"""The systems of Table 1 written to disk: probe, rounds, final, and what reads them back."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from sklearn.linear_model import LogisticRegression, Ridge
from sklearn.preprocessing import StandardScaler

from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import parallel_map
from mer_pnao.outs.decisions import Decisions, read_predictions
from mer_pnao.outs.networks import read_round
from mer_pnao.outs.record import best_round_directory
from mer_pnao.params.profile import Params
from mer_pnao.predict import read_model
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.pruning.rounds import MapFolds
from mer_pnao.report.page import Setting
from mer_pnao.report.write import write_report
from mer_pnao.systems.cost import parameters
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.final import combine_final
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.systems.probe import run_probe
from mer_pnao.systems.train import run_systems
from mer_pnao.training.config import FinalConfig
from mer_pnao.training.ensemble import choose_weight
from mer_pnao.training.examples import Examples
from mer_pnao.training.fit import predict
from mer_pnao.training.probe import fit_probe

LABELS = ("angry", "neutral", "happy")


@pytest.fixture
def params(small_profile: Params) -> Params:
    return small_profile.model_copy(update={"folds": 3, "pnao": PnaoConfig(naor=0.7, alpha=1e-3, rounds=2)})


@pytest.fixture
def dataset(examples: Examples) -> Dataset:
    rows = np.arange(len(examples))
    names = ("NA", *examples.names[1:])  # a clip may be called so
    examples = replace(examples, names=names)
    return Dataset(examples.select(rows[rows < 90]), examples.select(rows[rows >= 90]), LABELS)


@pytest.fixture(scope="module")
def known_rounds(tmp_path_factory: pytest.TempPathFactory) -> DiskRoundStore:
    """What one test has trained the others only read."""
    return DiskRoundStore(tmp_path_factory.mktemp("rounds"))


@pytest.fixture
def models(
    dataset: Dataset,
    params: Params,
    known_rounds: DiskRoundStore,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> Path:
    monkeypatch.chdir(tmp_path)
    for system in ("pnao", "enf_pnao"):
        list(run_systems({system: tmp_path / "models" / system}, dataset, params, known_rounds))
    return tmp_path / "models"


def decided(predictions: Path) -> tuple[pd.DataFrame, Decisions]:
    """The rows and the decisions of a whole file, in its order."""
    recorded = read_predictions(predictions, LABELS)
    parts = recorded.table.groupby("split", sort=False)["name"]
    each = [recorded.decisions(str(split), names.tolist()).arrays for split, names in parts]
    return recorded.table, Decisions(*map(np.concatenate, zip(*each, strict=True)))


def record_of(directory: Path) -> dict[str, object]:
    return json.loads((directory / "record.json").read_text())  # type: ignore[no-any-return]


def test_a_round_on_disk_repeats_its_recorded_predictions(models: Path, dataset: Dataset) -> None:
    directory = models / "enf_pnao/round-02"
    model = read_round(directory)
    table, recorded = decided(directory / "predictions.csv")
    again = model.decide(dataset.test.tensors())
    rows = (table["split"] == "test").to_numpy()
    assert table["name"][rows].tolist() == list(dataset.test.names)
    np.testing.assert_allclose(recorded.posterior[rows], again.posterior, rtol=1e-6)
    np.testing.assert_allclose(recorded.valence[rows], again.valence, rtol=1e-5)
    np.testing.assert_allclose(recorded.posterior.sum(axis=1), 1, atol=1e-5)
    entropy = -(recorded.posterior * np.log(recorded.posterior)).sum(axis=1)
    np.testing.assert_allclose(table["confidence"], 1 - entropy / np.log(3), atol=1e-6)


def test_the_record_says_what_the_files_hold(models: Path, dataset: Dataset) -> None:
    for directory in sorted((models / "pnao").glob("round-*")):
        record, model = record_of(directory), read_round(directory)
        assert record["parameters"] == round(np.mean([parameters(network) for network in model.networks]))
        assert record["data_digest"] == dataset.digest
        table, decisions = decided(directory / "predictions.csv")
        for split, examples in (("trainval", dataset.train), ("test", dataset.test)):
            rows = (table["split"] == split).to_numpy()
            expected = score(
                examples.emotion, decisions.posterior[rows].argmax(1), examples.valence, decisions.valence[rows]
            )
            assert record["scores"][split]["com"] == pytest.approx(expected.com)  # type: ignore[index]


def test_one_round_is_best_and_test_scores_do_not_choose_it(models: Path) -> None:
    for system in ("pnao", "enf_pnao"):
        records = [record_of(path) for path in sorted((models / system).glob("round-*"))]
        best = [record for record in records if record["best"]]
        assert len(best) == 1
        assert best[0]["scores"]["trainval"]["com"] == max(r["scores"]["trainval"]["com"] for r in records)  # type: ignore[index]
        assert best_round_directory(models / system).name == f"round-{best[0]['round']:02d}"


def test_weights_and_curves_are_whole(models: Path) -> None:
    weights = pd.read_csv(models / "pnao/round-01/weights.csv")
    assert weights["share"].sum() == pytest.approx(1)
    curves = pd.read_csv(models / "pnao/round-01/curves.csv")
    assert curves.groupby("fold").size().tolist() == [3, 3, 3]


@pytest.mark.parametrize("probe", [False, True])
def test_final_is_the_weighted_sum_of_its_members(probe: bool, models: Path, dataset: Dataset, params: Params) -> None:
    run_probe(dataset, params, models / "linear_probe")
    combine_final(dataset, ("a", "b"), models, models / "final", FinalConfig(probe))
    config = json.loads((models / "final/config.json").read_text())
    assert sum(member["weight"] for member in config["members"]) == pytest.approx(1)
    table, mixed = decided(models / "final/predictions.csv")
    expected, valence, counted = np.zeros_like(mixed.posterior), np.zeros_like(mixed.valence), 0
    assert [member["weight"] for member in config["members"] if member["system"] == "linear_probe"] == [0.5] * probe
    for member in config["members"]:
        training = models / member["system"]
        directory = training if member["round"] is None else training / f"round-{member['round']:02d}"
        decisions = decided(directory / "predictions.csv")[1]
        expected += member["weight"] * decisions.posterior
        valence += member["weight"] * decisions.valence
        counted += record_of(directory)["parameters"]  # type: ignore[operator]
    np.testing.assert_allclose(mixed.posterior, expected, atol=1e-12)
    np.testing.assert_allclose(mixed.valence, valence, atol=1e-12)
    offered = [f"{each['system']}/round-{each['round']:02d}" for each in config["members"] if each["round"] is not None]
    with pytest.raises(InputError, match=rf"final mixes {' and '.join(offered)}: name one of them$"):
        read_model(models / "final")
    assert table["name"].tolist() == [*dataset.train.names, *dataset.test.names]
    assert record_of(models / "final")["parameters"] == counted


def test_a_record_tells_what_single_networks_do(models: Path, dataset: Dataset) -> None:
    """Their mean score, and what the fusion changes in them, counted network by network."""
    directory = models / "enf_pnao/round-01"
    (told,) = record_of(directory)["single"].values()  # type: ignore[attr-defined]
    apart = read_round(directory).decide_apart(dataset.test.tensors())
    true, valence = dataset.test.emotion, dataset.test.valence
    coms = [score(true, each.posterior.argmax(axis=1), valence, each.valence).com for each in apart]
    assert told["scores"]["com"] == pytest.approx(np.mean(coms))
    changed = [each.posterior.argmax(axis=1) != each.branches.mean(axis=1).argmax(axis=1) for each in apart]
    assert told["fusion"]["changed"] == np.sum(changed)
    assert told["fusion"]["decisions"] == 3 * len(dataset.test)


def test_the_final_weight_is_the_best_of_its_grid_and_the_middle_at_a_tie(examples: Examples) -> None:
    right, wrong = np.eye(3)[examples.emotion], np.eye(3)[(examples.emotion + 1) % 3]
    valence = examples.valence.astype(float)
    assert choose_weight((right, valence), (right, valence), examples) == 0.5
    assert choose_weight((right, valence), (wrong, valence + 3), examples) == 1.0
    assert choose_weight((wrong, valence + 3), (right, valence), examples) == 0.0


def test_the_probe_is_scikit_learns_out_of_fold_with_the_best_strength(
    dataset: Dataset, params: Params, tmp_path: Path
) -> None:
    strengths = (100.0, 0.05, 1e-6)
    asked = params.model_copy(update={"evaluation": replace(params.evaluation, probe_c=strengths)})
    run_probe(dataset, asked, tmp_path / "linear_probe")
    table, decisions = decided(tmp_path / "linear_probe/predictions.csv")
    folds = folds_of(dataset.train, params)
    train = np.concatenate([dataset.train.features[name] for name in ("a", "b", "v")], axis=1)
    valence = np.zeros(len(train))
    posteriors = {c: np.zeros((len(train), 3)) for c in strengths}
    for fold in range(3):
        fitted, out = folds != fold, folds == fold
        scaler = StandardScaler().fit(train[fitted])
        ridge = Ridge(alpha=100.0).fit(scaler.transform(train[fitted]), dataset.train.valence[fitted])
        valence[out] = ridge.predict(scaler.transform(train[out]))
        for c in strengths:
            oracle = LogisticRegression(C=c, max_iter=2000)
            oracle.fit(scaler.transform(train[fitted]), dataset.train.emotion[fitted])
            posteriors[c][out] = oracle.predict_proba(scaler.transform(train[out]))
    true = dataset.train.emotion
    coms = {c: score(true, each.argmax(axis=1), dataset.train.valence, valence).com for c, each in posteriors.items()}
    best = max(coms, key=coms.__getitem__)
    assert best != strengths[0]
    record = record_of(tmp_path / "linear_probe")
    assert (record["probe_c"], record["folds"]) == (best, 3)
    rows = (table["split"] == "trainval").to_numpy()
    np.testing.assert_allclose(decisions.posterior[rows], posteriors[best], atol=1e-4)


def test_a_broken_value_reaches_the_probe_as_it_reaches_the_networks(dataset: Dataset) -> None:
    """One training clip a little off a constant; a test clip far off must not decide alone."""
    odd = np.full((len(dataset.train), 1), 3.0, np.float32)
    odd[5] += 1e-4
    train = replace(dataset.train, features={**dataset.train.features, "odd": odd})
    probe = fit_probe(train, 0.05, 100.0)
    rows = np.array([0, 0])
    broken = replace(train.select(rows), features={**train.select(rows).features, "odd": np.array([[1e6], [1e30]])})
    decided, valence = probe.predict(broken)
    assert np.abs(valence).max() < 20
    assert decided[0].tolist() == decided[1].tolist()


def with_seeds(params: Params, *seeds: int) -> Params:
    return params.model_copy(update={"seeds": seeds})


def files_of(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def trained(system: str, dataset: Dataset, params: Params, store: DiskRoundStore, out: Path) -> list[str]:
    return [str(path.relative_to(out)) for path in run_systems({system: out}, dataset, params, store)]


def test_a_further_seed_is_added_beside_the_first_and_known_seeds_are_not_trained_again(
    dataset: Dataset, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    store, rounds = DiskRoundStore(tmp_path / "rounds"), [f"round-0{number}" for number in range(3)]
    assert trained("enf_pnao", dataset, with_seeds(params, 0), store, tmp_path / "one") == rounds
    assert (store.hits, store.misses) == (0, 3)
    again = trained("enf_pnao", dataset, with_seeds(params, 0, 8), store, tmp_path / "two")
    assert again == [name for each in rounds for name in (each, f"seed-8/{each}")]  # in step
    assert (store.hits, store.misses) == (3, 6)  # only the new seed was trained
    one, two = files_of(tmp_path / "one"), files_of(tmp_path / "two")
    assert one == {name: content for name, content in two.items() if not name.startswith("seed-")}
    # another order of the seeds makes another model of record, of the same stored rounds
    trained("enf_pnao", dataset, with_seeds(params, 8, 0), store, tmp_path / "turned")
    assert (store.hits, store.misses) == (9, 6)
    turned = files_of(tmp_path / "turned")
    assert turned == {
        f"seed-0/{name}" if not name.startswith("seed-") else name.removeprefix("seed-8/"): content
        for name, content in two.items()
    }


def test_seeds_differ_in_the_networks_and_share_the_folds(
    dataset: Dataset, params: Params, known_rounds: DiskRoundStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    models, several = tmp_path / "models", with_seeds(params, 0, 8)
    for system in ("pnao", "enf_pnao"):
        trained(system, dataset, several, known_rounds, models / system)
    folds, seen = folds_of(dataset.train, several), []
    for seed, home in ((0, models / "enf_pnao"), (8, models / "enf_pnao/seed-8")):
        records = [record_of(path) for path in sorted(home.glob("round-*"))]
        assert [record["seed"] for record in records] == [seed] * 3
        assert sum(bool(record["best"]) for record in records) == 1
        best = max(record["scores"]["trainval"]["com"] for record in records)  # type: ignore[index]
        assert record_of(best_round_directory(home))["scores"]["trainval"]["com"] == best  # type: ignore[index]
        model = read_round(home / "round-00")
        _, decisions = decided(home / "round-00/predictions.csv")
        for fold, network in enumerate(model.networks):  # the network that held a clip out predicts it
            rows = np.flatnonzero(folds == fold)
            own = replace(model, networks=(network,)).decide(dataset.train.select(rows).tensors())
            np.testing.assert_allclose(decisions.posterior[rows], own.posterior, rtol=1e-6)
        seen.append(model.networks[0].state_dict())
    assert not torch.equal(*(state["branches.a.decoder.emotion.weight"] for state in seen))

    combine_final(dataset, ("a", "b"), models, models / "final")
    for seed, folder in ((0, ""), (8, "seed-8")):
        parts = []
        for system in ("pnao", "enf_pnao"):
            best_round = best_round_directory(models / system / folder)
            parts.append(decided(best_round / "predictions.csv")[1])
        train = slice(0, len(dataset.train))
        weight = choose_weight(*((p.posterior[train], p.valence[train]) for p in parts), dataset.train)
        _, mixed = decided(models / "final" / folder / "predictions.csv")
        for got, first, second in zip(mixed.arrays, *(part.arrays for part in parts), strict=True):
            np.testing.assert_allclose(got, weight * first + (1 - weight) * second, atol=1e-9)
        config = json.loads((models / "final" / folder / "config.json").read_text())
        assert (config["seed"], record_of(models / "final" / folder)["seed"]) == (seed, seed)
        assert config["members"][0]["weight"] == (weight or 1)

    truth = pd.DataFrame(
        {
            "name": [*dataset.train.names, *dataset.test.names],
            "speaker": [*(dataset.train.speakers or ()), *(dataset.test.speakers or ())],
            "split": ["train"] * len(dataset.train) + ["test"] * len(dataset.test),
            "discrete": [LABELS[i] for part in (dataset.train, dataset.test) for i in part.emotion],
            "valence": np.concatenate([dataset.train.valence, dataset.test.valence]),
        }
    )
    run_probe(dataset, several, models / "linear_probe")
    nothing = pd.DataFrame(columns=["name", "encoder", "action", "reason"])
    write_report(models, truth, LABELS, nothing, tmp_path / "reports", Setting("tiny", 100, 0))
    table = pd.read_csv(tmp_path / "reports/table.csv").set_index("system")
    coms = [
        record_of(best_round_directory(models / "pnao" / folder))["scores"]["test"]["com"]  # type: ignore[index]
        for folder in ("", "seed-8")
    ]
    assert table.loc["pnao", "com"] == pytest.approx(coms[0], abs=1e-6)
    assert table.loc["pnao", "com_mean"] == pytest.approx(sum(coms) / 2, abs=1e-6)
    assert table.loc["pnao", "com_std"] == pytest.approx(abs(coms[0] - coms[1]) / 2**0.5, abs=2e-6)
    assert table["seeds"].dropna().to_dict() == {"pnao": 2, "enf_pnao": 2, "final": 2}
    assert list(json.loads((tmp_path / "reports/systems.json").read_text())["final"])[-3:] == ["ece", "ece_a", "ece_b"]

    shutil.rmtree(models / "enf_pnao/seed-8")
    with pytest.raises(InputError, match=r"enf_pnao/seed-8 holds no finished round that is marked as the best one"):
        combine_final(dataset, ("a", "b"), models, models / "final")


def test_the_branches_on_disk_are_the_networks_and_fuse_to_the_joint_decision(models: Path, dataset: Dataset) -> None:
    directory = models / "enf_pnao/round-01"
    table, decisions = decided(directory / "predictions.csv")
    trainval, test = ((table["split"] == split).to_numpy() for split in ("trainval", "test"))
    assert decisions.branches.shape == (len(table), 2, 3)
    np.testing.assert_allclose(decisions.branches.sum(axis=2), 1, atol=1e-6)
    # out of fold there is one network a clip, whose joint posterior is the weighted sum of its branches (eq. 7)
    fused = np.einsum("nm,nmc->nc", decisions.weights, decisions.branches)
    np.testing.assert_allclose(fused[trainval], decisions.posterior[trainval], atol=1e-6)
    networks = read_round(directory).networks
    each = [predict(network, dataset.test.tensors()).log_posteriors.exp().numpy() for network in networks]
    for branch in range(2):
        expected = sum(posteriors[branch] for posteriors in each) / len(each)
        np.testing.assert_allclose(decisions.branches[test, branch], expected, atol=1e-6)


@pytest.mark.parametrize("run", [map, pytest.param(parallel_map(2), marks=pytest.mark.slow)])
def test_a_training_that_diverges_is_a_wrong_input(
    run: MapFolds, dataset: Dataset, params: Params, tmp_path: Path
) -> None:
    """Wherever it was trained: the error comes out of the process of the fold."""
    hopeless = params.model_copy(update={"training": replace(params.training, learning_rate=1e38, warmup=0.0)})
    with pytest.raises(InputError, match=r"^training diverged in epoch 0: learning_rate 1e\+38 is too high$"):
        list(run_systems({"enf": tmp_path / "enf"}, dataset, hopeless, DiskRoundStore(tmp_path / "rounds"), run))


def test_folds_that_cannot_be_made_are_a_wrong_input(dataset: Dataset, params: Params) -> None:
    with pytest.raises(InputError, match=r"^12 speakers cannot be kept apart in 13 folds$"):
        folds_of(dataset.train, params.model_copy(update={"folds": 13}))


def test_damaged_models_are_refused_by_file(models: Path) -> None:
    directory = models / "pnao/round-00"
    (directory / "fold-1.safetensors").write_bytes(b"PK")
    with pytest.raises(InputError, match=r"fold-1\.safetensors is not a model of this project"):
        read_round(directory)
    (directory / "config.json").write_text("[]")
    with pytest.raises(InputError, match=r"config\.json is not a model of this project"):
        read_round(directory)


def test_training_opens_nothing_in_the_home_folder(
    dataset: Dataset, params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    home, opened, watching = tmp_path / "home", [], True
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setenv("HOME", str(home))

    def watch(event: str, arguments: tuple[object, ...]) -> None:
        if watching and event in ("open", "os.mkdir", "os.listdir", "os.scandir"):
            opened.append(str(arguments[0]))

    sys.addaudithook(watch)  # stays as long as the process does
    run_probe(dataset, params, tmp_path / "models/linear_probe")
    trained("enf", dataset, params, DiskRoundStore(tmp_path / "rounds"), tmp_path / "models/enf")
    watching = False
    assert any("record.json" in path for path in opened)
    assert not [path for path in opened if path.startswith(str(home))]
