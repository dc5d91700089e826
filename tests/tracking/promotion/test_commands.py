"""`mer register`, `promote`, `rollback` and `registry` as their users meet them: exit codes and sentences."""

import json
import shutil
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from mer_pnao.evaluation.bootstrap import Predicted, paired_bootstrap
from mer_pnao.tracking.connection import NAME
from mer_pnao.tracking.promotion.aliases import CHANGE, Change
from mer_pnao.tracking.promotion.promote import promote
from mer_pnao.tracking.runs import track

Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def three_versions(shop: Path, registry_tools: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> None:
    """A project of three versions, which is the working directory; `mer promote` reloads in this process."""
    monkeypatch.chdir(shop)
    monkeypatch.setenv("COLUMNS", "80")
    patched = partial(promote, reload=registry_tools.in_process(shop))
    monkeypatch.setattr("mer_pnao.tracking.promotion.promote.promote", patched)


def words(text: str) -> str:
    return " ".join(text.split())


def test_promote_and_roll_back(mer: Mer, shop: Path, registry_tools: SimpleNamespace) -> None:
    code, out, err = mer("promote", "1")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "version 1 (pnao, round 0) is the champion now; there was none before"
    assert [line.split("  ")[0] for line in out.splitlines() if "passed" in line] == [
        "reloads",
        "not rolled back",
        "beats the linear probe",
    ]
    code, out, err = mer("promote")
    assert (code, err) == (0, "")
    assert out.splitlines()[-1] == "version 2 (pnao, round 1) is the champion now; version 1 is previous"
    assert mer("promote") == (0, "version 2 (pnao, round 1) is the champion already\n", "")
    sentence = "version 1 (pnao, round 0) is the champion again; version 2, which was, is previous\n"
    assert mer("rollback") == (0, sentence, "")
    assert registry_tools.aliases_of(shop) == {"champion": 1, "previous": 2}


def test_a_refusal_exits_with_3_and_names_the_gate(mer: Mer, shop: Path, registry_tools: SimpleNamespace) -> None:
    registry_tools.stand(shop, champion=2)
    code, out, err = mer("promote", "1")
    assert code == 3
    assert out.count("passed") == 4
    assert out.count("refused") == 1
    assert "test Com " in out  # the reason, once
    assert err == "version 1 (pnao, round 0) is not promoted: refused by 'better or smaller'\n"
    assert registry_tools.aliases_of(shop) == {"champion": 2}
    code, out, err = mer("promote", "1", "--force", "--reason", "  to  see it ")
    assert (code, err) == (0, "")
    last = "version 1 (pnao, round 0) is the champion now, forced against 1 of 5 gates; version 2 is previous"
    assert out.splitlines()[-1] == last
    tags = registry_tools.client_of(shop).get_model_version(NAME, "1").tags
    assert tags["forced"] == "to see it"


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["promote", "--force"], "--force needs --reason TEXT, which goes on record"),
        (["promote", "--force", "--reason", "  "], "--force needs --reason TEXT, which goes on record"),
        (["promote", "--reason", "because"], "--reason is for --force"),
        (["promote", "--force", "--reason", "x" * 1001], "--reason must have at most 1000 characters, got 1001"),
        (["promote", "99"], "mer-pnao has no version 99: `mer registry --all` lists them"),
        (["rollback"], "mer-pnao has no previous champion to go back to; `mer registry` lists the versions"),
    ],
)
def test_wrong_use_is_one_sentence(mer: Mer, arguments: list[str], sentence: str) -> None:
    assert mer(*arguments) == (2, "", f"error: {sentence}\n")


