"""An extraction split over machines that share a disk, and over the workers of Ray."""

import json
import socket
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.extract import extract, extract_part
from mer_pnao.extraction.shards import Clip, Part, grouped, parse_part
from mer_pnao.foundations.errors import InputError

REAL = Path(__file__).parents[3] / "shared" / "data" / "media" / "clips"


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("clips", [1, 2, 7, 12])
@pytest.mark.parametrize("count", [1, 2, 3, 5])
def test_the_parts_share_the_clips(clips, count):
    parts = [Part(number, count) for number in range(1, count + 1)]
    listed = [Clip(f"clip{number}", Path()) for number in range(clips)]
    for size in (1, 3):
        shards = range(len(list(grouped(listed, size))))
        assert Counter(shard for part in parts for shard in shards if part.takes(shard)) == Counter(shards)
        assert sum(part.clips(listed, size) for part in parts) == clips


def test_three_machines_leave_what_one_would(tmp_path, stub, write_clips):
    clips = write_clips([f"text {n}" for n in range(11)] + ["bad", "odd"])
    alone = extract(clips, stub(), tmp_path / "alone", tmp_path / "own", 2, max_skipped=0.1)

    machines = [stub() for _ in range(3)]
    owed = []
    for number, machine in enumerate(machines, start=1):
        done = []
        shards = extract_part(clips, machine, tmp_path / "work", Part(number, 3), 2, done.append)
        owed.append(sum(not folder.is_dir() for folder in shards))
        assert sum(done) == len(machine.decoded) == Part(number, 3).clips(clips, 2)
    assert owed[0] > owed[1] > owed[2] == 0
    assert Counter(name for machine in machines for name in machine.decoded) == Counter(clip.name for clip in clips)

    last = stub()
    assert extract(clips, last, tmp_path / "out", tmp_path / "work", 2, max_skipped=0.1) == alone
    assert last.decoded == []
    assert tree(tmp_path / "out") == tree(tmp_path / "alone")


def test_a_part_that_was_done_is_not_done_again(tmp_path, stub, write_clips):
    clips = write_clips([f"text {n}" for n in range(5)])
    again = stub()
    for encoder in (stub(), again):
        extract_part(clips, encoder, tmp_path / "work", Part(2, 2), 1)
    assert again.decoded == []


@pytest.mark.parametrize("text", ["", "1", "0/2", "3/2", "-1/2", "1/0", "a/b", "1/2/3", "1.0/2"])
def test_other_parts_are_refused(text):
    with pytest.raises(InputError, match="a part must be i/n with i from 1 to n"):
        parse_part(text)
    assert parse_part("2/3") == Part(2, 3)


def test_a_cluster_that_does_not_answer_is_told_of_at_once(stub, write_clips, tmp_path, monkeypatch):
    pytest.importorskip("ray", reason="Ray is not installed")
    from mer_pnao.extraction.ray_engine import on_ray

    with socket.socket() as taken:  # bound, and nobody listens
        taken.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{taken.getsockname()[1]}"
        monkeypatch.setenv("RAY_ADDRESS", address)
        engine = on_ray(stub, stub())
        with pytest.raises(InputError, match=f"Ray's cluster at {address} cannot be reached: .*refused"):
            list(engine({tmp_path / "part-00000": write_clips(["one"])}, lambda _: None))


class Cluster:
    """What `on_ray` uses of Ray, in this process: actors work at once, those beyond `starting` never."""

    def __init__(self, starting: int = 99, **resources: float) -> None:
        self.resources, self.starting = resources, starting
        self.asked: list[dict[str, object]] = []  # the options of every worker
        self.exceptions = SimpleNamespace(RayError=ArithmeticError, RayTaskError=KeyError, RayActorError=LookupError)
        self.waited: list[float | None] = []

    def init(self, **_: object) -> None: ...

    def shutdown(self) -> None: ...

    def cluster_resources(self) -> dict[str, float]:
        return self.resources

    def remote(self, **options: object) -> Callable[[type], SimpleNamespace]:
        def start(kind: type, *arguments: object) -> SimpleNamespace:
            self.asked.append(options)
            ready, worker = len(self.asked) <= self.starting, kind(*arguments)
            calls = {name: partial(self.call, ready, getattr(worker, name)) for name in ("difference", "shard")}
            return SimpleNamespace(**{name: SimpleNamespace(remote=call) for name, call in calls.items()})

        return lambda kind: SimpleNamespace(remote=partial(start, kind))

    def call(self, ready: bool, method: Callable[..., object], *arguments: object) -> "Pending":
        return Pending(ready, method(*arguments) if ready else None)

    def wait(self, futures: "list[Pending]", timeout: float | None) -> "tuple[list[Pending], list[Pending]]":
        self.waited.append(timeout)
        ready = [future for future in futures if future.ready][:1]
        assert ready or timeout is not None, "this would wait for ever"
        return ready, []

    def get(self, future: "Pending") -> object:
        return future.result


@dataclass(eq=False)
class Pending:
    ready: bool
    result: object


@pytest.fixture
def cluster(monkeypatch):
    """Makes a cluster of these resources."""

    def make(starting: int = 99, **resources: float) -> Cluster:
        made = Cluster(starting, **resources)
        monkeypatch.setitem(sys.modules, "ray", made)
        monkeypatch.delenv("RAY_ADDRESS", raising=False)
        return made

    return make


