import io
import json
import math
import re
import shutil
import statistics
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from PIL import Image
from sklearn.metrics import confusion_matrix, f1_score, mean_squared_error, precision_score, recall_score

from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.errors import InputError
from mer_pnao.report import figures, style, write
from mer_pnao.report.evidence import read_evidence
from mer_pnao.report.page import Setting
from mer_pnao.report.speakers import gains_over_probe
from mer_pnao.report.write import write_report

MEASURES = ["trainval_com", "dis", "dim", "com"]
COLUMNS = (
    "system,trainval_com,dis,dim,com,com_low,com_high,p_better_than_baseline,parameters,parameters_ratio,"
    "p_better_than_probe,p_sign_flip,uar,wa,macro_f1,clips,speakers,gain_low,gain_high,gain_over_probe_low,"
    "gain_over_probe_high,p_sign_flip_over_probe,parameters_total,single_com"
)
OVER_SEEDS = [
    *("com_seeds_low", "com_seeds_high", "gain_seeds_low", "gain_seeds_high"),
    *("gain_seeds_over_probe_low", "gain_seeds_over_probe_high"),
    *("p_seeds_better_than_baseline", "p_seeds_better_than_probe"),
    *("p_sign_flip_seeds", "p_sign_flip_seeds_over_probe"),
]

LABELS = ["neutral", "angry", "happy", "sad", "worried", "surprise"]
BRANCHES = ["hubert-18", "hubert-19", "hubert-20"]
SYSTEMS = ["linear_probe", "baseline", "enf", "pnao", "enf_pnao", "final"]


@pytest.fixture(scope="session")
def pixel() -> bytes:
    return b"\x89PNG"


@pytest.fixture
def undrawn(monkeypatch, pixel):
    """Skip the drawing, which takes seconds, where a test looks at numbers."""
    monkeypatch.setattr(write, "draw_figures", lambda evidence: _names(evidence, pixel))


def _names(evidence, pixel):
    names = [f"confusion_{name}" for name in evidence.systems]
    names += [f"rounds_{name}" for name, system in evidence.systems.items() if system.pruned]
    return dict.fromkeys([*names, "reliability"], pixel)


def report(models, truth, skipped, out, labels=LABELS, profile="demo", resamples=300):
    write_report(models, truth, labels, skipped, out, Setting(profile, resamples, 7))
    return out


@pytest.fixture(scope="module")
def usual(build, truth_of, pixel, tmp_path_factory):
    """Models, their truth, and the report on them without its pictures, for tests that only read."""
    folder, truth = tmp_path_factory.mktemp("usual"), truth_of(240, valence=True)
    models, skipped = build(folder / "models", truth), pd.DataFrame(columns=["name", "encoder", "action", "reason"])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(write, "draw_figures", lambda evidence: _names(evidence, pixel))
        return models, truth, report(models, truth, skipped, folder / "out")


def written(out):
    return {str(path.relative_to(out)): path.read_bytes() for path in sorted(out.rglob("*")) if path.is_file()}


@pytest.fixture
def coarse(monkeypatch):
    """Draw with fewer pixels, where nobody looks at them."""
    monkeypatch.setattr(style, "DPI", 50)


@pytest.mark.usefixtures("coarse")
def test_the_same_inputs_give_the_same_bytes(models, truth, skipped, tmp_path):
    for name in ("linear_probe", "enf", "enf_pnao", "final"):
        shutil.rmtree(models / name)
    first, second = (written(report(models, truth, skipped, tmp_path / out)) for out in "ab")
    assert {"index.html", "figures/rounds_pnao.png", "figures/weights_baseline.png"} < set(first)
    assert first == second


def test_everything_is_written(models, truth, skipped, tmp_path):
    first = written(report(models, truth, skipped, tmp_path / "a"))
    figures = [f"confusion_{name}" for name in SYSTEMS] + ["rounds_pnao", "rounds_enf_pnao", "reliability", "speakers"]
    figures += [f"weights_{name}" for name in SYSTEMS[1:5]]
    expected = {f"figures/{name}.png" for name in figures} | {f"predictions/{name}.csv" for name in SYSTEMS}
    expected |= {"table.csv", "rounds.csv", "metrics.json", "systems.json", "skipped_clips.csv", "index.html"}
    expected |= {"confusion.csv", "emotions.csv", "speakers.csv", "submission/test.csv"}
    assert set(first) == expected
    for name in figures:
        with Image.open(tmp_path / "a" / "figures" / f"{name}.png") as picture:
            assert picture.width >= 600
            assert np.asarray(picture.convert("L")).std() > 5  # something is drawn
            assert not {"Software", "Creation Time"} & set(picture.info)


