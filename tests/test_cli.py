"""The command `mer`: exit codes, and one sentence on stderr for each wrong use, never a traceback."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS

ROOT = Path(__file__).parents[1]
PROFILES = ", ".join(sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A fresh project on the demo profile, which is the working directory."""
    shutil.copytree(ROOT / "profiles", tmp_path / "profiles")
    shutil.copyfile(ROOT / "profiles/demo.yaml", tmp_path / "params.yaml")
    monkeypatch.chdir(tmp_path)


def test_without_arguments_it_prints_its_help(mer: Mer) -> None:
    code, out, err = mer()
    assert code in (0, 2)
    assert "Usage: mer" in out + err
    assert mer("--help")[0] == 0


def test_wrong_usage_exits_with_2(mer: Mer) -> None:
    for arguments in (
        ["nonsense"],
        ["extract", "x", "--engine", "x"],
        ["extract", "x", "--max-skipped", "2"],
        ["ui", "--port", "x"],
    ):
        code, out, err = mer(*arguments)
        assert (code, out) == (2, "")
        assert "Error" in err


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("extract nowhere", "nowhere does not exist"),
        ("extract empty", f"empty holds no clip ({', '.join(EXTENSIONS)})"),
        ("extract one --encoder whale", "params.yaml has hubert, manet, resnet, not 'whale'"),
        ("extract one two", "two clips are called 'a': one/a.mp4 and two/a.avi"),
        ("extract one/a.mp4 two*/*", "two clips are called 'a': one/a.mp4 and two/a.avi"),
        ("fetch voice", "'voice' is no name of the form organisation/name@revision"),
        ("table", "reports/table.csv is not there: run `make run` or `dvc repro` first"),
        ("profile --name nope", f"there is no profile 'nope'; profiles/ holds {PROFILES}"),
        ("profile --name ravdess --data nowhere", "nowhere is not a folder"),
        ("profile --data one", "the profile demo makes its own clips and takes no data folder, got one"),
        (
            "profile --name ravdess",
            "the profile ravdess reads data/ravdess/corpus, which is not there: name the folder that holds the corpus, "
            "as in `make run PROFILE=ravdess DATA=<folder>`",
        ),
        (
            "profile --name ravdess --data one",
            "data/ravdess/corpus is a folder already; move it away to link it to one",
        ),
    ],
)
def test_a_wrong_input_is_one_sentence_on_stderr(mer: Mer, arguments: str, sentence: str) -> None:
    for clip in ("one/a.mp4", "two/a.avi"):
        Path(clip).parent.mkdir()
        Path(clip).touch()
    Path("empty").mkdir()
    if "is a folder already" in sentence:
        Path("data/ravdess/corpus").mkdir(parents=True)
    assert mer(*arguments.split()) == (2, "", f"error: {sentence}\n")


def test_a_faulty_params_file_is_named(mer: Mer) -> None:
    Path("params.yaml").write_text("")
    assert mer("profile") == (2, "", "error: params.yaml is empty\n")
    Path("params.yaml").unlink()
    assert mer("extract", "x") == (2, "", "error: params.yaml cannot be read: No such file or directory\n")


def test_a_wrong_value_stops_before_anything_runs(mer: Mer) -> None:
    params = Path("params.yaml")
    params.write_text(re.sub(r"(?m)^(pnao:\n(?:.*\n)*?  naor: )[^#\n]*", r"\g<1>7 ", params.read_text(), count=1))
    assert mer("profile") == (2, "", "error: params.yaml: pnao.naor must lie in [0, 1], got 7.0\n")


def test_a_wrong_number_of_workers_is_named(mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_WORKERS", "many")
    Path("a.mp4").touch()
    assert mer("extract", "a.mp4") == (2, "", "error: MER_WORKERS must be a whole number of at least 1, got 'many'\n")


def test_choosing_a_profile_says_what_it_is(mer: Mer) -> None:
    code, out, err = mer("profile", "--name", "demo")
    assert (code, out, err) == (0, "profile demo: 6 emotions, corpus data/demo/clips\n", "")
    params = re.sub(r"(?m)^  labels:\n(  - .*\n)+", "  labels: []\n", Path("params.yaml").read_text())
    Path("params.yaml").write_text(params)
    code, out, err = mer("profile")
    assert (code, out, err) == (0, "profile demo: the corpus's own emotions, corpus data/demo/clips\n", "")


def test_fetch_takes_the_checkpoints_of_params_that_are_named_so(mer: Mer, monkeypatch: pytest.MonkeyPatch) -> None:
    fetched = []
    monkeypatch.setattr("mer_pnao.encoders.hub.fetch", lambda name, root: fetched.append(name) or root / name)
    assert mer("fetch") == (0, "No encoder of params.yaml has a checkpoint on the hub.\n", "")
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("data/demo/encoders/hubert", "data/hub/lab/voice@v1"))
    assert mer("fetch") == (0, "data/hub/lab/voice@v1: data/hub/lab/voice@v1\n", "")
    assert mer("fetch", "lab/other@main")[0] == 0
    assert fetched == ["data/hub/lab/voice@v1", "lab/other@main"]


def test_score_prints_for_people_and_for_programs(mer: Mer) -> None:
    Path("labels.csv").write_text("name,discrete,valence\na,happy,1\nb,sad,-2\n")
    Path("said.csv").write_text("name,discrete,valence\nb,sad,-2\na,happy,3\n")
    Path("bare.csv").write_text("name,discrete\na,happy\nb,sad\n")
    code, out, err = mer("score", "labels.csv", "said.csv", "--json")
    assert (code, err, out.count("\n")) == (0, "", 1)
    assert json.loads(out) == {"dis": 1.0, "dim": 2.0, "com": 0.5, "clips": 2}
    assert list(json.loads(out)) == ["dis", "dim", "com", "clips"]
    code, out, err = mer("score", "labels.csv", "said.csv")
    assert (code, err) == (0, "")
    assert out.split() == ["Dis", "1.0000", "Dim", "2.0000", "Com", "0.5000", "clips", "2"]
    code, out, err = mer("score", "bare.csv", "said.csv", "--json")
    assert json.loads(out) == {"dis": 1.0, "dim": None, "com": 1.0, "clips": 2}
    assert "no valence" in mer("score", "bare.csv", "said.csv")[1]
    assert mer("score", "labels.csv", "none [x].csv", "--json") == (2, "", "error: none [x].csv does not exist\n")
    code, out, err = mer("score", "labels.csv")
    assert (code, out) == (2, "")


def test_report_opens_the_page_or_says_where_it_is(mer: Mer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert mer("report") == (2, "", "error: reports/index.html is not there: run `make run` or `dvc repro` first\n")
    page = tmp_path / "reports/index.html"
    page.parent.mkdir()
    page.touch()
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", lambda address: opened.append(address) or True)
    assert mer("report") == (0, f"{page.as_uri()}\n", "")
    assert opened == [page.as_uri()]
    monkeypatch.setattr("webbrowser.open", lambda address: False)
    assert mer("report") == (0, f"no browser could be started: open {page.as_uri()}\n", "")
