"""A challenge's release as a folder of links: to what the profile reads, and with no change to the release."""

import subprocess
import sys
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import yaml

from mer_pnao.commands.choose_profile import choose_profile
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import load_params

ROOT = Path(__file__).parents[2]
LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
Project = Callable[..., Path]


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """30 training clips and 5 candidates among 100 videos, with words, crops, a detector and noise."""
    root = tmp_path / "disk" / "release"
    names = [f"sample_{i:03d}" for i in range(100)]
    for i, name in enumerate(names):
        write(root / "video" / ("a" if i % 2 else "b") / f"{name}.mp4", name)
        crops = root / "openface_face"
        spread = (
            crops / f"{name}_aligned/1.bmp",
            crops / f"{name}.npy",
            crops / name / "1.png",
            crops / name / "x.npy",
        )
        write(spread[i % 4], "crop")
    write(root / "track1_train_disdim.csv", table(names[:30]))
    write(root / "track_all_candidates.csv", "name\n" + "\n".join(names[30:35]) + "\n")
    write(root / "text/subtitle_chieng.csv", "name,chinese\nsample_000,a\n")
    write(root / "tools/face.onnx", "network")
    for name in ("babble", "deep/street"):
        write(root / f"noise/{name}.wav", "noise")
    write(root / "release.zip", "hours of it")
    return root


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def table(names: list[str]) -> str:
    return "name,discrete,valence\n" + "".join(f"{name},{LABELS[i % 6]},0.5\n" for i, name in enumerate(names))


@pytest.fixture
def project(tmp_path: Path) -> Project:
    """A project with MER 2025's profile, faces found here and the words in a folder, but for what is changed."""

    def make(**changes: Mapping[str, Any]) -> Path:
        root = tmp_path / "project"
        profile = yaml.safe_load((ROOT / "profiles/mer2025.yaml").read_text())
        profile["encoders"]["words"]["transcripts"] = "text/subtitle_chieng.csv"
        profile["media"] |= {"crops": ""} | changes.get("media", {})
        profile["corruption"] |= changes.get("corruption", {})
        write(root / "profiles/mer2025.yaml", yaml.safe_dump(profile, sort_keys=False))
        return root

    return make


def linked(root: Path) -> set[str]:
    place = root / "data/mer2025/corpus"
    return {path.relative_to(place).as_posix() for path in place.rglob("*") if path.is_symlink()}


def content(folder: Path) -> dict[str, str]:
    return {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}


def test_only_what_the_profile_reads_is_linked(project: Project, release: Path) -> None:
    root = project()
    before = content(release)
    choose_profile(root, "mer2025", release)
    clips = {f"video/{'a' if i % 2 else 'b'}/sample_{i:03d}.mp4" for i in range(35)}
    assert linked(root) == clips | {"track1_train_disdim.csv", "track_all_candidates.csv", "text/subtitle_chieng.csv"}
    params = load_params(root / "params.yaml")
    read = [read_corpus(params.corpus, place, 0) for place in (release, root / params.corpus.root)]
    assert read[0].equals(read[1])
    assert content(release) == before


def test_crops_detector_and_noise_wherever_they_lie(project: Project, release: Path) -> None:
    place = "data/mer2025/corpus"
    noise = {"snr_low": 5.0, "snr_high": 10.0, "blur": [1, 2], "seed": 0, "noise": f"{place}/noise"}
    root = project(media={"detector": f"{place}/tools/face.onnx"}, corruption={"street": noise})
    choose_profile(root, "mer2025", release)
    others = {path for path in linked(root) if not path.startswith("video/") and path.count("/")}
    assert others == {"text/subtitle_chieng.csv", "tools/face.onnx", "noise/babble.wav", "noise/deep/street.wav"}

    project(media={"crops": f"{place}/openface_face"})
    choose_profile(root, "mer2025", None)
    crops = {path.removeprefix("openface_face/") for path in linked(root) if path.startswith("openface_face/")}
    kinds = ("{0}_aligned/1.bmp", "{0}.npy", "{0}/1.png", "{0}/x.npy")
    assert crops == {kinds[i % 4].format(f"sample_{i:03d}") for i in range(35)}
    assert not (root / place / "openface_face/sample_000_aligned").is_symlink(), "DVC does not look into it"
    assert (root / place / "openface_face/sample_000_aligned/1.bmp").is_file()


def test_clips_that_came_later_are_linked_by_mer_profile(project: Project, release: Path) -> None:
    root = project()
    choose_profile(root, "mer2025", release)
    write(release / "track1_train_disdim.csv", table([f"sample_{i:03d}" for i in [*range(1, 30), 50]]))
    params = load_params(root / "params.yaml")
    with pytest.raises(InputError, match=r"holds no clip 'sample_050'; `mer profile` links clips that came later"):
        read_corpus(params.corpus, root / params.corpus.root, 0)
    choose_profile(root, None, None)
    assert "video/b/sample_050.mp4" in linked(root)
    assert "video/b/sample_000.mp4" not in linked(root)
    place = root / "data/mer2025/corpus"
    before = place.stat().st_ino
    choose_profile(root, None, None)
    assert place.stat().st_ino == before, "whoever reads there is disturbed"
    (release / "track_all_candidates.csv").unlink()
    choose_profile(root, None, root / "data/mer2025/corpus")  # by its own name
    assert len(linked(root)) == 30 + 2
    assert {path.name for path in place.parent.iterdir()} == {"corpus", ".corpus.release", ".corpus.lock"}