def test_the_table_agrees_with_scikit_learn_on_the_best_rounds_predictions(usual):
    models, truth, out = usual
    assert (out / "table.csv").read_text().splitlines()[0] == COLUMNS
    table = pd.read_csv(out / "table.csv").set_index("system")
    assert list(table.index) == SYSTEMS
    for name, row in table.iterrows():
        folder = models / name / {"pnao": "round-01", "enf_pnao": "round-01"}.get(name, "round-00")
        folder = folder if folder.exists() else models / name
        both = pd.read_csv(folder / "predictions.csv").merge(truth, on="name", suffixes=("", "_true"))
        test, trainval = both[both["split"] == "test"], both[both["split"] == "trainval"]
        known = test[test["valence_true"].notna()]
        dis = f1_score(test["discrete_true"], test["discrete"], average="weighted")
        dim = mean_squared_error(known["valence_true"], known["valence"])
        assert row[["dis", "dim", "com"]].tolist() == pytest.approx([dis, dim, dis - 0.25 * dim], abs=1e-6)
        again = score(trainval["discrete_true"], trainval["discrete"], trainval["valence_true"], trainval["valence"])
        assert row["trainval_com"] == pytest.approx(again.com, abs=1e-6)
        assert row["com_low"] < row["com"] < row["com_high"]
        record = json.loads((folder / "record.json").read_text())
        assert row[["parameters", "parameters_ratio"]].tolist() == pytest.approx(
            [record["parameters"], record["parameters_ratio"] or np.nan], abs=1e-6, nan_ok=True
        )
    assert table.loc["baseline", "p_better_than_baseline"] == 0.5
    assert table.loc["final", "p_better_than_baseline"] > 0.95
    parts = {name: pd.read_csv(out / f"predictions/{name}.csv").merge(truth, on="name") for name in SYSTEMS}
    first = parts["final"]
    decided = {name: Predicted(part["discrete_x"], part["valence_x"]) for name, part in parts.items()}
    for rival, column, gain in (
        ("baseline", "p_better_than_baseline", "gain"),
        ("linear_probe", "p_better_than_probe", "gain_over_probe"),
    ):
        of_speakers = paired_bootstrap(
            first["discrete_y"], first["valence_y"], decided, rival, 300, 7, groups=first["speaker"].tolist()
        )
        for name, each in of_speakers.items():
            ends = [each.com_low, each.com_high, each.p_better, each.gain_low, each.gain_high]
            columns = ["com_low", "com_high", column, f"{gain}_low", f"{gain}_high"]
            assert table.loc[name, columns].tolist() == pytest.approx(ends, abs=1e-6)
    for name, part in parts.items():
        right = part["discrete_x"] == part["discrete_y"]
        recalls = right.groupby(part["discrete_y"]).mean()
        measures = [recalls.mean(), right.mean(), f1_score(part["discrete_y"], part["discrete_x"], average="macro")]
        assert table.loc[name, ["uar", "wa", "macro_f1"]].tolist() == pytest.approx(measures, abs=1e-6)
    assert (table["clips"] == 80).all()
    assert (table["speakers"] == 12).all()


@pytest.mark.usefixtures("undrawn")
def test_emotions_and_confusions_are_those_of_scikit_learn(models, truth, skipped, tmp_path):
    rare = truth["discrete"].where((truth["split"] == "train") | (truth["discrete"] != "sad"), "angry")
    truth = truth.assign(discrete=rare)  # no test clip is sad
    out = report(models, truth, skipped, tmp_path / "out")
    confusion, emotions = (pd.read_csv(out / f"{name}.csv") for name in ("confusion", "emotions"))
    assert list(confusion) == ["system", "true", "predicted", "clips"]
    assert list(emotions) == ["system", "emotion", "clips", "recall", "precision", "f1"]
    test = truth[truth["split"] == "test"]
    for name in SYSTEMS:
        decided = pd.read_csv(out / f"predictions/{name}.csv")["discrete"]
        counts = confusion[confusion["system"] == name].pivot(index="true", columns="predicted", values="clips")
        expected = confusion_matrix(test["discrete"], decided, labels=LABELS)
        assert counts.loc[LABELS, LABELS].to_numpy().tolist() == expected.tolist()
        rows = emotions[emotions["system"] == name].set_index("emotion")
        assert rows.index.tolist() == LABELS
        assert rows["clips"].tolist() == [(test["discrete"] == label).sum() for label in LABELS]
        for column, of in (("recall", recall_score), ("precision", precision_score), ("f1", f1_score)):
            values = of(test["discrete"], decided, labels=LABELS, average=None, zero_division=np.nan)
            assert rows[column].tolist() == pytest.approx(values.tolist(), abs=1e-6, nan_ok=True)
        assert math.isnan(rows.loc["sad", "recall"])
        assert (decided == "sad").any(), "else its precision would not be zero"
    row = emotions[emotions["system"] == "enf"].set_index("emotion").loc["happy"]
    page = " ".join((out / "index.html").read_text().split())
    assert f'{row["f1"]:.2f} <span class="soft">/ {row["recall"]:.2f}</span>' in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("valence", [True, False])
