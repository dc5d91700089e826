"""`promote` on a real store: each gate refuses alone, and everything is on record."""

import json
import re
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
from mlflow.entities.model_registry import ModelVersion

from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.evaluation.scores import score
from mer_pnao.foundations.errors import InputError
from mer_pnao.systems.dataset import load_dataset
from mer_pnao.tracking.connection import NAME, opened
from mer_pnao.tracking.promotion.promote import Promotion, promote


def refusals(result: Promotion) -> list[str]:
    return [gate.name for gate in result.gates if not gate.passed]


def sentence(result: Promotion, name: str) -> str:
    return next(gate.sentence for gate in result.gates if gate.name == name)


def version_of(tools: SimpleNamespace, root: Path, number: int) -> ModelVersion:
    return tools.client_of(root).get_model_version(NAME, str(number))


def tag(tools: SimpleNamespace, root: Path, number: int, **tags: str) -> None:
    for name, value in tags.items():
        tools.client_of(root).set_model_version_tag(NAME, str(number), name, value)


def report_of(tools: SimpleNamespace, root: Path, number: int, folder: Path) -> dict[str, Any]:
    version = version_of(tools, root, number)
    with opened(root) as store:
        path = store.client.download_artifacts(version.run_id, version.tags["gates_report"], str(folder))
    return json.loads(Path(path).read_text())  # type: ignore[no-any-return]


def test_the_first_champion_is_the_candidate(shop: Path, registry_tools: SimpleNamespace, tmp_path: Path) -> None:
    t = registry_tools
    result = promote(shop, reload=t.in_process(shop))
    assert (result.version, result.promoted, result.champion) == (t.better, True, None)
    assert [gate.name for gate in result.gates] == ["reloads", "not rolled back", "beats the linear probe"]
    assert refusals(result) == []
    assert t.aliases_of(shop) == {"champion": t.better}
    tags = version_of(t, shop, t.better).tags
    assert tags["gates"] == "passed"
    assert tags["promoted"].startswith("20")
    assert "forced" not in tags
    report = report_of(t, shop, t.better, tmp_path)
    assert (report["verdict"], report["forced"], len(report["gates"])) == ("passed", None, 3)
    assert report["evidence"]["repetition"]["clips"] == t.clips
    recorded = json.loads((shop / "models/pnao/round-01/record.json").read_text())["scores"]["test"]["com"]
    assert report["evidence"]["comparison"]["scores"]["com"] == pytest.approx(recorded, abs=1e-9)
    truth = pd.read_csv(shop / "data/demo/manifest.csv")
    clips = pd.read_csv(shop / "models/pnao/round-01/predictions.csv").query("split == 'test'").merge(truth, on="name")
    alone = {"it": Predicted(clips["discrete_x"], clips["valence_x"])}
    drawn = report["bootstrap"]
    of_speakers = paired_bootstrap(
        clips["discrete_y"], clips["valence_y"], alone, None, *drawn.values(), groups=clips["speaker"].tolist()
    )["it"]
    ends = [report["evidence"]["comparison"][end] for end in ("com_low", "com_high")]
    assert ends == pytest.approx([of_speakers.com_low, of_speakers.com_high], abs=1e-6)


def test_the_champion_stays_when_it_is_promoted_again(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.better)

    def never(*_: object) -> Any:
        raise AssertionError("there is nothing to measure")

    result = promote(shop, reload=never)
    assert (result.promoted, result.gates, result.champion) == (False, (), t.better)


