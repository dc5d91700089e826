"""`mer predict`: a table or JSON lines, exit codes, and a sentence for each mistake."""

import json
import os
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS
from mer_pnao.features.sets import load_sets

MODEL = "models/enf_pnao/round-00"
LONG = 300 * "a"
DRAWN = "the model has learnt from drawn faces and synthetic voices, and knows nothing about people"


def lines(out):
    return {row["name"]: row for row in map(json.loads, out.splitlines())}


def test_folder_glob_and_file_as_json_lines(mer, demo_project, recorded, assert_same):
    rows = recorded(demo_project / MODEL)
    for arguments in (["data/clips"], ["data/**/*.mp4"], [f"data/clips/{name}.mp4" for name in rows]):
        code, out, err = mer(demo_project, "predict", *arguments, "--model", MODEL, "--json")
        assert (code, err) == (0, "")
        assert list(lines(out)) == list(rows)
        for name, answer in lines(out).items():
            assert_same(answer, rows[name])


def share(value):
    return f"{value:.2f}".removeprefix("0")


@pytest.mark.parametrize("columns", ["80", "50"])
@pytest.mark.parametrize("wide", [False, True])
def test_the_table_shows_the_same(mer, demo_project, recorded, monkeypatch, columns, wide):
    monkeypatch.setenv("COLUMNS", columns)
    code, out, err = mer(demo_project, "predict", "data/clips", "--model", f"{MODEL}/", *(["--wide"] if wide else []))
    assert code == 0
    assert "model enf_pnao/round-00" in out
    low = np.median([row["valence"] for row in recorded(demo_project / MODEL).values()])
    known = f"{low:+.2f} to +4.00"
    assert " ".join(out.split()).endswith(f"valence: {known} in the training clips, * is beyond")
    heading = " ".join(out.splitlines()[2].split())
    rest = "neutral angry happy hubert-18 hubert-20" if wide else "next best"
    assert heading == f"clip emotion conf. valence {rest}"
    beyond = []
    for name, row in recorded(demo_project / MODEL).items():
        (line,) = [line for line in out.splitlines() if line.split()[:1] == [name]]
        posteriors = {label: row[f"posterior_{label}"] for label in ("neutral", "angry", "happy")}
        valence = f"{row['valence']:+.2f}" + ("*" if row["valence"] < low else "")
        beyond += [name] if row["valence"] < low else []
        last = [share(value) for value in (*posteriors.values(), row["weight_hubert-18"], row["weight_hubert-20"])]
        second = sorted(posteriors, key=posteriors.get)[-2]
        last = last if wide else [second, share(posteriors[second])]
        assert line.split() == [name, row["discrete"], share(row["confidence"]), valence, *last]
        assert wide or len(line) <= int(columns)
    said = err.splitlines()
    assert said[0] == f"warning: {DRAWN}"
    assert len(beyond) == 2
    assert said[1:] == [f"{', '.join(beyond)}: its valence lies beyond that of the training clips, {known}"]


def test_all_answers_as_a_csv(mer, demo_project, recorded, tmp_path):
    path = tmp_path / "new/answers.csv"
    code, out, err = mer(demo_project, "predict", "data/clips", "--model", MODEL, "--csv", str(path))
    assert (code, out) == (0, f"5 of 5 clips answered: {path}\n")
    assert err.startswith(f"warning: {DRAWN}\n")
    rows = recorded(demo_project / MODEL)
    table = pd.read_csv(path).set_index("name")
    assert list(table.index) == list(rows)
    for name, row in table.iterrows():
        want = rows[name]
        assert row["emotion"] == want["discrete"]
        same = ["confidence", "valence", *(column for column in table if column.startswith(("posterior_", "weight_")))]
        assert len(same) == 7
        assert row[same].tolist() == pytest.approx([want[column] for column in same], abs=1e-5)
        assert (row["valence_high"], row["model_version"]) == (4, "enf_pnao/round-00")
        assert row["warnings"].endswith("+4.00") == (row["valence"] < row["valence_low"])
        assert row["novelty"] <= 1
        assert row["warnings"].startswith(DRAWN)


def test_a_csv_that_cannot_be_written_or_is_not_asked_for_alone_is_refused(mer, demo_project, tmp_path):
    (tmp_path / "file").touch()
    for options, sentence in (
        (["--csv", str(tmp_path)], f"{tmp_path} is a folder, and --csv names a file"),
        (["--csv", str(tmp_path / "file/a.csv")], f"{tmp_path / 'file/a.csv'} cannot be written: "),
        (["--csv", str(tmp_path / "a.csv"), "--json"], "only one of --json, --wide and --csv can be asked for"),
        (["--wide", "--json"], "only one of --json, --wide and --csv can be asked for"),
    ):
        code, out, err = mer(demo_project, "predict", "data/clips", "--model", MODEL, *options)
        assert (code, out) == (2, "")
        assert err.startswith(f"error: {sentence}")
    assert not (tmp_path / "a.csv").exists()