def test_a_speakers_scores_are_those_of_the_speakers_clips(build, truth_of, skipped, tmp_path, valence):
    truth = truth_of(120, valence=valence)
    out = report(build(tmp_path / "models", truth), truth, skipped, tmp_path / "out")
    speakers = pd.read_csv(out / "speakers.csv")
    assert list(speakers) == ["system", "speaker", "clips", "dis", "dim", "com", "uar"]
    test = truth[truth["split"] == "test"]
    assert len(speakers) == len(SYSTEMS) * test["speaker"].nunique() == len(SYSTEMS) * 12
    predicted = {name: pd.read_csv(out / f"predictions/{name}.csv").merge(test, on="name") for name in SYSTEMS}
    for row in speakers.to_dict("records"):
        own = predicted[row["system"]][predicted[row["system"]]["speaker"] == row["speaker"]]
        true, decided = own["discrete_y"], own["discrete_x"]
        known = own[own["valence_y"].notna()]
        dim = mean_squared_error(known["valence_y"], known["valence_x"]) if len(known) else np.nan
        dis = f1_score(true, decided, average="weighted", zero_division=0)
        uar = recall_score(true, decided, labels=sorted(set(true)), average="macro", zero_division=0)
        expected = [len(own), dis, dim, dis - 0.25 * dim if len(known) else dis, uar]
        found = [row[column] for column in ("clips", "dis", "dim", "com", "uar")]
        assert found == pytest.approx(expected, abs=1e-6, nan_ok=True)