def extract_on(tmp_path: Path, stub: Any, clips: list[Clip], workers: int = 0, version: int = 1) -> list[str]:
    """The names of the shards, of one clip each, in the order of their arrival; workers have a stub of this version."""
    from mer_pnao.extraction.ray_engine import on_ray

    engine = on_ray(partial(stub, version=version), stub(), workers)
    missing = {tmp_path / clip.name: [clip] for clip in clips}
    return [folder.name for folder, _ in engine(missing, lambda _: None)]


@pytest.mark.parametrize(
    ("resources", "workers", "count", "gpus"),
    [
        ({"CPU": 2}, 0, 2, 0.0),
        ({"CPU": 2}, 9, 2, 0.0),  # the others would never start
        ({"CPU": 32, "GPU": 2}, 0, 2, 1.0),
        ({"CPU": 32, "GPU": 2}, 3, 3, 0.5),  # thirds of two GPUs would leave no room for the third
        ({"CPU": 1, "GPU": 2}, 0, 1, 1.0),
        ({"CPU": 32}, 0, 5, 0.0),  # no more than there are shards
    ],
)
def test_a_cluster_is_asked_for_what_it_can_hold(tmp_path, cluster, stub, write_clips, resources, workers, count, gpus):
    there = cluster(**resources)
    clips = write_clips([f"text {n}" for n in range(5)])
    assert sorted(extract_on(tmp_path, stub, clips, workers)) == sorted(clip.name for clip in clips)
    assert [(asked["num_cpus"], asked["num_gpus"]) for asked in there.asked] == [(1, gpus)] * count


def test_workers_that_never_start_leave_the_work_to_the_others(tmp_path, cluster, stub, write_clips):
    cluster(starting=1, CPU=3)
    clips = write_clips([f"text {n}" for n in range(5)])
    assert sorted(extract_on(tmp_path, stub, clips)) == sorted(clip.name for clip in clips)


def test_a_cluster_in_which_nobody_starts_is_told_of(tmp_path, cluster, stub, write_clips):
    there = cluster(starting=0, CPU=3)
    with pytest.raises(InputError, match="no worker of Ray has started within 10 minutes: its cluster is busy"):
        extract_on(tmp_path, stub, write_clips(["one", "two", "three"]))
    assert there.waited == [600]


def test_a_worker_with_another_encoder_is_refused(tmp_path, cluster, stub, write_clips):
    cluster(CPU=1)
    with pytest.raises(InputError, match="a worker's stub has the version 2, and here it is 1: set the encoder's"):
        extract_on(tmp_path, stub, write_clips(["one"]), version=2)


RAY = """
import json, sys
from contextlib import suppress
from functools import partial
from pathlib import Path
import psutil
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.ray_engine import on_ray
from mer_pnao.extraction.shards import Clip
from mer_pnao.media.config import MediaLimits

if __name__ == "__main__":
    clips = [Clip(path.stem, path) for path in map(Path, json.loads(sys.argv[3]))]
    config = EncoderConfig("hubert", "hubert", layers=(18, 20), precision=sys.argv[4], batch=2)
    build = partial(build_encoder, "hubert", config, Path(sys.argv[1]), MediaLimits())
    engine = on_ray(build, build(), workers=9)  # more than there is room for
    finished, killed = [], []

    def watched(missing, progress):
        for folder, shard in engine(missing, progress):
            finished.append(folder.name)
            if len(finished) >= 3 and not killed:
                for child in psutil.Process().children(recursive=True):
                    with suppress(psutil.Error):  # gone meanwhile
                        if not killed and "_Worker.shard" in " ".join(child.cmdline()):
                            niceness = child.nice()
                            child.kill()
                            killed.append(niceness)
            yield folder, shard

    extract(clips, build(), Path(sys.argv[2]) / "ray", Path(sys.argv[2]) / "work", 1, engine=watched)
    print(json.dumps({"finished": finished, "killed": killed}))
"""


@pytest.mark.slow
def test_rays_workers_leave_what_one_machine_does_though_one_is_killed(demo, tmp_path):
    if not REAL.is_dir():
        pytest.skip("the real clips of ../shared/data/media are absent")
    pytest.importorskip("ray", reason="Ray is not installed")
    paths = sorted(REAL.glob("*.mp4"))
    clips = [Clip(path.stem, path) for path in paths]
    config = EncoderConfig("hubert", "hubert", layers=(18, 20), precision="fp32", batch=2)
    extract(clips, build_encoder("hubert", config, demo), tmp_path / "alone", tmp_path / "own", 1)

    script = tmp_path / "on_ray.py"
    script.write_text(RAY)
    command = [sys.executable, script, demo, tmp_path, json.dumps([str(path) for path in paths]), "fp32"]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=180)
    assert done.returncode == 0, done.stderr[-3000:]
    told = json.loads(done.stdout.splitlines()[-1])
    assert told["killed"] == [psutil.Process().nice()], "one, as nice as the process that asks"
    shards = sorted(path.name for path in (tmp_path / "own/features").glob("*/part-*"))
    assert len(shards) == len(clips)
    assert sorted(told["finished"]) == shards  # all, none twice
    ours, rays = tree(tmp_path / "alone"), tree(tmp_path / "ray")
    assert ours.keys() == rays.keys()
    for name in ours:
        assert ours[name] == rays[name], name