def test_where_no_clip_can_be_used_the_csv_has_its_header_alone(mer, demo_project, damaged, tmp_path):
    path = tmp_path / "answers.csv"
    code, out, err = mer(demo_project, "predict", str(damaged["empty"]), "--model", MODEL, "--csv", str(path))
    assert (code, out) == (2, f"0 of 1 clips answered: {path}\n")
    assert "warning" not in err
    table = pd.read_csv(path)
    assert table.empty
    assert list(table)[7:10] == ["posterior_neutral", "posterior_angry", "posterior_happy"]


def test_of_many_clips_a_warning_tells_how_many(mer, demo_project, real_clips):
    clips = [str(path) for path in real_clips[:5]]
    _, out, _ = mer(demo_project, "predict", *clips, "--model", MODEL, "--json")
    about = Counter(warning for row in lines(out).values() for warning in row["warnings"])
    assert max(about.values()) == 5
    _, _, err = mer(demo_project, "predict", *clips, "--model", MODEL)
    for warning, count in about.items():
        (said,) = [line for line in err.splitlines() if line.endswith(f": {warning}")]
        if count > 3 and warning != DRAWN:
            assert said == f"{count} of 5 clips: {warning}"
    assert any(count > 3 for warning, count in about.items() if warning != DRAWN)


def test_a_name_is_printed_as_it_is(mer, demo_project, tmp_path):
    """Neither rich's markup nor its codes of emoji."""
    clip = tmp_path / "Talk [dQw4] at 10:100:20.mp4"
    shutil.copyfile(next((demo_project / "data/clips").glob("*.mp4")), clip)
    code, out, _ = mer(demo_project, "predict", str(clip), "--model", MODEL)
    assert code == 0
    assert clip.stem in out


def test_a_name_that_a_terminal_cannot_show_is_no_reason_to_stop(mer, demo_project, tmp_path):
    clip = tmp_path / os.fsdecode(b"\xff.mp4")
    shutil.copyfile(next((demo_project / "data/clips").glob("*.mp4")), clip)
    code, out, _ = mer(demo_project, "predict", str(clip), "--model", MODEL)
    assert code == 0
    assert r"\udcff" in out


def test_a_bad_clip_is_reported_and_the_others_go_on(mer, demo_project, damaged):
    good = next((demo_project / "data/clips").glob("*.mp4"))
    code, out, err = mer(
        demo_project, "predict", str(damaged["text"]), str(good), str(damaged["empty"]), "--model", MODEL, "--json"
    )
    assert code == 2
    assert list(lines(out)) == [good.stem]
    assert err.splitlines()[1:] == [f"{damaged['empty']}: is empty", "2 of 3 clips could not be used"]
    assert err.startswith(f"{damaged['text']}: is not a readable video file")


def test_champion_candidate_version_and_uri(mer, registered, recorded, assert_same):
    clip = sorted((registered / "data/clips").glob("*.mp4"))[0]
    for reference, version, number in (
        (None, "1", 0),
        ("champion", "1", 0),
        ("candidate", "2", 1),
        ("2", "2", 1),
        ("models:/mer-pnao@champion", "1", 0),
        ("models:/mer-pnao/2", "2", 1),
    ):
        named = [] if reference is None else ["--model", reference]
        code, out, err = mer(registered, "predict", str(clip), "--json", *named)
        assert (code, err) == (0, "")
        (answer,) = lines(out).values()
        assert answer["model_version"] == version
        assert_same(answer, recorded(registered / f"models/enf_pnao/round-0{number}")[clip.stem])


@pytest.mark.parametrize(
    ("reference", "sentence"),
    [
        ("previous", "mer-pnao has no previous: --model takes"),
        ("9", "mer-pnao has no version 9"),
        ("models:/other@champion", "'models:/other@champion' is no model of this project"),
        ("models/enf_pnao/round-09", "models/enf_pnao/round-09 is not the folder of a model"),
        (f"models/{LONG}", f"models/{LONG} is not the folder of a model"),
        (LONG, f"mer-pnao has no {LONG}: --model takes"),
        ("data", "data is not the folder of a model"),
    ],
)
def test_an_unknown_model_is_one_sentence(mer, registered, reference, sentence):
    code, out, err = mer(registered, "predict", "data/clips", "--model", reference)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {sentence}")
    assert len(err.splitlines()) == 1


def test_without_a_champion_it_says_how_to_get_one(mer, registered, demo_project, tmp_path):
    from mer_pnao.tracking.connection import NAME, opened

    project = Path(shutil.copytree(registered, tmp_path / "project"))
    with opened(project) as store:
        store.client.delete_registered_model_alias(NAME, "champion")
    _, _, err = mer(project, "predict", "data/clips")
    assert err.startswith("error: mer-pnao has no champion: promote one with `mer promote`; --model takes candidate")
    assert mer(demo_project, "predict", "data/clips")[2].endswith("or a folder models/<system>/round-NN")


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "no clips are named"),
        (["gone.mp4"], "gone.mp4 does not exist"),
        ([""], "an empty name names no clip"),
        ([f"{LONG}.mp4"], f"{LONG}.mp4 cannot be looked for: File name too long"),
        ([f"{LONG}/a.mp4"], f"{LONG}/a.mp4 cannot be looked for: File name too long"),
        (["--features", LONG], f"{LONG} is not a folder of features"),
        (["gone*"], f"no clip ({', '.join(EXTENSIONS)}) matches 'gone*'"),
        (["models"], "models holds no clip"),
        (["--features", "gone"], "gone is not a folder of features"),
        (["--features", "models"], "models: no encoder has the feature set hubert-18"),
    ],
)
def test_wrong_clips_are_one_sentence(mer, demo_project, arguments, sentence):
    code, out, err = mer(demo_project, "predict", *arguments, "--model", MODEL)
    assert (code, out) == (2, "")
    assert err.startswith(f"error: {sentence}")