def test_the_speakers_figure_holds_each_ones_gain_over_the_probe(models, truth, skipped, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr(write, "speakers_figure", lambda gains: seen.append(gains) or b"\x89PNG")
    for name in ("baseline", "pnao", "enf_pnao", "final"):
        shutil.rmtree(models / name)
    out = report(models, truth, skipped, tmp_path / "out")
    coms = pd.read_csv(out / "speakers.csv").pivot(index="speaker", columns="system", values="com")
    assert seen == [{"EnF": pytest.approx((coms["enf"] - coms["linear_probe"]).to_dict(), abs=2e-6)}]
    assert 'href="#speakers"' in (out / "index.html").read_text()


@pytest.mark.usefixtures("undrawn")
def test_of_unknown_speakers_nothing_is_told(models, truth, skipped, tmp_path):
    out = report(models, truth.assign(speaker=""), skipped, tmp_path / "out")
    assert (out / "speakers.csv").read_text() == "system,speaker,clips,dis,dim,com,uar\n"
    assert gains_over_probe(read_evidence(models, truth.assign(speaker=""), LABELS)) == {}
    shutil.rmtree(models / "linear_probe")
    assert gains_over_probe(read_evidence(models, truth, LABELS)) == {}
    assert "By speaker" not in (out / "index.html").read_text()


def calibration_error(predictions, test):
    """Of posteriors in any order, bin by bin, clip by clip."""
    truth = dict(zip(test["name"], test["discrete"], strict=True))
    posteriors = [f"posterior_{label}" for label in LABELS]
    gaps = dict.fromkeys(range(1, 11), 0.0)
    for row in predictions.to_dict("records"):
        decided = max(LABELS, key=lambda label: row[f"posterior_{label}"])
        top = max(row[column] for column in posteriors)
        gaps[math.ceil(10 * top)] += (decided == truth[row["name"]]) - top
    return sum(map(abs, gaps.values())) / len(predictions)


def calibration_interval(predictions, test, resamples, seed):
    """Of resamples of speakers, each put together clip by clip."""
    speakers = [names["name"].tolist() for _, names in test.groupby("speaker")]
    drawn = np.random.default_rng(seed).integers(len(speakers), size=(resamples, len(speakers)))
    rows = predictions.set_index("name", drop=False)
    errors = [calibration_error(rows.loc[[name for unit in units for name in speakers[unit]]], test) for units in drawn]
    ends = 2 * calibration_error(predictions, test) - np.percentile(errors, [97.5, 2.5])
    return np.clip(ends, 0, 1)


def test_the_figures_and_predictions_say_the_same_as_the_table(usual):
    models, truth, out = usual
    table = pd.read_csv(out / "table.csv").set_index("system")
    systems = json.loads((out / "systems.json").read_text())
    assert list(systems) == SYSTEMS
    test = truth[truth["split"] == "test"]
    for name, numbers in systems.items():
        of_branches = [] if name == "linear_probe" else [f"ece_{branch}" for branch in BRANCHES]
        first = ["trainval_com", "dis", "dim", "com", "p_better_than_probe", "parameters_ratio"]
        assert list(numbers) == [*first, "ece_interval_low", "ece_interval_high", "ece", *of_branches]
        for key in set(first) - {"p_better_than_probe"}:
            value = np.nan if numbers[key] is None else numbers[key]
            assert value == pytest.approx(table.loc[name, key], abs=1e-9, nan_ok=True)
        predictions = pd.read_csv(out / "predictions" / f"{name}.csv")
        posteriors = [f"posterior_{label}" for label in LABELS]
        assert list(predictions) == ["name", "discrete", "valence", "confidence", *posteriors]
        assert predictions["name"].tolist() == test["name"].tolist()
        assert predictions[posteriors].sum(axis=1).to_numpy() == pytest.approx(1, abs=1e-8)
        again = score(test["discrete"], predictions["discrete"], test["valence"], predictions["valence"])
        assert [again.dis, again.dim, again.com] == pytest.approx(
            [numbers["dis"], numbers["dim"], numbers["com"]], abs=1e-6
        )
        assert numbers["ece"] == pytest.approx(calibration_error(predictions, test), abs=1e-6)
        if name in ("linear_probe", "final"):
            ends = calibration_interval(predictions, test, 300, 7)
            assert [numbers["ece_interval_low"], numbers["ece_interval_high"]] == pytest.approx(ends, abs=1e-6)
        for branch in BRANCHES if of_branches else ():
            folder = models / name / {"pnao": "round-01", "enf_pnao": "round-01", "final": ""}.get(name, "round-00")
            rows = pd.read_csv(folder / "branches.csv").query("split == 'test' and branch == @branch")
            assert len(rows) == len(test)
            assert numbers[f"ece_{branch}"] == pytest.approx(calibration_error(rows, test), abs=1e-6)


def test_the_metrics_are_the_few_that_runs_are_compared_by(usual):
    out = usual[-1]
    table = pd.read_csv(out / "table.csv").set_index("system")
    metrics = json.loads((out / "metrics.json").read_text())
    assert list(metrics) == SYSTEMS
    assert sum(map(len, metrics.values())) == 15  # columns of `dvc exp show`
    for name, numbers in metrics.items():
        assert numbers.pop("trainval_com") == pytest.approx(table.loc[name, "trainval_com"], abs=1e-9)
        assert numbers.pop("test_com") == pytest.approx(table.loc[name, "com"], abs=1e-9)
        if name in ("pnao", "enf_pnao", "final"):
            assert numbers.pop("parameters_ratio") == pytest.approx(table.loc[name, "parameters_ratio"], abs=1e-9)
        assert numbers == {}


def test_the_rounds_are_those_of_the_records(usual):
    models, _, out = usual
    rounds = pd.read_csv(out / "rounds.csv")
    assert ",".join(rounds) == "system,round,split,dis,dim,com,parameters,parameters_ratio,best"
    counts = rounds.groupby("system", sort=False)["round"].count().to_dict()
    assert counts == {"baseline": 2, "enf": 2, "pnao": 6, "enf_pnao": 6}
    assert rounds[rounds["best"]].groupby("system")["round"].unique().map(list).to_dict() == {
        "baseline": [0], "enf": [0], "pnao": [1], "enf_pnao": [1],
    }  # fmt: skip
    record = json.loads((models / "pnao" / "round-02" / "record.json").read_text())
    row = rounds[(rounds["system"] == "pnao") & (rounds["round"] == 2) & (rounds["split"] == "test")].iloc[0]
    for key in ("dis", "dim", "com"):
        assert row[key] == pytest.approx(record["scores"]["test"][key], abs=1e-6)


@pytest.mark.usefixtures("coarse")
def test_without_valence_there_is_no_dim(build, truth_of, skipped, tmp_path):
    truth = truth_of(60, valence=False)
    models = build(tmp_path / "models", truth, rounds=2)
    for name in ("linear_probe", "baseline", "enf", "final"):
        shutil.rmtree(models / name)
    out = report(models, truth, skipped, tmp_path / "out")
    table = pd.read_csv(out / "table.csv").set_index("system")
    assert list(table.index) == SYSTEMS
    assert table.drop(["pnao", "enf_pnao"]).isna().all(axis=None)
    assert table["dim"].isna().all()
    assert table["p_better_than_baseline"].isna().all()  # there is no baseline to be better than
    found = table.loc[["pnao", "enf_pnao"]]
    assert (found["com"] == found["dis"]).all()
    assert json.loads((out / "systems.json").read_text())["pnao"]["dim"] is None
    page = (out / "index.html").read_text()
    assert "No valence was learnt, or none can be scored here, so Com = Dis" in page
    assert "the emotions: no valence was learnt, or none can be scored here." in page
    assert "Dim ↓" not in page
    assert "nothing to compare it with" in page


@pytest.mark.usefixtures("undrawn")
def test_a_valence_that_no_network_has_learnt_is_not_scored(build, truth_of, skipped, tmp_path):
    truth = truth_of(60, valence=False)
    models = build(tmp_path / "models", truth, rounds=2)
    known = truth.assign(valence=np.where(truth["split"] == "test", 1.0, np.nan))
    first, second = (
        written(report(models, each, skipped, tmp_path / out)) for each, out in ((truth, "a"), (known, "b"))
    )
    assert first == second


@pytest.mark.usefixtures("undrawn")
def test_clips_that_no_system_could_read_are_left_out(usual, skipped, tmp_path):
    models, truth, without = usual
    extra = pd.DataFrame([["broken", "speaker-00", "test", "sad", 0.0]], columns=list(truth))
    out = report(models, pd.concat([extra, truth], ignore_index=True), skipped, tmp_path / "out")
    assert (out / "table.csv").read_bytes() == (without / "table.csv").read_bytes()
    assert re.search(r"80 test clips scored, of\s+160 and 81 in the manifest", (out / "index.html").read_text())
    assert pd.read_csv(out / "skipped_clips.csv").equals(skipped)


@pytest.fixture
def reseeded(build, truth, tmp_path):
    return build(tmp_path / "reseeded", truth, seeds=(3, 0, 12))


@pytest.mark.usefixtures("undrawn")
def test_several_seeds_add_mean_and_sample_deviation_and_change_nothing_else(build, reseeded, truth, skipped, tmp_path):
    alone = report(build(tmp_path / "alone", truth, seeds=(3,)), truth, skipped, tmp_path / "one")
    out = report(reseeded, truth, skipped, tmp_path / "several")
    for name in ("rounds.csv", "metrics.json", "systems.json", "predictions/final.csv"):
        assert (out / name).read_bytes() == (alone / name).read_bytes()
    one, table = (pd.read_csv(path / "table.csv") for path in (alone, out))
    assert list(table) == [*one, "seeds", *(f"{m}_{s}" for m in MEASURES for s in ("mean", "std")), *OVER_SEEDS]
    pd.testing.assert_frame_equal(table[list(one)], one)
    rows = table.set_index("system")
    assert rows.loc["linear_probe", "seeds":].isna().all()
    for name in SYSTEMS[1:]:
        scores = []
        for place, folder in enumerate(("", "seed-0", "seed-12")):
            number = (1 + place) % 3 if "pnao" in name else 0
            home = reseeded / name / folder
            home = home if name == "final" else home / f"round-{number:02d}"
            record = json.loads((home / "record.json").read_text())
            assert record.get("best", True)
            scores.append({"trainval_com": record["scores"]["trainval"]["com"], **record["scores"]["test"]})
        assert rows.loc[name, "seeds"] == 3
        for measure in MEASURES:
            values = [each[measure] for each in scores]
            assert rows.loc[name, f"{measure}_mean"] == pytest.approx(statistics.mean(values), abs=1e-6)
            assert rows.loc[name, f"{measure}_std"] == pytest.approx(statistics.stdev(values), abs=1e-6)
    page = " ".join((out / "index.html").read_text().split())
    assert "Over the seeds" in page
    assert "Over the seeds" not in (alone / "index.html").read_text()
    expected = f"{rows.loc['enf', 'com_mean']:.3f} ± {rows.loc['enf', 'com_std']:.3f}"
    assert f"<td>{expected}</td>" in page


@pytest.mark.usefixtures("undrawn")
def test_a_system_with_one_seed_beside_others_with_more_has_no_deviation(reseeded, truth, skipped, tmp_path):
    for seed in (0, 12):
        shutil.rmtree(reseeded / "enf" / f"seed-{seed}")
    table = pd.read_csv(report(reseeded, truth, skipped, tmp_path / "out") / "table.csv").set_index("system")
    assert table["seeds"].tolist()[1:] == [3, 1, 3, 3, 3]
    assert table.loc["enf", "com_mean"] == pytest.approx(table.loc["enf", "com"], abs=1e-6)
    assert np.isnan(table.loc["enf", "com_std"])
    assert table[OVER_SEEDS].isna().all(axis=None)


def best_predictions(folder):
    """Of the best round, or of a system without rounds."""
    homes = sorted(folder.glob("round-*")) or [folder]
    (home,) = [home for home in homes if json.loads((home / "record.json").read_text()).get("best", True)]
    return pd.read_csv(home / "predictions.csv").set_index("name")


@pytest.mark.usefixtures("undrawn")
def test_over_three_seeds_interval_and_p_are_a_bootstrap_that_draws_a_seed_too(reseeded, truth, skipped, tmp_path):
    out = report(reseeded, truth, skipped, tmp_path / "out", resamples=100)
    table = pd.read_csv(out / "table.csv").set_index("system")
    assert table.loc["linear_probe", OVER_SEEDS].isna().all()
    test = truth[truth["split"] == "test"].set_index("name")
    seeds = {
        name: [best_predictions(reseeded / name / each) for each in ("", "seed-0", "seed-12")] for name in SYSTEMS[1:3]
    }
    seeds["linear_probe"] = 3 * [best_predictions(reseeded / "linear_probe")]
    speakers = [part for _, part in test.groupby("speaker")]
    drawn = np.random.default_rng(7).integers(len(speakers), size=(100, len(speakers)))
    turns = (np.random.default_rng([7, 1]).random(100) * 3).astype(int)
    coms = {name: [] for name in seeds}
    for units, turn in zip(drawn, turns, strict=True):
        true = pd.concat([speakers[unit] for unit in units])
        known = true["valence"].notna()
        for name, each in seeds.items():
            chosen = each[turn].loc[true.index]
            dis = f1_score(true["discrete"], chosen["discrete"], average="weighted", zero_division=0)
            coms[name].append(dis - 0.25 * mean_squared_error(true["valence"][known], chosen["valence"][known]))
    enf, baseline, probe = (np.array(coms[name]) for name in ("enf", "baseline", "linear_probe"))
    row = table.loc["enf"]
    for values, what in ((enf, "com_seeds"), (enf - baseline, "gain_seeds"), (enf - probe, "gain_seeds_over_probe")):
        ends = [row[f"{what}_low"], row[f"{what}_high"]]
        assert ends == pytest.approx(np.percentile(values, [2.5, 97.5]), abs=1e-6)
    assert row["p_seeds_better_than_baseline"] == pytest.approx(np.mean(enf > baseline), abs=1e-6)
    assert row["p_seeds_better_than_probe"] == pytest.approx(np.mean(enf > probe), abs=1e-6)
    page = " ".join((out / "index.html").read_text().split())
    low, high = (f"{row[f'gain_seeds_over_probe_{end}']:+.3f}" for end in ("low", "high"))
    assert f"<td>{low} to {high}</td>".replace("-", "\N{MINUS SIGN}") in page


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("breaks", "message"),
    [
        (lambda m: edit_record(m / "enf/seed-0/round-00/record.json", data_digest="d2"), r"enf/seed-0 was trained on"),
        (lambda m: edit_record(m / "pnao/seed-12/round-01/record.json", best=True), r"pnao/seed-12 must mark exactly"),
        (lambda m: (m / "final/seed-0/predictions.csv").unlink(), r"final/seed-0/predictions\.csv is not readable"),
        (lambda m: (m / "enf/seed-7").mkdir(), r"enf/seed-7/record\.json is not a readable record"),
    ],
)
def test_a_further_seed_that_does_not_fit_is_refused_by_name(reseeded, truth, skipped, tmp_path, breaks, message):
    breaks(reseeded)
    with pytest.raises(InputError, match=message):
        report(reseeded, truth, skipped, tmp_path / "out")


