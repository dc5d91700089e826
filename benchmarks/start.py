"""How long the commands take to start, as ratios to `python -c "import torch"`: CPU and wall clock, in turns.

    python benchmarks/start.py [--turns 5]

To be run in a checkout after `make run`. The commands run in a copy of it, in which `data/`, `models/` and `reports/`
are links and MLflow's database is a file of its own, so that the checkout stays as it is. CPU counts the processes,
user and system; `ui` and `serve` are timed from their start to their first answer. Printed are medians; a first turn,
which fills the caches of files and byte code, does not count.
"""

import os
import shutil
import signal
import statistics
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from mer_pnao.foundations.console import ROOT, input_errors, narrow_table, plain_console, progress
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.ports import listen
from mer_pnao.outs.record import best_round_directory

_MER = (sys.executable, "-m", "mer_pnao.cli")
_LINKED = ("data", "models", "reports", "profiles", "mlruns/artifacts")
_COPIED = ("params.yaml", "dvc.yaml", "dvc.lock", "mlruns/mlflow.db")
_LONGEST = 120  # seconds to a first answer


def copy_of(project: Path, place: Path) -> None:
    """What the commands read of a project, as links, and what they write, as copies. Raises InputError for no run."""
    (place / "mlruns").mkdir()
    for name in (*_LINKED, *_COPIED):
        source = (project / name).resolve()
        if not source.exists():
            raise InputError(f"{project / name} is not there: run `make run` first")
        if name in _LINKED:
            (place / name).symlink_to(source)
        else:
            shutil.copy(source, place / name)


def to_the_end(command: tuple[str, ...], place: Path, environment: dict[str, str]) -> tuple[float, float]:
    """CPU and wall-clock seconds of a command and of the processes that it waits for."""
    start = time.perf_counter()
    with subprocess.Popen(command, cwd=place, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT) as it:
        assert it.stdout is not None
        said = it.stdout.read()
        _, status, used = os.wait4(it.pid, 0)
        it.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.perf_counter() - start
    if it.returncode:
        raise InputError(f"{' '.join(command[1:])} failed: {said.decode(errors='replace')}")
    return used.ru_utime + used.ru_stime, seconds


def to_the_first_answer(command: tuple[str, ...], place: Path, environment: dict[str, str]) -> tuple[float, float]:
    """CPU, not known, and wall-clock seconds until a server's page is there."""
    with listen("127.0.0.1", 0) as free:
        port = free.getsockname()[1]
    start = time.perf_counter()
    server = subprocess.Popen(
        [*command, "--port", str(port)],
        cwd=place,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        while time.perf_counter() - start < _LONGEST and server.poll() is None:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=5):
                    return float("nan"), time.perf_counter() - start
            except OSError:
                time.sleep(0.02)
        raise InputError(f"{' '.join(command[1:])} does not answer")
    finally:
        server.send_signal(signal.SIGINT)
        server.wait(30)


def main(turns: Annotated[int, typer.Option(min=1, help="Turns of all commands that count.")] = 5) -> None:
    """Print how long each command takes."""
    clip = next(iter(sorted((ROOT / "data/demo/clips").glob("*.mp4"))), None)
    if clip is None:
        raise InputError("data/demo/clips holds no clip: run `make run` first")
    model = str(best_round_directory(ROOT / "models/enf_pnao"))
    commands: dict[str, tuple[Callable[..., tuple[float, float]], tuple[str, ...]]] = {
        "import torch": (to_the_end, (sys.executable, "-c", "import torch")),
        "mer --help": (to_the_end, (*_MER, "--help")),
        **{f"mer {name}": (to_the_end, (*_MER, name)) for name in ("table", "check", "profile", "init", "registry")},
        "mer registry 1": (to_the_end, (*_MER, "registry", "1")),
        "mer predict, a folder": (to_the_end, (*_MER, "predict", str(clip), "--model", model)),
        "mer predict, a version": (to_the_end, (*_MER, "predict", str(clip), "--model", "candidate")),
        "mer ui": (to_the_first_answer, (*_MER, "ui")),
        "mer serve": (to_the_first_answer, (*_MER, "serve", "--model", "candidate")),
    }
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment.pop("MLFLOW_TRACKING_URI", None)
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in commands}
    with TemporaryDirectory() as folder, progress("starting", len(commands) * (1 + turns)) as done:
        copy_of(ROOT, Path(folder))
        for turn in range(1 + turns):
            for name, (measure, command) in commands.items():
                seconds = measure(command, Path(folder), environment)
                found[name] += [seconds] if turn else []
                done(1)
    medians = {name: tuple(map(statistics.median, zip(*times, strict=True))) for name, times in found.items()}
    torch_cpu, torch_wall = medians["import torch"]
    table = narrow_table(["Command", "CPU s", "to torch", "Wall s", "to torch"])
    for name, (cpu, wall) in medians.items():
        known = ("", "") if cpu != cpu else (f"{cpu:.2f}", f"{cpu / torch_cpu:.2f}")
        table.add_row(name, *known, f"{wall:.2f}", f"{wall / torch_wall:.2f}")
    plain_console().print(table)


if __name__ == "__main__":
    with input_errors():
        typer.run(main)
