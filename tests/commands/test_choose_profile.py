"""Choosing a profile: what it copies and links, and that a refused choice changes nothing."""

import shutil
import subprocess
from collections.abc import Callable
from contextlib import chdir
from pathlib import Path

import pytest

from mer_pnao.commands.choose_profile import choose_profile
from mer_pnao.foundations.errors import InputError

ROOT = Path(__file__).parents[2]
Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    shutil.copytree(ROOT / "profiles", root / "profiles")
    shutil.copyfile(ROOT / "profiles/demo.yaml", root / "params.yaml")
    return root


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    folder = tmp_path / "corpus"
    folder.mkdir()
    (folder / "labels.csv").touch()
    return folder


def test_a_profile_is_copied_and_its_data_linked(project: Path, corpus: Path) -> None:
    assert choose_profile(project, "ravdess", corpus)[0].profile == "ravdess"
    assert (project / "params.yaml").read_bytes() == (ROOT / "profiles/ravdess.yaml").read_bytes()
    assert (project / "data/ravdess/corpus").readlink() == corpus
    assert {path.name for path in project.iterdir()} == {"data", "params.yaml", "profiles"}
    choose_profile(project, "demo", None)
    assert choose_profile(project, "ravdess", None)[0].profile == "ravdess"  # the link is still there


def test_the_link_follows_new_data_and_survives_its_own_name(project: Path, corpus: Path, tmp_path: Path) -> None:
    choose_profile(project, "ravdess", corpus)
    other = tmp_path / "other"
    other.mkdir()
    choose_profile(project, None, other)
    assert (project / "data/ravdess/corpus").readlink() == other
    choose_profile(project, None, project / "data/ravdess/corpus")
    assert (project / "data/ravdess/corpus").readlink() == other


def test_unchanged_params_are_not_touched(project: Path) -> None:
    before = (project / "params.yaml").stat().st_mtime_ns
    choose_profile(project, "demo", None)
    choose_profile(project, None, None)
    assert (project / "params.yaml").stat().st_mtime_ns == before


def test_an_edited_file_is_kept_once_under_a_name_of_its_own(project: Path, corpus: Path) -> None:
    params, kept = project / "params.yaml", project / "params.edited-1.yaml"
    first, second = (f"{params.read_text()}# edit {number}\n" for number in (1, 2))
    for text, name, expected in [
        (None, "ravdess", None),  # a profile that `mer profile` itself has written, with a link to data
        (None, "demo", None),
        (first, "demo", kept),
        (second, "ravdess", project / "params.edited-2.yaml"),
        (first, "ravdess", kept),  # as it was taken back from there
        ("no: parameters\n", "demo", project / "params.edited-3.yaml"),
    ]:
        if text is not None:
            params.write_text(text)
        assert choose_profile(project, name, corpus if name == "ravdess" else None)[1] == expected
        assert params.read_bytes() == (ROOT / f"profiles/{name}.yaml").read_bytes()
        assert expected is None or expected.read_text() == text
    params.write_text(second)
    choose_profile(project, None, None)
    assert params.read_text() == second
    assert sorted(path.name for path in project.glob("params.*")) == [
        *(f"params.edited-{number}.yaml" for number in (1, 2, 3)),
        "params.yaml",
    ]


def test_a_choice_without_a_file_before_keeps_none(project: Path) -> None:
    (project / "params.yaml").unlink()
    assert choose_profile(project, "demo", None)[1] is None


def test_the_command_says_where_edits_are_and_how_to_go_back(project: Path, corpus: Path, mer: Mer) -> None:
    back = "To go back to the demo: make run PROFILE=demo\n"
    with chdir(project):
        assert "back" not in mer("profile", "--name", "demo")[1]
        with Path("params.yaml").open("a") as params:
            params.write("# mine\n")
        _, out, _ = mer("profile", "--name", "ravdess", "--data", str(corpus))
        kept = "Your edited params.yaml is kept. To take it back: cp params.edited-1.yaml params.yaml\n"
        assert out.endswith(f"corpus data/ravdess/corpus\n{kept}{back}")
        assert "back" not in mer("profile")[1]
        assert mer("profile", "--name", "ravdess")[1].endswith(f"corpus\n{back}")


def test_a_profile_that_makes_its_clips_takes_no_data(project: Path, corpus: Path) -> None:
    for root in ("data/demo/clips", "./data/demo/clips/"):  # one place, however it is written
        text = (ROOT / "profiles/demo.yaml").read_text().replace("root: data/demo/clips", f"root: {root}")
        (project / "params.yaml").write_text(text)
        with pytest.raises(InputError, match="makes its own clips and takes no data folder"):
            choose_profile(project, None, corpus)


@pytest.mark.parametrize("name", ["nope", "../params", ""])
def test_an_unknown_profile_is_refused(project: Path, name: str) -> None:
    known = ", ".join(sorted(path.stem for path in (ROOT / "profiles").glob("*.yaml")))
    with pytest.raises(InputError, match=f"there is no profile '{name}'; profiles/ holds {known}"):
        choose_profile(project, name, None)