def test_the_reliability_figure_shows_the_joint_posterior_and_every_branch(models, truth, monkeypatch):
    evidence, seen = read_evidence(models, truth, LABELS), []
    real = figures.reliability

    def watched(posterior, classes):
        seen.append((posterior, classes))
        return real(posterior, classes)

    monkeypatch.setattr(figures, "reliability", watched)
    with_branches = Image.open(io.BytesIO(figures.reliability_diagram(evidence)))
    assert len(seen) == 1 + 5 * (1 + 3)
    test = truth[truth["split"] == "test"]
    assert all(classes.tolist() == [LABELS.index(emotion) for emotion in test["discrete"]] for _, classes in seen)
    rows = pd.read_csv(models / "enf/round-00/branches.csv").query("split == 'test' and branch == 'hubert-19'")
    expected = rows.set_index("name").loc[test["name"], [f"posterior_{label}" for label in LABELS]]
    assert any(np.array_equal(posterior, expected.to_numpy()) for posterior, _ in seen)
    only_joint = {name: replace(system, branches={}) for name, system in evidence.systems.items()}
    without = Image.open(io.BytesIO(figures.reliability_diagram(replace(evidence, systems=only_joint))))
    assert with_branches.width > 1.5 * without.width
    assert with_branches.height == without.height