def test_without_any_version_the_way_to_one_is_named(mer: Mer, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    sentence = "mer-pnao has no candidate: run `make run` or `mer register` first, or name a version"
    assert mer("promote") == (2, "", f"error: {sentence}\n")
    code, out, err = mer("registry")
    assert (code, err) == (0, "")
    assert "no version yet" in out
    code, out, err = mer("register")
    assert (code, out) == (2, "")
    assert "holds no finished round of pnao or enf_pnao: run `make run` first" in err


def test_mlflow_out_of_reach_is_one_sentence(mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:1")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    for command in ("registry", "promote", "rollback", "register"):
        code, out, err = mer(command)
        assert (code, out) == (2, ""), command
        last = err.splitlines()[-1]
        assert last.startswith("error: MLflow at http://127.0.0.1:1 cannot be used: "), command


def test_the_list_fits_a_terminal(mer: Mer, shop: Path, registry_tools: SimpleNamespace) -> None:
    registry_tools.stand(shop, champion=2, previous=1)
    code, out, err = mer("registry")
    assert (code, err) == (0, "")
    assert max(map(len, out.splitlines())) <= 80
    lines = [words(line) for line in out.splitlines()]
    assert lines[0] == "V System Round NAOR \N{GREEK SMALL LETTER ALPHA} Tr&Val Test 95 % Parameters Registered"
    assert lines[1].startswith("3 enf_pnao 0 \N{EN DASH} 0.0005 0.440 0.")
    assert lines[2].startswith("2 pnao 1 0.05 0.0005 0.450 0.")
    assert lines[3].startswith("1 pnao 0 \N{EN DASH} 0.0005 0.400 0.")
    assert lines[4:6] == ["version 2: candidate, champion", "version 1: previous"]
    drawn = "Every version here has learnt from drawn faces and synthetic voices, and knows nothing about people."
    assert drawn in words(out)


def test_the_list_holds_the_last_training_and_what_has_an_alias(
    mer: Mer, shop: Path, outs: SimpleNamespace, registry_tools: SimpleNamespace
) -> None:
    registry_tools.stand(shop, champion=1)
    shutil.rmtree(shop / "models")
    for system in ("pnao", "enf_pnao"):
        outs.write_round(shop / "models", system, 1, 0.6, best=True, naor=0.3, key=f"{len(system)}" * 64)
    code, out, err = mer("registry")
    assert code == 0
    assert err.splitlines() == [
        "models/ holds a training of pnao, enf_pnao that is not on record: tracking it",
        "candidate is version 4 now (pnao, round 1, naor 0.3), the best registered round of models/",
    ]
    assert [line.split()[0] for line in out.splitlines()[1:4]] == ["5", "4", "1"]
    assert "2 of earlier trainings: --all." in words(out)
    code, out, err = mer("registry", "--all")
    assert [line.split()[0] for line in out.splitlines()[1:6]] == ["5", "4", "3", "2", "1"]
    registry_tools.client_of(shop).set_model_version_tag(NAME, "1", "forced", "to see it")
    registry_tools.client_of(shop).set_model_version_tag(NAME, "1", "rolled_back", "2026-11-29T18:52:01+00:00")
    _, out, _ = mer("registry")
    assert "version 1: champion, forced (to see it), rolled back 11-29 18:52" in out


def test_a_versions_card_is_printed(mer: Mer) -> None:
    code, out, err = mer("registry", "2")
    assert (code, err) == (0, "")
    first, text = out.splitlines()[0], words(out)
    assert first.startswith("PNAO, round 1 of 2, naor 0.05: Train&Val Com 0.450, test Com 0.")
    for said in (
        "It has learnt from drawn faces",
        "valence from -1.50 to +2.00",
        "80",
        "mer predict CLIP --model NUMBER",
        "Regulation 2024/1689",
        "mer promote NUMBER",
    ):
        assert said in text, said
    assert mer("registry", "9") == (2, "", "error: mer-pnao has no version 9: `mer registry --all` lists them\n")


def test_the_list_as_json_holds_recorded_com_and_its_interval(mer: Mer, shop: Path) -> None:
    code, out, err = mer("registry", "--json")
    assert (code, err) == (0, "")
    rows = json.loads(out)
    truth = pd.read_csv(shop / "data/demo/manifest.csv", keep_default_na=False).set_index("name")
    for row in rows:
        folder = shop / f"models/{row['system']}/round-{row['round']:02d}"
        record = json.loads((folder / "record.json").read_text())
        predicted = pd.read_csv(folder / "predictions.csv").query("split == 'test'")
        here = truth.loc[predicted["name"]]
        valence = here["valence"].astype(float)
        (alone,) = paired_bootstrap(
            here["discrete"],
            valence,
            {"a": Predicted(predicted["discrete"], predicted["valence"])},
            groups=here["speaker"].tolist(),
        ).values()
        assert row["test_com"] == pytest.approx(record["scores"]["test"]["com"])
        assert (row["com_low"], row["com_high"]) == pytest.approx((alone.com_low, alone.com_high))
        assert row["parameters"] == record["parameters"]
        assert row["data_digest"] == record["data_digest"]
    assert [(row["version"], row["aliases"]) for row in rows] == [(3, []), (2, ["candidate"]), (1, [])]


def test_with_other_labels_or_without_a_valence_there_is_no_interval(
    mer: Mer, shop: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def registered_anew(root: Path) -> list[tuple[float | None, float | None]]:
        """Com and the low end of its interval, of versions 1 to 3, when they are registered again."""
        shutil.rmtree(root / "mlruns")
        track(root)
        monkeypatch.chdir(root)
        rows = json.loads(mer("registry", "--json")[1])
        return [(row["test_com"], row["com_low"]) for row in rows[::-1]]

    other = Path(shutil.copytree(shop, tmp_path / "other"))
    path = shop / "models/pnao/round-00/predictions.csv"
    table = pd.read_csv(path)
    table.loc[table.index[table["split"] == "test"][0], "valence"] = None
    table.to_csv(path, index=False)
    found = registered_anew(shop)
    assert [low is None for _, low in found] == [True, False, False]
    manifest = other / "data/demo/manifest.csv"
    labels = pd.read_csv(manifest, keep_default_na=False)
    labels.loc[labels["split"] == "test", "valence"] = "1.0"
    labels.to_csv(manifest, index=False)
    assert registered_anew(other) == [(com, None) for com, _ in found]


def test_a_repair_is_printed(mer: Mer, shop: Path, registry_tools: SimpleNamespace) -> None:
    from dataclasses import asdict

    left = json.dumps(asdict(Change("promotion", 2, None, None, "noon")))
    registry_tools.client_of(shop).set_registered_model_tag(NAME, CHANGE, left)
    code, _, err = mer("registry")
    assert (code, err) == (0, "finished a promotion that was cut short at noon: version 2 is champion\n")


def test_register_makes_what_is_missing_once(mer: Mer, shop: Path, registry_tools: SimpleNamespace) -> None:
    client = registry_tools.client_of(shop)
    client.delete_model_version(NAME, "2")
    code, out, _ = mer("register", "models/enf_pnao")
    # The best that is registered, of all of models/.
    assert (code, out) == (0, "0 new, 1 had a version; the candidate is version 3\n")
    code, out, _ = mer("register")
    lines = ["version 4: pnao, round 1, Com 0.4500 on Train&Val", "1 new, 2 had a version; the candidate is version 4"]
    assert (code, out.splitlines()) == (0, lines)
    code, out, _ = mer("register", "models/pnao/round-01", "models/pnao/round-01")
    assert (code, out) == (0, "0 new, 1 had a version; the candidate is version 4\n")
    version = client.get_model_version(NAME, "4")
    record = json.loads((shop / "models/pnao/round-01/record.json").read_text())
    run = client.get_run(version.run_id)
    assert run.data.tags["round_key"] == record["key"]
    assert run.data.tags["registered_version"] == "4"


def test_register_makes_the_run_of_a_round_that_was_never_tracked(
    mer: Mer, shop: Path, outs: SimpleNamespace, registry_tools: SimpleNamespace
) -> None:
    digest = json.loads((shop / "models/pnao/round-01/record.json").read_text())["data_digest"]
    outs.write_round(shop / "models", "pnao", 2, 0.6, data_digest=digest)
    code, out, _ = mer("register", "models/pnao/round-02")
    assert (code, out.splitlines()[0]) == (0, "version 4: pnao, round 2, Com 0.6000 on Train&Val")
    version = registry_tools.client_of(shop).get_model_version_by_alias(NAME, "candidate")
    assert registry_tools.client_of(shop).get_run(version.run_id).info.run_name == "pnao naor 0.05 round 02"


@pytest.mark.parametrize(
    ("folder", "sentence"),
    [
        ("nowhere", "nowhere is neither a finished round nor a system with finished rounds"),
        ("data", "data is neither a finished round nor a system with finished rounds"),
        ("models/enf", "models/enf/round-00 is of the system enf; versions are of pnao and enf_pnao"),
        ("models/linear_probe", "models/linear_probe is neither a finished round nor a system with finished rounds"),
        ("models/pnao/seed-5", "models/pnao/seed-5/round-00 is of a further seed; only the first seed's models get "
         "versions"),
    ],
)  # fmt: skip
def test_register_names_what_gets_no_version(
    mer: Mer, shop: Path, outs: SimpleNamespace, folder: str, sentence: str
) -> None:
    outs.write_round(shop / "models", "enf", 0, 0.3)
    outs.write_round(shop / "models", "pnao", 0, 0.3, folder="seed-5")
    assert mer("register", folder) == (2, "", f"error: {shop}/{sentence}\n")
