"""Several test splits, noisy and unlabelled ones among them, from the label table to the report and the submission."""

import json
import runpy
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from rich.console import Console
from ruamel.yaml import YAML
from sklearn.metrics import f1_score

from mer_pnao.commands.score_files import score_files
from mer_pnao.features.remarks import write_remarks
from mer_pnao.features.sets import write_shard
from mer_pnao.outs.finished import read_finished
from mer_pnao.outs.names import DENSE, MEMBERS
from mer_pnao.params.profile import load_params
from mer_pnao.pruning.round_store import DiskRoundStore
from mer_pnao.report.terminal import print_table
from mer_pnao.systems.dataset import dataset_of
from mer_pnao.systems.final import combine_final
from mer_pnao.systems.probe import run_probe
from mer_pnao.systems.train import run_systems

ROOT = Path(__file__).parents[2]
SYSTEMS = ["linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final"]
EMOTIONS = ("None", "NA", "nan")  # words, as good as any
WIDTHS = {"low": 6, "high": 5, "face": 4}


def make_labels() -> pd.DataFrame:
    """Clean clips, a noisy copy of each test clip, clips half of which have a label, and clips without any."""
    r = np.random.default_rng(5)
    train = pd.DataFrame({"name": [f"a{i:03d}" for i in range(72)], "split": "train"})
    test = pd.DataFrame({"name": [f"b{i:03d}" for i in range(30)][::-1], "split": "test"})
    for clips in (train, test):
        place = np.arange(len(clips)) % 3
        clips["discrete"] = [EMOTIONS[i] for i in place]
        clips["valence"] = (place - 1 + 0.25 * r.standard_normal(len(clips))).round(2)
        clips["speaker"] = [f"{split}{i // 3 % 6}" for i, split in enumerate(clips["split"])]
    test.loc[4, "valence"] = -10
    noisy = test.assign(name=test["name"] + "@noisy", split="test_noisy")
    semi = pd.DataFrame({"name": [f"c{i:03d}" for i in range(21)], "split": "semi"})
    semi["discrete"] = [EMOTIONS[i % 3] if i % 2 else "" for i in range(21)]
    wild = pd.DataFrame({"name": ["NA", "d1"], "split": "wild"})
    columns = ["name", "discrete", "valence", "speaker", "split"]
    return pd.concat([train, test, semi, noisy, wild]).reindex(columns=columns)


def make_features(labels: pd.DataFrame, folder: Path) -> None:
    """Class means plus noise, more of it in the noisy copies."""
    r = np.random.default_rng(6)
    place = np.array(
        [EMOTIONS.index(label) if label in EMOTIONS else i % 3 for i, label in enumerate(labels["discrete"])]
    )
    spread = np.where(labels["split"] == "test_noisy", 4.0, 1.6)[:, None]
    for name, width in WIDTHS.items():
        means = np.random.default_rng(width).standard_normal((3, width))
        vectors = means[place] + spread * r.standard_normal((len(labels), width))
        write_shard(folder / name / name / "part-0.parquet", labels["name"].tolist(), vectors.astype(np.float32))
        write_remarks(folder / name / "skipped.csv", [])


def write_params(project: Path) -> None:
    params = YAML(typ="safe", pure=True).load((ROOT / "profiles/ravdess.yaml").read_text())
    params |= {"profile": "tiny", "folds": 2, "seeds": [0], "imported": {name: f"features/{name}" for name in WIDTHS}}
    params["corpus"] |= {"root": "data/tiny/corpus", "labels": []}
    params["features"] |= {"acoustic": ["low", "high"], "visual": ["face"]}
    params["network"] |= {"hidden": 16, "width": 8}
    params["training"] |= {"epochs": 6, "batch": 16, "learning_rate": 0.02, "mixup": 0.0}
    params["pnao"] |= {"naor": 0.6, "rounds": 1}
    params["evaluation"] |= {"resamples": 100}
    (project / "params.yaml").write_text(json.dumps(params))


def stage(name: str) -> None:
    runpy.run_path(str(ROOT / f"pipelines/{name}.py"))["main"]()