def edit(path, column, change):
    table = pd.read_csv(path)
    table[column] = change(table[column])
    table.to_csv(path, index=False)


def edit_record(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


BROKEN = {
    "an unknown emotion": (
        lambda m: edit(m / "enf/round-00/predictions.csv", "discrete", lambda c: c.replace("sad", "bored")),
        r"enf/round-00/predictions\.csv predicts 'bored'",
    ),
    "an unknown clip": (
        lambda m: edit(m / "final/predictions.csv", "name", lambda c: c.replace("clip_00007", "stranger")),
        r"final/predictions\.csv predicts the clip 'stranger'",
    ),
    "a clip twice": (
        lambda m: edit(m / "final/predictions.csv", "name", lambda c: c.replace("clip_00007", "clip_00008")),
        r"predicts the clip 'clip_00008' twice",
    ),
    "no posterior": (
        lambda m: edit(m / "final/predictions.csv", "posterior_sad", lambda c: c * np.nan),
        r"final/predictions\.csv has a posterior that is not finite",
    ),
    "a missing column": (
        lambda m: pd.read_csv(m / "final/predictions.csv").drop(columns="confidence").to_csv(
            m / "final/predictions.csv"
        ),
        r"final/predictions\.csv lacks the column 'confidence'",
    ),
    "other data": (
        lambda m: edit_record(m / "pnao/round-01/record.json", data_digest="d2"),
        r"pnao was trained on data with the digest d2, .*linear_probe on d1",
    ),
    "two best rounds": (
        lambda m: edit_record(m / "pnao/round-02/record.json", best=True),
        r"pnao must mark exactly one of its 3 rounds as best, not 2",
    ),
    "a torn record": (
        lambda m: (m / "final/record.json").write_text("{"),
        r"final/record\.json is not a readable record",
    ),
    "fewer clips": (
        lambda m: pd.read_csv(m / "final/predictions.csv").query("name != 'clip_00003'").to_csv(
            m / "final/predictions.csv"
        ),
        r"final and .*linear_probe predict different test clips: 'clip_00003'",
    ),
    "no branches": (
        lambda m: (m / "enf/round-00/branches.csv").unlink(),
        r"enf/round-00/branches\.csv is not readable",
    ),
    "a branch without a clip": (
        lambda m: pd.read_csv(m / "enf/round-00/branches.csv").query("name != 'clip_00003'").to_csv(
            m / "enf/round-00/branches.csv"
        ),
        r"enf/round-00/branches\.csv must hold one row for each test clip and the branch 'hubert-18'",
    ),
    "a branch without a posterior": (
        lambda m: edit(m / "enf/round-00/branches.csv", "posterior_sad", lambda c: c * np.nan),
        r"enf/round-00/branches\.csv has a posterior that is not finite for the clip",
    ),
    "no systems": (shutil.rmtree, "holds none of the systems linear_probe, baseline"),
}  # fmt: skip


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize("what", BROKEN)
def test_what_does_not_fit_is_refused_by_name(models, truth, skipped, tmp_path, what):
    breaks, message = BROKEN[what]
    breaks(models)
    with pytest.raises(InputError, match=message):
        report(models, truth, skipped, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.usefixtures("undrawn")
def test_the_probability_to_beat_the_probe_is_that_of_the_resamples(models, truth, skipped, tmp_path):
    out = report(models, truth, skipped, tmp_path / "out", resamples=100)
    figures = json.loads((out / "systems.json").read_text())
    test = truth[truth["split"] == "test"].reset_index(drop=True)
    tables = {name: pd.read_csv(out / "predictions" / f"{name}.csv") for name in ("linear_probe", "enf")}

    def com(table, rows):
        dis = f1_score(test["discrete"][rows], table["discrete"][rows], average="weighted", zero_division=0)
        known = rows[test["valence"][rows].notna()]
        return dis - 0.25 * mean_squared_error(test["valence"][known], table["valence"][known])

    draws = np.random.default_rng(7).integers(len(test), size=(100, len(test)))
    gains = np.array([com(tables["enf"], rows) - com(tables["linear_probe"], rows) for rows in draws])
    expected = float(np.mean(gains > 0) + 0.5 * np.mean(gains == 0))
    assert figures["enf"]["p_better_than_probe"] == pytest.approx(expected, abs=1e-6)
    assert figures["linear_probe"]["p_better_than_probe"] == 0.5


@pytest.fixture
def several(build, truth, tmp_path):
    """Models and truth with two further splits: every fourth test clip is noise, and some clips have no label."""
    tests = truth.index[truth["split"] == "test"]
    truth = truth.assign(split=truth["split"].mask(truth.index.isin(tests[::4]), "noise"))
    truth.loc[tests[1::4], ["split", "discrete", "valence"]] = ["semi", "", np.nan]
    truth.loc[tests[::8], "discrete"] = ""
    return build(tmp_path / "several", truth, seeds=(3, 0)), truth


@pytest.mark.usefixtures("undrawn")
def test_further_splits_have_scores_intervals_and_seeds_of_their_own_labelled_clips(several, skipped, tmp_path):
    models, truth = several
    out = report(models, truth, skipped, tmp_path / "out")
    table = pd.read_csv(out / "table.csv")
    assert list(table)[-1] == "split"
    assert table["split"].tolist() == [split for split in ("test", "noise", "semi") for _ in SYSTEMS]
    rows = table.set_index(["split", "system"])
    assert rows.loc["semi"].isna().all(axis=None)
    labelled = truth[(truth["split"] == "noise") & (truth["discrete"] != "")]
    assert len(labelled) == 10
    for name in SYSTEMS:
        coms = []
        for folder in ("", "seed-0") if name != "linear_probe" else ("",):
            homes = sorted((models / name / folder).glob("round-*")) or [models / name / folder]
            (home,) = [h for h in homes if json.loads((h / "record.json").read_text()).get("best", True)]
            both = pd.read_csv(home / "predictions.csv").merge(labelled, on="name", suffixes=("", "_true"))
            coms.append(score(both["discrete_true"], both["discrete"], both["valence_true"], both["valence"]).com)
        row = rows.loc[("noise", name)]
        assert row["com"] == pytest.approx(coms[0], abs=1e-6)
        assert row["com_low"] <= row["com"] <= row["com_high"]
        if name != "linear_probe":
            assert row["com_mean"] == pytest.approx(statistics.mean(coms), abs=1e-6)
            assert row["com_std"] == pytest.approx(statistics.stdev(coms), abs=1e-6)
    page = (out / "index.html").read_text()
    noise = re.search('aria-label="All systems on the split noise"(.*?)</table>', page, re.DOTALL).group(1)
    assert '<th scope="col">Sign flip</th>' in noise, "of three speakers"
    assert f"<td>{rows.loc[('noise', 'enf'), 'p_sign_flip']:.3f}</td>" in noise
    figures = json.loads((out / "systems.json").read_text())["enf"]
    assert figures["noise_com"] == pytest.approx(rows.loc[("noise", "enf"), "com"], abs=1e-9)
    assert "semi_com" not in figures
    submitted = {path.stem: pd.read_csv(path)["name"].tolist() for path in (out / "submission").iterdir()}
    assert submitted == {s: truth["name"][truth["split"] == s].tolist() for s in ("test", "noise", "semi")}


@pytest.mark.usefixtures("undrawn")
@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda t: t[t["split"] != "noise"],
            r"linear_probe/predictions\.csv holds no prediction for the split 'noise'",
        ),
        (lambda t: t.replace("semi", "noise"), r"predicts the clip '\w+', which the manifest does not have in its"),
        (
            lambda t: t[t["name"] != t["name"][t["split"] == "semi"].iloc[0]],
            r"predict different semi clips: 'clip_\d+'",
        ),
    ],
)
def test_predictions_of_further_splits_that_do_not_fit_are_refused(several, skipped, tmp_path, change, message):
    models, truth = several
    path = models / "linear_probe/predictions.csv"
    change(pd.read_csv(path)).to_csv(path, index=False)
    with pytest.raises(InputError, match=message):
        report(models, truth, skipped, tmp_path / "out")


@pytest.mark.usefixtures("undrawn")
def test_a_submission_has_valences_where_they_are_learnt_unless_the_profile_says_otherwise(several, skipped, tmp_path):
    models, truth = several

    def submitted(name, truth, submission=None):
        write_report(models, truth, LABELS, skipped, tmp_path / name, Setting("demo", 100, 7, submission))
        return {(path.read_text().splitlines() or [""])[0] for path in (tmp_path / name / "submission").iterdir()}

    assert submitted("learnt", truth) == {"name,discrete,valence"}
    assert submitted("said", truth, "name,discrete") == {"name,discrete"}
    assert submitted("unlearnt", truth.assign(valence=np.nan)) == {"name,discrete"}
    kept = pd.read_csv(tmp_path / "said/submission/semi.csv")
    assert kept["name"].tolist() == truth["name"][truth["split"] == "semi"].tolist()


@pytest.mark.usefixtures("undrawn")
def test_without_final_nothing_is_handed_in(several, skipped, tmp_path):
    models, truth = several
    shutil.rmtree(models / "final")
    out = report(models, truth, skipped, tmp_path / "out")
    assert not (out / "submission").exists()
    assert "submission" not in (out / "index.html").read_text()