def test_the_link_of_an_earlier_version_and_another_release_are_replaced(
    project: Project, release: Path, tmp_path: Path
) -> None:
    root, place = project(), tmp_path / "project/data/mer2025/corpus"
    place.parent.mkdir(parents=True)
    place.symlink_to(release)
    choose_profile(root, "mer2025", None)
    assert place.is_symlink()  # nobody asked
    before = content(release)
    choose_profile(root, "mer2025", place)
    assert len(linked(root)) == 35 + 3
    moved = release.rename(tmp_path / "moved")
    with pytest.raises(InputError, match=f"{release}.*does not exist"):
        choose_profile(root, None, None)
    choose_profile(root, None, moved)
    assert content(moved) == before
    assert all((place / path).resolve().is_relative_to(moved) for path in linked(root))


def test_a_folder_of_files_is_refused_and_stays(project: Project, release: Path) -> None:
    root = project()
    mine = root / "data/mer2025/corpus/video/mine.mp4"
    write(mine, "mine")
    with pytest.raises(InputError, match="is a folder already; move it away to link it to"):
        choose_profile(root, "mer2025", release)
    assert mine.read_text() == "mine"
    assert not (root / "params.yaml").exists()


def test_somebodys_own_folder_of_links_is_refused_and_stays(project: Project, release: Path) -> None:
    root = project()
    farm = root / "data/mer2025/corpus"
    farm.mkdir(parents=True)
    for name in ("video", "text", "track1_train_disdim.csv"):
        (farm / name).symlink_to(release / name)
    choose_profile(root, "mer2025", None)  # as it was
    with pytest.raises(InputError, match="is a folder already"):
        choose_profile(root, "mer2025", release)
    assert {path.name for path in farm.iterdir()} == {"video", "text", "track1_train_disdim.csv"}


def test_a_release_whose_tables_are_links_themselves(project: Project, release: Path) -> None:
    root, listed = project(), release / "track1_train_disdim.csv"
    (release / ".annex").mkdir()
    listed.rename(release / ".annex/KEY.csv")
    listed.symlink_to(".annex/KEY.csv")
    for data in (release, None):
        choose_profile(root, "mer2025", data)
        assert len(linked(root)) == 35 + 3


def test_a_kill_between_two_moves_is_mended_and_two_at_once_take_turns(project: Project, release: Path) -> None:
    root = project()
    choose_profile(root, "mer2025", release)
    before, place = linked(root), root / "data/mer2025/corpus"
    place.rename(place.with_name(".corpus.before"))
    choose_profile(root, None, None)
    assert linked(root) == before
    with ThreadPoolExecutor(4) as pool:
        for number in range(3):
            write(release / "track1_train_disdim.csv", table([f"sample_{i:03d}" for i in range(number, 30)]))
            list(pool.map(lambda _: choose_profile(root, None, None), range(4)))
            assert len(linked(root)) == 35 - number + 3


def test_a_refused_release_is_told_of_and_leaves_the_links(project: Project, release: Path) -> None:
    root = project()
    choose_profile(root, "mer2025", release)
    before = linked(root)
    rows = "".join(f"absent_{i},sad,0\n" for i in range(25))
    write(release / "track1_train_disdim.csv", "name,discrete,valence\n" + rows)
    with pytest.raises(InputError) as refusal:
        choose_profile(root, None, None)
    lines = str(refusal.value).splitlines()
    assert lines[0] == f"{release}/track1_train_disdim.csv, row 2: {release}/video holds no clip 'absent_0'"
    assert len(lines) == 21
    assert lines[-1] == "… and 5 more"
    assert linked(root) == before


@pytest.mark.slow
def test_dvc_hashes_the_linked_clips_and_no_others(project: Project, release: Path) -> None:
    root = project()
    choose_profile(root, "mer2025", release)
    write(root / "dvc.yaml", "stages: {read: {cmd: date > out, deps: [data/mer2025/corpus], outs: [out]}}\n")

    def dvc(*command: str) -> str:
        return subprocess.check_output([sys.executable, "-m", "dvc", *command], cwd=root, text=True)

    dvc("init", "--no-scm", "-q")
    dvc("repro", "-q")
    write(release / "video/a/sample_099.mp4", "another unlisted one")
    write(release / "video/new.mp4", "new")
    choose_profile(root, None, None)
    assert "up to date" in dvc("status")
    write(release / "video/b/sample_000.mp4", "another take")
    assert "modified" in dvc("status")