def run_stages(labels: pd.DataFrame, store: DiskRoundStore) -> None:
    """Stages `manifest` to `evaluate` in the present folder."""
    params = load_params()
    root = Path(params.corpus.root)
    root.mkdir(parents=True, exist_ok=True)
    labels.to_csv(root / "labels.csv", index=False)
    stage("manifest")
    dataset, models = dataset_of(params), Path("models")
    run_probe(dataset, params, models / "linear_probe")
    list(run_systems({system: models / system for system in (*DENSE, *MEMBERS)}, dataset, params, store))
    combine_final(dataset, params.features.acoustic, models, models / "final")
    stage("evaluate")


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, pd.DataFrame, DiskRoundStore]:
    """The same clips as two projects: with all splits, and with train and test alone."""
    labels = make_labels()
    both = tmp_path_factory.mktemp("splits")
    store = DiskRoundStore(both / "rounds")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("DVC_ROOT", str(both))  # one memory of latencies
        for name, kept in (("all", labels), ("plain", labels[labels["split"].isin(["train", "test"])])):
            (both / name).mkdir()
            patch.chdir(both / name)
            write_params(both / name)
            make_features(labels, both / name / "data/tiny/features")
            run_stages(kept, store)
    return both / "all", both / "plain", labels, store


Finished = tuple[Path, Path, pd.DataFrame, DiskRoundStore]


def test_the_table_has_its_public_rows_first_and_six_rows_for_each_further_split(finished: Finished) -> None:
    everything, plain, _, _ = finished
    table, alone = (pd.read_csv(project / "reports/table.csv") for project in (everything, plain))
    assert list(table) == [*alone, "split"]
    assert table["system"].tolist() == SYSTEMS * 4
    assert table["split"].tolist() == [split for split in ("test", "semi", "test_noisy", "wild") for _ in SYSTEMS]
    pd.testing.assert_frame_equal(table[list(alone)].head(6), alone, check_dtype=False)  # counts beside none
    rows = table.set_index(["split", "system"])
    assert rows.loc["wild"].isna().all(axis=None)
    assert rows.loc["semi", "dim"].isna().all()
    assert (rows.loc["semi", "com"] == rows.loc["semi", "dis"]).all()
    assert rows.loc["test_noisy", "dim"].notna().all()
    assert (rows.loc["test_noisy", "dis"] < rows.loc["test", "dis"]).all()
    assert rows.loc[("semi", "baseline"), "p_better_than_baseline"] == 0.5
    for column in ("trainval_com", "parameters"):  # of the same networks
        assert rows.loc["semi", column].tolist() == rows.loc["test", column].tolist()


def test_further_splits_train_nothing_and_change_nothing_of_the_test_split(finished: Finished) -> None:
    everything, plain, _, store = finished
    assert (store.misses, store.hits) == (2 + 2 * 2, 2 + 2 * 2)
    for path in sorted((plain / "models").rglob("*.safetensors")):
        assert path.read_bytes() == (everything / path.relative_to(plain)).read_bytes()
    for name in SYSTEMS:
        file = f"reports/predictions/{name}.csv"
        assert (plain / file).read_bytes() == (everything / file).read_bytes()
    file = "reports/submission/test.csv"
    assert (plain / file).read_bytes() == (everything / file).read_bytes()
    assert [path.name for path in (plain / "reports/submission").iterdir()] == ["test.csv"]
    file = "reports/metrics.json"
    assert (plain / file).read_bytes() == (everything / file).read_bytes()
    figures, before = (json.loads((project / "reports/systems.json").read_text()) for project in (everything, plain))
    table = pd.read_csv(everything / "reports/table.csv").set_index(["split", "system"])
    for name, numbers in figures.items():
        assert list(numbers) == [*before[name], "semi_com", "test_noisy_com"]
        assert {key: numbers[key] for key in before[name]} == before[name]
        for split in ("semi", "test_noisy"):
            assert numbers[f"{split}_com"] == pytest.approx(table.loc[(split, name), "com"], abs=1e-9)


