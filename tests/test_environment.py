"""What is installed when: two locks that cannot drift apart, and nothing where DVC could not work."""

import fcntl
import os
import re
import shutil
import subprocess
import sys
import tomllib
from importlib.metadata import requires
from pathlib import Path
from typing import Any

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[1]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
RUN, DEV = "requirements.lock", "requirements-dev.lock"


def locked(name: str) -> dict[str, str]:
    pins = re.findall(r"^([\w.-]+)==(\S+)$", (ROOT / name).read_text(), re.M)
    return {canonicalize_name(package): version for package, version in pins}


def asked(extra: str | None = None) -> list[Requirement]:
    """What `pyproject.toml` asks for itself, of an extra with the extras that it names."""
    lines = PROJECT["optional-dependencies"][extra] if extra else PROJECT["dependencies"]
    each = [Requirement(line) for line in lines]
    own = [name for requirement in each if requirement.name == PROJECT["name"] for name in requirement.extras]
    return [r for r in each if r.name != PROJECT["name"]] + [r for name in own for r in asked(name)]


def needed(requirements: list[Requirement]) -> set[str]:
    """The names of all that comes with them, as the packages that are installed here say."""
    waiting, seen = [(r.name, extra) for r in requirements for extra in ("", *r.extras)], set()
    while waiting:
        if (each := waiting.pop()) in seen:
            continue
        seen.add(each)
        if each[0] == "torch":  # what it asks for differs from build to build: CUDA's libraries, or none
            continue
        further = [Requirement(line) for line in requires(each[0]) or []]
        of_extra = {"extra": each[1]}
        waiting += [
            (r.name, extra)
            for r in further
            if r.marker is None or r.marker.evaluate(of_extra)
            for extra in ("", *r.extras)
        ]
    return {canonicalize_name(name) for name, _ in seen}


def test_each_package_is_locked_once() -> None:
    for name in (RUN, DEV):
        lines = (ROOT / name).read_text().splitlines()
        assert len(locked(name)) == len(lines) - (name == DEV), "a line that pins nothing, or a package twice"
    assert (ROOT / DEV).read_text().startswith(f"-r {RUN}\n")
    assert not locked(RUN).keys() & locked(DEV).keys()


def test_the_locks_hold_what_pyproject_asks_for() -> None:
    run, dev = asked(), asked("dev")
    everything = locked(RUN) | locked(DEV)
    for requirement in run + dev:
        version = (locked(RUN) if requirement in run else everything)[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(version), f"{requirement} is locked at {version}"


@pytest.mark.skipif(
    sys.version_info[:2] != (3, 11) or sys.platform != "linux",
    reason="the locks are frozen on Linux with Python 3.11, and elsewhere packages ask for others",
)
def test_each_lock_holds_what_comes_along_and_no_more() -> None:
    run, dev = asked(), asked("dev")
    everything = locked(RUN) | locked(DEV)
    assert not needed(run) - locked(RUN).keys()
    assert not needed(run + dev) - everything.keys()
    assert not (needed(dev) - needed(run)) & locked(RUN).keys(), "comes with `make test` alone"


@pytest.fixture
def unpacked(tmp_path: Path) -> Path:
    """What make reads of the project, in a folder that is no git repository, as after a download."""
    for name in ("Makefile", "pyproject.toml", RUN, DEV):
        shutil.copyfile(ROOT / name, tmp_path / name)
    return tmp_path


def command(folder: Path, *arguments: str, **settings: str) -> dict[str, Any]:
    """How make is called there, as `subprocess` takes it."""
    outer = {name: value for name, value in os.environ.items() if not name.startswith(("GIT_", "MAKE", "MFLAGS"))}
    environment = outer | {"GIT_CEILING_DIRECTORIES": str(folder.parent)} | settings
    return {"args": [str(shutil.which("make")), *arguments], "cwd": folder, "env": environment, "text": True}


def make(folder: Path, *arguments: str, **settings: str) -> tuple[int, str]:
    done = subprocess.run(**command(folder, *arguments, **settings), capture_output=True, check=False)
    return done.returncode, done.stdout + done.stderr


@pytest.mark.parametrize("target", ["run", "search"])
def test_nothing_is_installed_where_dvc_could_not_work(unpacked: Path, target: str) -> None:
    for _ in range(2):
        code, said = make(unpacked, target)
        assert code != 0
        assert 'type here: git init && git add . && git commit -m "As downloaded"' in said
        assert not (unpacked / ".venv").exists()
        subprocess.run(["git", "init", "-q"], cwd=unpacked, check=True)  # and still no commit


def test_what_the_sentence_says_is_enough(unpacked: Path) -> None:
    name = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    for command in (["init", "-q"], ["add", "."], [*name, "commit", "-qm", "As downloaded"]):
        subprocess.run(["git", *command], cwd=unpacked, check=True)
    assert make(unpacked, "clone") == (0, "")


def test_missing_git_is_named(unpacked: Path, tmp_path: Path) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/sh").symlink_to("/bin/sh")
    code, said = make(unpacked, "run", PATH=str(tmp_path / "bin"))
    assert code != 0
    assert said.startswith("git is needed")


def test_running_needs_the_first_lock_and_checking_both(unpacked: Path) -> None:
    """An installation counts once its marker is there, newer than its lock."""
    first, second = f"-r {RUN}", f"-r {DEV}"
    for markers, of_run, of_checks in [
        ([], {first}, {first, second}),
        ([".complete"], set(), {second}),
        ([".complete", ".complete-dev"], set(), set()),
    ]:
        for marker in markers:
            (unpacked / ".venv").mkdir(exist_ok=True)
            (unpacked / ".venv" / marker).touch()
        for target, expected in (("controls", of_run), ("check", of_checks)):
            _, said = make(unpacked, "--dry-run", target)
            assert {lock for lock in (first, second) if f"{lock}\n" in said} == expected


def test_of_two_at_once_one_installs(unpacked: Path) -> None:
    """The second waits, and finds what the first has made."""
    with (unpacked / "Makefile").open("r+") as first:
        fcntl.flock(first, fcntl.LOCK_EX)
        second = subprocess.Popen(**command(unpacked, "env"), stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        assert second.stdout is not None
        assert second.stdout.readline() == "another make installs here: waiting for it\n"
        (unpacked / ".venv").mkdir()
        (unpacked / ".venv/.complete").touch()
    said, _ = second.communicate()
    assert (second.returncode, "pip" in said) == (0, False)