def test_a_refused_choice_leaves_params_as_they_were(project: Path, tmp_path: Path) -> None:
    with (project / "params.yaml").open("a") as params:
        params.write("# mine\n")
    before = (project / "params.yaml").read_bytes()
    (project / "profiles/faulty.yaml").write_text("profile: faulty\n")
    with pytest.raises(InputError, match=r"faulty\.yaml: seed is missing"):
        choose_profile(project, "faulty", None)
    with pytest.raises(InputError, match="DATA=<folder>"):
        choose_profile(project, "ravdess", None)
    with pytest.raises(InputError, match="nowhere is not a folder"):
        choose_profile(project, "ravdess", tmp_path / "nowhere")
    assert (project / "params.yaml").read_bytes() == before
    assert not [*project.glob("params.edited*")]


def test_a_real_folder_is_not_replaced_by_a_link(project: Path, corpus: Path) -> None:
    own = project / "data/ravdess/corpus"
    own.mkdir(parents=True)
    (own / "labels.csv").write_text("mine")
    with pytest.raises(InputError, match="is a folder already; move it away"):
        choose_profile(project, "ravdess", corpus)
    assert (own / "labels.csv").read_text() == "mine"


HUBERT = "data/hub/facebook/hubert-large-ll60k@main"
CLIP = "data/hub/openai/clip-vit-base-patch32@main"


def lines(error: pytest.ExceptionInfo[InputError]) -> list[str]:
    """What the refusal says to type."""
    _, *rest = str(error.value).splitlines()
    assert not rest or rest.pop(0) == "What is missing and can be downloaded:"
    return [line.removeprefix("  ") for line in rest]


@pytest.mark.parametrize("ready", [True, False])
def test_what_is_missing_is_named_by_the_lines_that_download_it(project: Path, ready: bool) -> None:
    before = (project / "params.yaml").read_bytes()
    with pytest.raises(InputError, match="reads data/ravdess_videos/corpus, which is not there") as error:
        choose_profile(project, "ravdess_videos", None, ready)
    assert lines(error) == ["mer fetch ravdess", f"mer fetch {HUBERT}", f"mer fetch {CLIP}"]
    (project / HUBERT).mkdir(parents=True)
    with pytest.raises(InputError) as error:
        choose_profile(project, "cremad", None, ready)
    assert lines(error) == [f"mer fetch {CLIP}"]
    assert (project / "params.yaml").read_bytes() == before


def test_a_profile_that_is_to_run_needs_its_checkpoints(project: Path, corpus: Path) -> None:
    before = (project / "params.yaml").read_bytes()
    (project / "data/ravdess_videos/corpus").mkdir(parents=True)
    with pytest.raises(InputError, match=f"loads what is not there: {HUBERT}, {CLIP}\n") as error:
        choose_profile(project, "ravdess_videos", None, ready=True)
    assert lines(error) == [f"mer fetch {HUBERT}", f"mer fetch {CLIP}"]
    for part in ("train", "test1"):
        (corpus / part).mkdir()
        (corpus / part / f"{part}.mp4").touch()
        (corpus / f"{part}-label.csv").write_text(f"name,discrete\n{part},sad\n")
    with pytest.raises(InputError, match=r"loads what is not there: \S+, data/checkpoints/manet\.pth") as error:
        choose_profile(project, "mer2023", corpus, ready=True)
    assert lines(error) == []
    assert (project / "params.yaml").read_bytes() == before
    assert choose_profile(project, "mer2023", None)[0].profile == "mer2023"  # chosen, to be fetched or changed then
    assert choose_profile(project, "demo", None, ready=True)[0].profile == "demo"  # makes its own
    for checkpoint in (HUBERT, CLIP):
        (project / checkpoint).mkdir(parents=True)
    assert choose_profile(project, "ravdess_videos", None, ready=True)[0].profile == "ravdess_videos"


def test_another_folder_of_ravdess_is_named_to_fetch(project: Path) -> None:
    text = (ROOT / "profiles/ravdess_videos.yaml").read_text().replace("root: data/ravdess_videos", "root: data/mine")
    (project / "params.yaml").write_text(text)
    with pytest.raises(InputError) as error:
        choose_profile(project, None, None)
    assert lines(error)[0] == "mer fetch ravdess --to data/mine/corpus"


def test_what_runs_a_profile_asks_for_one_that_can_run() -> None:
    """And `make profile` for one that is chosen before its encoders are fetched."""
    for target in ("run", "nested", "controls", "search", "profile"):
        printed = subprocess.check_output(["make", "-n", target, "PROFILE=mine"], cwd=ROOT, text=True)
        assert ("mer profile --ready --name mine" in printed) == (target != "profile"), target