def test_a_submission_scores_what_the_table_says(finished: Finished, tmp_path: Path) -> None:
    everything, _, labels, _ = finished
    table = pd.read_csv(everything / "reports/table.csv").set_index(["split", "system"])
    submissions = everything / "reports/submission"
    assert {path.stem for path in submissions.iterdir()} == {"test", "test_noisy", "semi", "wild"}
    for path in submissions.iterdir():
        truth = labels[labels["split"] == path.stem]
        lines = path.read_text().splitlines()
        assert lines[0] == "name,discrete,valence"
        assert [line.split(",")[0] for line in lines[1:]] == truth["name"].tolist()  # in the manifest's order
        if path.stem == "wild":
            continue
        known = truth[truth["discrete"] != ""]
        known.to_csv(tmp_path / "labels.csv", index=False)
        said = pd.read_csv(path, dtype=str, keep_default_na=False)
        said[said["name"].isin(known["name"])].to_csv(tmp_path / "said.csv", index=False)
        scores, clips = score_files(tmp_path / "labels.csv", tmp_path / "said.csv")
        row = table.loc[(path.stem, "final")]
        assert clips == len(known)
        assert [scores.dis, scores.com] == pytest.approx([row["dis"], row["com"]], abs=1e-6)
        assert (scores.dim is None) == (path.stem == "semi")
        assert scores.dim is None or scores.dim == pytest.approx(row["dim"], abs=1e-6)


def test_a_clip_without_a_label_is_predicted_and_never_scored(finished: Finished) -> None:
    everything, _, labels, _ = finished
    truth = labels.set_index("name")["discrete"]
    for system in SYSTEMS:
        folder = next(iter(sorted((everything / "models" / system).glob("round-*"))), everything / "models" / system)
        predictions = pd.read_csv(folder / "predictions.csv", dtype={"name": str}, keep_default_na=False)
        counts = {"trainval": 72, "test": 30, "semi": 21, "test_noisy": 30, "wild": 2}
        assert predictions["split"].value_counts(sort=False).to_dict() == counts
        if system != "linear_probe":
            assert len(pd.read_csv(folder / "branches.csv")) == 2 * len(predictions)
        scores = json.loads((folder / "record.json").read_text())["scores"]
        assert list(scores) == ["trainval", "test", "semi", "test_noisy"]
        semi = predictions[(predictions["split"] == "semi") & (predictions["name"].map(truth) != "")]
        assert len(semi) == 10
        expected = f1_score(semi["name"].map(truth), semi["discrete"], average="weighted")
        assert scores["semi"] == {"dis": pytest.approx(expected), "dim": None, "com": pytest.approx(expected)}
        found = read_finished(folder).metrics()
        assert found["semi_com"] == scores["semi"]["com"]
        assert found["test_noisy_dim"] == scores["test_noisy"]["dim"]
        assert not [name for name in found if name.startswith("wild") or name == "semi_dim"]


def test_the_labels_are_those_of_the_training_clips(finished: Finished) -> None:
    everything, _, _, _ = finished
    config = json.loads((everything / "models/enf/round-00/config.json").read_text())
    assert config["labels"] == sorted(EMOTIONS)
    header = (everything / "reports/predictions/final.csv").read_text().splitlines()[0]
    assert header == "name,discrete,valence,confidence,posterior_NA,posterior_None,posterior_nan"


def test_page_rounds_and_terminal_show_each_split(finished: Finished) -> None:
    everything, plain, _, _ = finished
    rounds = pd.read_csv(everything / "reports/rounds.csv")
    alone = pd.read_csv(plain / "reports/rounds.csv")
    assert rounds["split"].unique().tolist() == ["trainval", "test", "semi", "test_noisy"]
    public = rounds[rounds["split"].isin(["trainval", "test"])].reset_index(drop=True)
    pd.testing.assert_frame_equal(public, alone)
    page, before = (" ".join((p / "reports/index.html").read_text().split()) for p in (everything, plain))
    for words in (
        "<h3>semi: 21 clips, 10 of them with a label</h3>",
        "<h3>test_noisy: 30 clips</h3>",
        "<h3>wild: 2 clips, none of them with a label</h3>",
        "There is nothing to score. Final's predictions are in <code>submission/wild.csv</code>.",
        "; 21 of 21 clips of semi predicted; 30 of 30 clips of test_noisy predicted; 2 of 2 clips of wild predicted",
    ):
        assert words in page
    assert "Further test splits" in page
    assert "Further test splits" not in before
    with (everything / "shown.txt").open("w+") as file:
        print_table(everything / "reports/table.csv", Console(file=file, width=80))
        file.seek(0)
        shown = file.read()
    assert [line.strip() for line in shown.splitlines() if line.startswith("Split")] == [
        "Split test", "Split semi", "Split test_noisy",
    ]  # fmt: skip
    assert max(map(len, shown.splitlines())) <= 80