def test_a_better_version_takes_the_place(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    result = promote(shop, reload=t.in_process(shop))
    assert (result.promoted, refusals(result), len(result.gates)) == (True, [], 5)
    assert t.aliases_of(shop) == {"champion": t.better, "previous": t.worse}


def test_a_smaller_one_as_good_takes_the_place(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.better)
    result = promote(shop, t.smaller, reload=t.in_process(shop))
    assert refusals(result) == []
    assert "within the margin of 0.01 with 900 parameters" in sentence(result, "better or smaller")
    assert t.aliases_of(shop) == {"champion": t.smaller, "previous": t.better}


@pytest.mark.parametrize(
    ("gate", "champion", "candidate", "words"),
    [
        ("reloads", "worse", "better", "at most 0.001 "),
        ("not rolled back", "worse", "better", "rolled back at yesterday"),
        ("same data", "worse", "better", "the champion 1 on 5555"),
        ("better or smaller", "better", "worse", "1,000 parameters, 100.0%"),
        ("latency", "worse", "better", "1.20 ms a clip, the champion 1.00 ms"),
        ("beats the linear probe", None, "better", "the linear probe 1.0000"),
    ],
)
def test_exactly_one_gate_refuses(
    shop: Path,
    registry_tools: SimpleNamespace,
    tmp_path: Path,
    gate: str,
    champion: str | None,
    candidate: str,
    words: str,
) -> None:
    t, changes = registry_tools, {}
    number = getattr(t, candidate)
    if champion is not None:
        t.stand(shop, champion=getattr(t, champion), previous=t.smaller)
    if gate == "reloads":
        changes = {"shift": 1e-3}
    elif gate == "not rolled back":
        tag(t, shop, number, rolled_back="yesterday")
    elif gate == "same data":
        client = t.client_of(shop)
        client.set_tag(client.get_model_version(NAME, str(t.worse)).run_id, "data_digest", "5" * 64)
    elif gate == "latency":
        changes = {"latency": (1.2, 1.0)}
    elif gate == "beats the linear probe":
        make_the_probe_perfect(t, shop, tmp_path)
    before = t.aliases_of(shop)
    result = promote(shop, number, reload=t.in_process(shop, **changes))
    assert (result.promoted, refusals(result)) == (False, [gate])
    assert words in sentence(result, gate)
    assert t.aliases_of(shop) == before
    tags = version_of(t, shop, number).tags
    assert tags["gates"] == f"refused: {gate}"
    assert "promoted" not in tags
    report = report_of(t, shop, number, tmp_path)
    assert {each["name"]: each["passed"] for each in report["gates"]} == {
        each.name: each.name != gate for each in result.gates
    }


def make_the_probe_perfect(t: SimpleNamespace, root: Path, folder: Path) -> None:
    manifest = pd.read_csv(root / "data/demo/manifest.csv", keep_default_na=False)
    manifest[manifest["split"] == "test"].to_csv(folder / "predictions.csv", index=False)
    with opened(root) as store:
        (run,) = store.client.search_runs([store.experiment], "tags.system = 'linear_probe'")
        store.client.log_artifact(run.info.run_id, str(folder / "predictions.csv"))


def test_a_forced_promotion_is_on_record(shop: Path, registry_tools: SimpleNamespace, tmp_path: Path) -> None:
    t = registry_tools
    t.stand(shop, champion=t.better)
    result = promote(shop, t.worse, reason="the customer asks for it", reload=t.in_process(shop))
    assert (result.promoted, refusals(result)) == (True, ["better or smaller"])
    assert t.aliases_of(shop) == {"champion": t.worse, "previous": t.better}
    tags = version_of(t, shop, t.worse).tags
    assert (tags["forced"], tags["gates"]) == ("the customer asks for it", "refused: better or smaller")
    assert report_of(t, shop, t.worse, tmp_path)["forced"] == "the customer asks for it"
    # What is promoted by its own merits later is no longer a forced one.
    promote(shop, t.better, reload=t.in_process(shop))
    t.client_of(shop).delete_registered_model_alias(NAME, "champion")
    assert promote(shop, t.worse, reload=t.in_process(shop)).promoted
    assert "forced" not in version_of(t, shop, t.worse).tags


def judge_by(root: Path, split: str) -> None:
    params = root / "params.yaml"
    params.write_text(params.read_text().replace("  split: test\n", f"  split: {split}\n"))


def test_a_further_split_may_be_kept_to_judge(shop: Path, registry_tools: SimpleNamespace, tmp_path: Path) -> None:
    """On `kept` the one that is worse on `test` decides every clip."""
    t = registry_tools
    t.stand(shop, champion=t.worse)
    judge_by(shop, "kept")
    manifest = shop / "data/demo/manifest.csv"
    result = promote(shop, reload=t.in_process(shop))
    assert refusals(result) == ["better or smaller"]
    truth = pd.read_csv(manifest, keep_default_na=False).query("split == 'kept'")
    coms = []
    for number in (0, 1):
        decided = pd.read_csv(shop / f"models/pnao/round-{number:02d}/predictions.csv").merge(truth, on="name")
        valence = decided["valence_y"].astype(float)
        coms.append(score(decided["discrete_y"], decided["discrete_x"], valence, decided["valence_x"]).com)
    worse, better = (f"{com:.4f}" for com in coms)
    assert f"kept Com {better}, the champion 1 {worse}: " in sentence(result, "better or smaller")
    report = report_of(t, shop, t.better, tmp_path)
    assert (report["evidence"]["split"], report["limits"]["split"]) == ("kept", "kept")
    tags = version_of(t, shop, t.better).tags
    assert (tags["judged_on_kept"], "judged_on_test" in tags) == ("1", False)


@pytest.mark.parametrize(
    ("split", "words"),
    [
        ("noise", r"promotion\.split must be one of the data's test splits \(test, noisy, kept\), got 'noise'"),
        ("train", r"promotion\.split must be one of the data's test splits"),
        ("noisy", r"promotion\.split must have clips with a label, and no clip of 'noisy' has one"),
    ],
)
def test_a_split_that_cannot_judge_is_refused(
    shop: Path, registry_tools: SimpleNamespace, split: str, words: str
) -> None:
    judge_by(shop, split)
    with pytest.raises(InputError, match=words):
        promote(shop, reload=registry_tools.in_process(shop))
    assert "gates" not in version_of(registry_tools, shop, registry_tools.better).tags


def test_a_half_labelled_split_judges_by_the_clips_with_a_label(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    manifest = shop / "data/demo/manifest.csv"
    table = pd.read_csv(manifest, dtype=str, keep_default_na=False)
    of_kept = table.index[table["split"] == "kept"]
    table.loc[of_kept[::2], ["discrete", "valence"]] = ""
    table.to_csv(manifest, index=False)
    judge_by(shop, "kept")
    config = json.loads((shop / "models/pnao/round-00/config.json").read_text())
    sets = (*config["blueprint"]["acoustic"], *config["blueprint"]["visual"])
    digest = load_dataset(manifest, shop / "data/demo/features", sets, config["labels"]).digest
    client = t.client_of(shop)
    for number in (t.worse, t.better):
        client.set_tag(version_of(t, shop, number).run_id, "data_digest", digest)
    result = promote(shop, t.better, reload=t.in_process(shop))
    labelled = table.loc[of_kept[1::2]]
    decided = pd.read_csv(shop / "models/pnao/round-01/predictions.csv").merge(labelled, on="name")
    valence = decided["valence_y"].astype(float)
    com = score(decided["discrete_y"], decided["discrete_x"], valence, decided["valence_x"]).com
    assert len(decided) == 20
    assert f"kept Com {com:.4f}, " in sentence(result, "better or smaller")


def test_a_version_of_clips_whose_valence_was_not_learnt_is_judged_without_it(
    shop: Path, registry_tools: SimpleNamespace
) -> None:
    t = registry_tools
    config = json.loads((shop / "models/pnao/round-00/config.json").read_text())
    sets = (*config["blueprint"]["acoustic"], *config["blueprint"]["visual"])
    data = shop / "data/demo"
    dataset = load_dataset(data / "manifest.csv", data / "features", sets, config["labels"])
    client = t.client_of(shop)
    for number in (t.worse, t.better):
        client.set_tag(version_of(t, shop, number).run_id, "data_digest", dataset.without_valence().digest)
    t.stand(shop, champion=t.worse)
    result = promote(shop, t.better, reload=t.in_process(shop))
    truth = pd.read_csv(data / "manifest.csv", keep_default_na=False).query("split == 'test'")
    decided = pd.read_csv(shop / "models/pnao/round-01/predictions.csv").merge(truth, on="name")
    dis = score(decided["discrete_y"], decided["discrete_x"], np.full(80, np.nan), decided["valence_x"]).dis
    assert f"test Com {dis:.4f}, " in sentence(result, "better or smaller")


def test_every_promotion_that_a_split_judged_is_counted(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.better)
    told = []
    for number in (t.worse, t.worse, t.smaller, t.worse):  # refused, refused, promoted, refused
        result = promote(shop, number, reload=t.in_process(shop))
        told += re.findall(r", on a split that (.*?) judged on", sentence(result, "better or smaller")) or [""]
    assert told == [
        "",
        "one earlier promotion of this profile was",
        "2 earlier promotions of this profile were",
        "3 earlier promotions of this profile were",
    ]
    counts = [version_of(t, shop, number).tags.get("judged_on_test") for number in (t.worse, t.better, t.smaller)]
    assert counts == ["3", None, "1"]
    cards = [version_of(t, shop, number).description.splitlines() for number in (t.worse, t.smaller)]
    lines = [[line for line in card if line.startswith("- **Judged**")] for card in cards]
    assert [len(each) for each in lines] == [1, 1], "the last one takes the place of those before"
    words = (
        "on the split `test`, which 3 earlier promotions of this profile were judged on: refused: better or smaller."
    )
    assert lines[0][0].endswith(words)
    assert lines[1][0].endswith("which 2 earlier promotions of this profile were judged on: passed.")
    assert cards[0][-2].startswith("- **Promotion**: `mer promote NUMBER`")
    tag(t, shop, t.worse, profile="ravdess")  # other people
    promote(shop, t.better, reload=t.in_process(shop))
    assert "which one earlier promotion of this profile was judged on: " in version_of(t, shop, t.better).description
    judge_by(shop, "kept")
    promote(shop, t.better, reload=t.in_process(shop))
    card = version_of(t, shop, t.better).description
    assert "on the split `kept`, which no earlier promotion of this profile was judged on: " in card
    shutil.rmtree(shop / "data/demo/features")
    promote(shop, t.better, reload=t.in_process(shop))
    assert version_of(t, shop, t.better).tags["judged_on_kept"] == "1", "without the clips nobody has looked at it"
    assert version_of(t, shop, t.better).description == card


def test_without_the_clips_the_gates_say_what_to_do(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    shutil.rmtree(shop / "data/demo/features")
    result = promote(shop, reload=t.in_process(shop))
    assert refusals(result) == ["reloads", "better or smaller"]
    assert "run `dvc pull`, or `make run` with that profile" in sentence(result, "reloads")
    assert t.aliases_of(shop) == {"champion": t.worse}


def test_other_clips_than_the_measured_ones_are_refused(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    manifest = shop / "data/demo/manifest.csv"
    label, other = "noisy-000,,,", "noisy-000,,happy,"
    manifest.write_text(manifest.read_text().replace(label, other))
    result = promote(shop, reload=t.in_process(shop))
    assert refusals(result) == ["reloads", "beats the linear probe"]
    words = r"data/demo holds the data [0-9a-f]{12}, and version 2 was measured on [0-9a-f]{12}: run `dvc pull`"
    assert re.match(words, sentence(result, "reloads"))


def test_the_champions_predictions_outlive_its_outs(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    shutil.rmtree(shop / "models/pnao/round-00")
    assert promote(shop, reload=t.in_process(shop)).promoted


def test_lost_predictions_refuse(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    run = version_of(t, shop, t.worse).run_id
    (shop / f"mlruns/artifacts/{run}/artifacts/predictions.csv").unlink()
    result = promote(shop, reload=t.in_process(shop))
    assert refusals(result) == ["better or smaller"]
    assert "run `mer track`" in sentence(result, "better or smaller")


def test_a_version_registered_by_hand_is_refused_and_not_a_crash(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    t.client_of(shop).create_model_version(NAME, "models/pnao/round-00")
    result = promote(shop, 4, reload=lambda *_: t.in_process(shop)(t.worse, t.worse, None))
    assert set(refusals(result)) == {"reloads", "same data", "better or smaller"}
    assert (result.title, result.report) == ("registered by hand", None)


def test_no_candidate_and_unknown_versions_are_named(shop: Path, project: Path) -> None:
    with pytest.raises(InputError, match="mer-pnao has no candidate: run `make run` or `mer register` first"):
        promote(project)
    with pytest.raises(InputError, match="mer-pnao has no version 99: `mer registry --all` lists them"):
        promote(shop, 99)


@pytest.mark.slow
def test_it_works_with_real_processes(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=t.worse)
    result = promote(shop, reason="this machine is busy")  # so that a latency that is off fails nothing here
    assert set(refusals(result)) <= {"latency"}
    assert f"predictions of {t.clips} clips" in sentence(result, "reloads")
    assert re.match(r"\d+\.\d\d ms a clip, the champion \d+\.\d\d ms: ", sentence(result, "latency"))


@pytest.mark.slow
def test_a_model_whose_packed_code_is_broken_is_refused(shop: Path, registry_tools: SimpleNamespace) -> None:
    """The fresh process runs the code in the model, not the checkout's."""
    t = registry_tools
    model = version_of(t, shop, t.better).source.removeprefix("models:/")
    (code,) = (shop / "mlruns/artifacts/models" / model).rglob("outs/names.py")
    code.write_text("raise RuntimeError('this code is broken')\n")
    result = promote(shop)
    assert refusals(result) == ["reloads"]
    assert "cannot be loaded in a fresh process" in sentence(result, "reloads")
    assert "this code is broken" in sentence(result, "reloads")
