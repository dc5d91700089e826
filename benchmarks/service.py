"""`mer serve` under load: clients, damaged clips, new champions, a killed decoder, and no room for a while.

    python benchmarks/service.py [CLIPS] [--minutes 10] [--clients 8]

Run it in the project's root, after `make run`. CLIPS is a folder of clips, by default the profile's own. It serves a
copy of the registry, whose champion changes twice between the two newest versions. A fifth of what the clients send is
damaged. Every good clip must be answered as `Predictor` answers it alone, by the version that says it did; every
damaged one refused in words; and nothing lost. A service that is busy (429) or has no room (507) is asked again, as a
client should. Prints rates, waits and memory, and exits with 1 where an answer was wrong or is missing.
"""

import random
import re
import resource
import shutil
import sqlite3
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import numpy as np
import psutil
import requests
import typer

from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.foundations.console import input_errors
from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import load_params
from mer_pnao.predict import Prediction, Predictor
from mer_pnao.tracking.connection import ARTIFACTS, DATABASE, NAME, opened
from mer_pnao.tracking.lookup import find_registered

_DAMAGED = 0.2
_CLIPS = 12  # good ones, each held against both versions' answers
_MIB = 2**20
Answers = Mapping[str, list[float]]  # of a version, by clip: valence and posteriors


class Service:
    """`mer serve` in a project, in a process of its own."""

    def __init__(self, project: Path) -> None:
        command = [sys.executable, "-m", "mer_pnao.cli", "serve", "--port", "0", "--look-every", "0.5"]
        # Through a pipe: there is room in a pipe when there is none for files.
        self._process = subprocess.Popen(command, cwd=project, stderr=subprocess.PIPE, text=True)
        assert self._process.stderr is not None
        said = iter(self._process.stderr)
        found = next((url for line in said if (url := re.search(r"http://\S+:\d+", line))), None)
        if found is None:
            raise InputError("the service has not started: try `mer serve` here")
        self.url = found[0]
        threading.Thread(target=lambda: [None for _ in said], daemon=True).start()

    def kill_a_decoder(self) -> None:
        """One that works, as far as that can be seen."""
        decoders = psutil.Process(self._process.pid).children()
        max(decoders, key=lambda each: each.cpu_percent(0.05)).kill()

    @contextmanager
    def without_room(self) -> Iterator[None]:
        """No file may grow beyond a kilobyte, so that no clip can be held."""
        before = resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE)
        resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, (1024, before[1]))
        try:
            yield
        finally:
            resource.prlimit(self._process.pid, resource.RLIMIT_FSIZE, before)

    def memory(self) -> float:
        """MiB of the service and its decoders."""
        total = 0
        whole = psutil.Process(self._process.pid)
        for process in [whole, *whole.children(recursive=True)]:
            try:
                total += process.memory_info().rss
            except psutil.NoSuchProcess:  # a decoder that has just been killed
                continue
        return total / _MIB

    def end(self) -> None:
        """As Ctrl-C does."""
        self._process.terminate()
        self._process.wait()


class Clients:
    """What is sent, what must come back, and what did."""

    def __init__(self, url: str, good: Mapping[str, Path], bad: list[Path], expected: Mapping[str, Answers]) -> None:
        self._url, self._good, self._bad, self._expected = url, good, bad, expected
        self.ended = threading.Event()
        self.told = list[str]()  # what became of each request
        self.waits = list[float]()  # seconds until a good clip was answered, the times it was asked again included
        self.wrong = list[str]()

    def run(self, seed: int) -> None:
        """One client, until the end."""
        drawn = random.Random(seed)
        with requests.Session() as session:
            while not self.ended.is_set():
                damaged = drawn.random() < _DAMAGED
                path = drawn.choice(self._bad if damaged else list(self._good.values()))
                start = time.perf_counter()
                try:
                    self._judge(self._asked(session, path), path, damaged)
                    if not damaged:
                        self.waits.append(time.perf_counter() - start)
                except (requests.RequestException, KeyError, ValueError) as error:
                    self.wrong.append(f"{path.name}: {error!r}")

    def _asked(self, session: requests.Session, path: Path) -> requests.Response:
        while True:
            with path.open("rb") as file:
                answer = session.post(f"{self._url}/predict", files={"clip": (path.name, file)}, timeout=60)
            if answer.status_code not in (429, 507):
                return answer
            self.told.append("busy" if answer.status_code == 429 else "no room")
            time.sleep(0.1)

    def _judge(self, answer: requests.Response, path: Path, damaged: bool) -> None:
        said = answer.json()
        if damaged:
            right = answer.status_code == 422 and str(said["detail"]).startswith("the clip ")
            what = "refused"
        else:
            right = answer.status_code == 200
            if right:
                known = self._expected[said["model_version"]][path.stem]
                right = np.allclose([said["valence"], *said["posteriors"].values()], known, atol=1e-5)
                what = f"version {said['model_version']}"
        if right:
            self.told.append(what)
        else:
            self.wrong.append(f"{path.name}: {answer.status_code} {answer.text[:200]}")