def test_one_name_for_two_clips_is_refused_and_one_clip_named_twice_is_not(mer, demo_project, tmp_path):
    clip = next((demo_project / "data/clips").glob("*.mp4"))
    code, out, _ = mer(demo_project, "predict", str(clip), "data/clips", "--model", MODEL, "--json")
    assert code == 0
    assert len(out.splitlines()) == 5
    shutil.copyfile(clip, tmp_path / clip.name)
    code, _, err = mer(demo_project, "predict", str(clip), str(tmp_path), "--model", MODEL)
    assert code == 2
    assert f"two clips are called '{clip.stem}'" in err


@pytest.mark.parametrize("layout", ["extracted", "mertools"])
def test_ready_features(mer, demo_project, tmp_path, recorded, assert_same, layout):
    folder = demo_project / "data/features"
    if layout == "mertools":
        for name, part in load_sets(folder, ["hubert-18", "hubert-20", "manet"]).items():
            (tmp_path / name).mkdir()
            for clip, vector in zip(part.names, part.vectors, strict=True):
                np.save(tmp_path / name / f"{clip}.npy", vector)
        folder = tmp_path
    rows = recorded(demo_project / MODEL)
    code, out, err = mer(demo_project, "predict", "--features", str(folder), "--model", MODEL, "--json")
    assert (code, err) == (0, "")
    assert list(lines(out)) == list(rows)
    for name, answer in lines(out).items():
        assert_same(answer, rows[name])
    first = next(iter(rows))
    code, out, err = mer(
        demo_project, "predict", "gone", f"{first}.mp4", "--features", str(folder), "--model", MODEL, "--json"
    )
    assert code == 2
    assert list(lines(out)) == [first]
    assert err == "gone: is not in the feature set hubert-18\n1 of 2 clips could not be used"


def test_names_of_ready_features_may_hold_points(mer, demo_project, tmp_path):
    """A file and a folder of frames a set; `v1` would be another clip."""
    for name in ("hubert-18", "hubert-20", "manet"):
        (tmp_path / name / "v1.2").mkdir(parents=True)
        for file in ("v1.2/0001.npy", "v1.3.npy"):
            np.save(tmp_path / name / file, np.ones(128, np.float32))
    for named in ([], ["v1.2", "v1.3"], ["clips/v1.2.MP4", "v1.3.npy"]):
        options = ["--features", str(tmp_path), "--model", MODEL, "--json"]
        code, out, err = mer(demo_project, "predict", *named, *options)
        assert (code, err) == (0, "")
        assert list(lines(out)) == ["v1.2", "v1.3"]


def test_ready_features_of_another_width_are_refused(mer, demo_project, tmp_path):
    for name, width in (("hubert-18", 128), ("hubert-20", 128), ("manet", 5)):
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.zeros(width, np.float32))
    code, _, err = mer(demo_project, "predict", "--features", str(tmp_path), "--model", MODEL)
    assert code == 2
    assert err == "error: the feature set manet has the width 5, and model enf_pnao/round-00 reads 128"


def test_a_version_whose_files_lie_on_a_server_is_fetched_once(registered, tmp_path, monkeypatch):
    from mlflow import MlflowClient

    from mer_pnao.tracking import lookup

    project = Path(shutil.copytree(registered, tmp_path / "project"))
    monkeypatch.chdir(project)
    here = lookup.find_registered(project, "2").directory
    files = {path.name: path.read_bytes() for path in here.iterdir()}
    server = here.parent.rename(tmp_path / "server")  # another folder stands for another machine
    real, fetched = MlflowClient.get_logged_model, []

    def elsewhere(client, model_id):
        logged = real(client, model_id)
        logged._artifact_location = server.as_uri()
        return logged

    def counted(*arguments, download=lookup.download_artifacts, **named):
        fetched.append(arguments)
        return download(*arguments, **named)

    monkeypatch.setattr(MlflowClient, "get_logged_model", elsewhere)
    monkeypatch.setattr(lookup, "download_artifacts", counted)
    for _ in range(2):
        found = lookup.find_registered(project, "2")
        assert found.directory.is_relative_to(project / "work/served")
        assert {path.name: path.read_bytes() for path in found.directory.iterdir()} == files
    assert len(fetched) == 1
    assert [path.name for path in (project / "work/served").iterdir()] == [found.directory.parent.name]