def main(
    clips: Annotated[Path | None, typer.Argument(help="Folder of clips.")] = None,
    minutes: Annotated[float, typer.Option(help="How long.")] = 10.0,
    clients: Annotated[int, typer.Option(help="At a time.")] = 8,
) -> None:
    """Serve a copy of the registry under load."""
    with input_errors(), TemporaryDirectory() as folder:
        params = load_params()
        project = _copied(Path(folder) / "project", params.profile)
        found = clips_in((clips or Path(params.corpus.root)).resolve())
        good = dict(list(found.items())[:_CLIPS])
        versions = _newest(project)
        expected = {number: _answers(project, number, good) for number in versions}
        _promote(project, versions[0])
        service = Service(project)
        try:
            sent = Clients(service.url, good, _damaged(Path(folder), good), expected)
            memory = _loaded(service, sent, clients, 60 * minutes, lambda which: _promote(project, versions[which]))
        finally:
            service.end()
        _tell(sent, memory, 60 * minutes)
        sent.wrong += [f"version {each} never answered" for each in versions if f"version {each}" not in sent.told]
        if sent.wrong:
            raise InputError("; ".join(sent.wrong[:5]))


def _loaded(
    service: Service, sent: Clients, clients: int, seconds: float, promote: Callable[[int], None]
) -> list[tuple[float, float]]:
    """Everything that happens, and the memory by the share of the time that has passed."""
    events = [(0.2, lambda: promote(1)), (0.4, service.kill_a_decoder), (0.7, lambda: promote(0))]
    memory = []
    with ThreadPoolExecutor(clients) as pool:
        running = [pool.submit(sent.run, seed) for seed in range(clients)]
        try:
            start = time.monotonic()
            while (share := (time.monotonic() - start) / seconds) < 1:
                if events and share > events[0][0]:
                    events.pop(0)[1]()
                if 0.5 < share < 0.55:
                    with service.without_room():
                        time.sleep(0.05 * seconds)
                memory.append((share, service.memory()))
                time.sleep(min(0.5, seconds / 100))
        finally:
            sent.ended.set()
        for one in running:
            one.result()
    return memory


def _tell(sent: Clients, memory: list[tuple[float, float]], seconds: float) -> None:
    """Print what there is to say."""

    def megabytes(low: float, high: float) -> float:
        return float(np.median([each for share, each in memory if low < share < high]))

    counts = Counter(sent.told)
    versions = {key: count for key, count in sorted(counts.items()) if key.startswith("version")}
    right = sum(versions.values())
    print(f"{right} good clips answered right {versions}, {counts['refused']} damaged ones refused")
    print(f"{len(sent.wrong)} wrong or lost; asked again: {counts['busy']} busy, {counts['no room']} no room")
    half, most = np.quantile(sent.waits, [0.5, 0.95])
    print(f"{right / seconds:.1f} answers a second; wait {half:.2f} s (median), {most:.2f} s (95 %)")
    print(f"memory {megabytes(0.25, 0.5):.0f} MiB in the second quarter, {megabytes(0.75, 1):.0f} MiB in the last")


def _copied(project: Path, profile: str) -> Path:
    """The registry's database copied, and the files that the versions need linked to."""
    if not Path(DATABASE).is_file():
        raise InputError("there is no registry of this project's own: run `make run`")
    (project / DATABASE).parent.mkdir(parents=True)
    shutil.copyfile("params.yaml", project / "params.yaml")
    with closing(sqlite3.connect(DATABASE)) as own, closing(sqlite3.connect(project / DATABASE)) as copy:
        own.backup(copy)  # with what has not found its way into the file yet
    for name in (str(ARTIFACTS), f"data/{profile}/encoders", "data/encoders"):
        if Path(name).is_dir():
            (project / name).parent.mkdir(parents=True, exist_ok=True)
            (project / name).symlink_to(Path(name).resolve())
    return project


def _newest(project: Path) -> list[str]:
    with opened(project) as store:
        numbers = sorted(int(each.version) for each in store.client.search_model_versions(f"name = '{NAME}'"))
    if len(numbers) < 2:
        raise InputError("two registered versions are needed: `make run` registers them")
    return [str(number) for number in numbers[-2:]]


def _promote(project: Path, version: str) -> None:
    with opened(project) as store:
        store.client.set_registered_model_alias(NAME, "champion", version)


def _answers(project: Path, version: str, clips: Mapping[str, Path]) -> Answers:
    model = find_registered(project, version)
    answers = Predictor.load(model.directory, root=project).predict(clips.values())
    return {each.name: [each.valence, *each.posteriors.values()] for each in answers if isinstance(each, Prediction)}


def _damaged(folder: Path, good: Mapping[str, Path]) -> list[Path]:
    whole = next(iter(good.values())).read_bytes()
    contents = {"empty": b"", "text": b"hello\n" * 99, "truncated": whole[: len(whole) // 2]}
    for name, content in contents.items():
        (folder / f"{name}.mp4").write_bytes(content)
    return [folder / f"{name}.mp4" for name in contents]


if __name__ == "__main__":
    typer.run(main)
