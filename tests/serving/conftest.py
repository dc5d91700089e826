"""A project whose model reads the demo's encoders: real clips in, real answers out, nothing trained."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest
import requests
import torch

from mer_pnao.demo.checkpoints import write_demo_checkpoints
from mer_pnao.demo.plan import FRAME_RATE, SyntheticConfig, plan_corpus
from mer_pnao.demo.render import render_clip
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip
from mer_pnao.features.provenance import read_provenance, write_settings
from mer_pnao.features.sets import load_sets
from mer_pnao.foundations.files import write_json
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_frames, read_sound
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.decisions import predictions_table
from mer_pnao.outs.names import ENCODERS
from mer_pnao.outs.networks import RoundModel, write_networks
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.training.novelty import fit_novelty

ROOT = Path(__file__).parents[2]
REAL = ROOT.parent / "shared" / "data" / "media"
LABELS = ("neutral", "angry", "happy")
ENCODER_CONFIGS = {
    "hubert": EncoderConfig("hubert", "data/encoders/hubert", layers=(18, 20), precision="fp32", batch=3),
    "manet": EncoderConfig("manet", "data/encoders/manet.safetensors", precision="fp32", frames=3, batch=2),
}
SETS = ("hubert-18", "hubert-20", "manet")
CHROMIUM = "/usr/bin/chromium"
FLAGS = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking"]
FLAGS += ["--disable-component-update", "--disable-sync"]


def write_model(project: Path, number: int, seed: int) -> Path:
    """A round with random networks that tell clips apart, and the predictions that training would have recorded."""
    features = load_sets(project / "data/features", SETS)
    widths = {name: part.vectors.shape[1] for name, part in features.items()}
    blueprint = Blueprint(widths, SETS[:2], SETS[2:], len(LABELS), "entropy", NetworkConfig(8, 6))
    torch.manual_seed(seed)
    networks = tuple(EmotionNetwork(blueprint).eval() for _ in range(2))
    for network in networks:
        for name, part in features.items():
            network.zscore[name].mean.copy_(torch.from_numpy(part.vectors.mean(axis=0)))
            network.zscore[name].std.copy_(torch.from_numpy(part.vectors.std(axis=0) + 1e-3))
    folds = np.arange(len(features["manet"].names))
    novelty = {name: fit_novelty(part.vectors, folds, 0.01) for name, part in features.items()}
    model = RoundModel("enf_pnao", number, blueprint, LABELS, networks)
    decided = model.decide({name: torch.from_numpy(part.vectors) for name, part in features.items()})
    valence = (float(np.median(decided.valence)), 4.0)  # so that two of the five answers lie beyond
    model = replace(model, trained_on=TrainedOn(len(folds), drawn=True, valence=valence, novelty=novelty))
    directory = project / f"models/enf_pnao/round-{number:02d}"
    write_networks(directory, model)
    write_json(directory / ENCODERS, read_provenance(project / "data/features", SETS))
    names = features["manet"].names
    predictions_table(names, "test", decided, LABELS, SETS[:2]).to_csv(directory / "predictions.csv", index=False)
    return directory


@pytest.fixture(scope="session")
def demo_project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with demo encoders, five rendered clips, their features and two models. Tests only read it."""
    project = tmp_path_factory.mktemp("serving") / "project"
    clips = project / "data/clips"
    clips.mkdir(parents=True)
    write_demo_checkpoints(project / "data/encoders", seed=3)
    plans = plan_corpus(SyntheticConfig(train_clips=4, test_clips=1, speakers=4, test_speakers=1))
    found = sorted(render_clip(plan, clips) for plan in plans)
    for name, config in ENCODER_CONFIGS.items():
        out = project / "data/features" / name
        encoder = build_encoder(name, config, project)
        extract([Clip(path.stem, path) for path in found], encoder, out, project / "work")
        write_settings(out, asdict(config), asdict(MediaLimits()))
    write_model(project, 0, seed=1)
    write_model(project, 1, seed=2)
    return project


@pytest.fixture(scope="session")
def filmed() -> Callable[[Path], tuple[list[np.ndarray], np.ndarray]]:
    """The frames of a rendered clip at 25 a second, as a camera takes them, and as much of its sound."""

    def read(clip: Path) -> tuple[list[np.ndarray], np.ndarray]:
        drawn = list(read_frames(clip, range(10**4), MediaLimits()))
        frames = [drawn[number * FRAME_RATE // 25] for number in range(len(drawn) * 25 // FRAME_RATE)]
        return frames, np.resize(read_sound(clip, MediaLimits()), 640 * len(frames))

    return read


@pytest.fixture(scope="session")
def make_model() -> Callable[[Path, int, int], Path]:
    return write_model


@pytest.fixture(scope="session")
def real_clips() -> list[Path]:
    """The 24 real clips."""
    if not REAL.is_dir():
        pytest.skip("the real clips of ../shared/data/media are absent")
    return sorted((REAL / "clips").glob("*.mp4"))


@pytest.fixture(scope="session")
def odd_clips(real_clips: list[Path]) -> SimpleNamespace:
    """Real clips with something missing."""
    return SimpleNamespace(no_audio=REAL / "no_audio.mp4", no_face=REAL / "no_face_720p.mp4")


@pytest.fixture
def damaged(tmp_path: Path, demo_project: Path) -> dict[str, Path]:
    """Files that are no good clips, by what is wrong with them."""
    whole = next((demo_project / "data/clips").glob("*.mp4")).read_bytes()
    contents = {"empty": b"", "text": b"hello\n" * 99, "truncated": whole[: len(whole) // 2]}
    folder = tmp_path / "damaged"
    folder.mkdir()
    for name, content in contents.items():
        (folder / f"{name}.mp4").write_bytes(content)
    return {name: folder / f"{name}.mp4" for name in contents}


@pytest.fixture(scope="session")
def registered(demo_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The project with both models registered as versions 1 and 2, and version 1 as champion. Tests copy it."""
    from mer_pnao.tracking.connection import NAME, initialise, opened
    from mer_pnao.tracking.runs import track

    project = tmp_path_factory.mktemp("registered") / "project"
    shutil.copytree(demo_project, project)
    shutil.copyfile(ROOT / "profiles/demo.yaml", project / "params.yaml")
    for number in (0, 1):
        scores = {key: {"dis": 0.5, "dim": 0.8, "com": 0.3 + number / 10} for key in ("trainval", "test")}
        record = {"system": "enf_pnao", "round": number, "best": number == 1, "key": f"{number}" * 64, "seed": 0}
        record |= {"parameters": 100, "parameters_ratio": 1.0, "alpha": 0.1, "scores": scores}
        record |= {"profile": "demo", "kept": {}, "pruned_nodes": 0, "nothing_pruned": False}
        write_json(project / f"models/enf_pnao/round-{number:02d}/record.json", record | {"data_digest": "ab" * 32})
    initialise(project)
    track(project)
    with opened(project) as store:
        store.client.set_registered_model_alias(NAME, "champion", "1")
    return project


Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mer(mer: Mer, monkeypatch: pytest.MonkeyPatch) -> Mer:
    """Call `mer` in a project; returns exit code, stdout and stderr without the progress bar."""
    monkeypatch.setenv("COLUMNS", "160")

    def call(project: Path, *arguments: str) -> tuple[int, str, str]:
        monkeypatch.chdir(project)
        threads = torch.get_num_threads()
        code, out, err = mer(*arguments)
        torch.set_num_threads(threads)
        told = [line for line in err.splitlines() if not line.startswith("predicting")]
        return code, out, "\n".join(told)

    return call


@pytest.fixture(scope="session")
def environment() -> dict[str, str]:
    """Of processes that tests start: this checkout's package, one thread, the venv's commands."""
    places = {"PYTHONPATH": str(ROOT / "src"), "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}"}
    return {**os.environ, **places, "OMP_NUM_THREADS": "1", "MLFLOW_DISABLE_TELEMETRY": "true"}


@pytest.fixture(scope="session")
def recorded() -> Callable[[Path], dict[str, dict[str, float]]]:
    """What a model's predictions.csv says, by clip."""
    import pandas as pd

    def read(directory: Path) -> dict[str, dict[str, float]]:
        table = pd.read_csv(directory / "predictions.csv").set_index("name")
        return {str(name): row.to_dict() for name, row in table.iterrows()}

    return read


@pytest.fixture(scope="session")
def assert_same() -> Callable[[dict[str, object], dict[str, float]], None]:
    """Hold an answer against a recorded row."""

    def check(answer: dict[str, object], row: dict[str, float]) -> None:
        keys = ["name", "emotion", "posteriors", "valence", "confidence", "weights", "model_version"]
        assert list(answer) == [*keys, "valence_range", "novelty", "warnings"]
        assert answer["emotion"] == row["discrete"]
        found = [answer["valence"], answer["confidence"], *answer["posteriors"].values(), *answer["weights"].values()]
        columns = ["valence", "confidence", *(f"posterior_{label}" for label in answer["posteriors"])]
        columns += [f"weight_{branch}" for branch in answer["weights"]]
        assert list(answer["posteriors"]) == list(LABELS)
        assert list(answer["weights"]) == list(SETS[:2])
        np.testing.assert_allclose(found, [row[column] for column in columns], atol=1e-5)

    return check


@dataclass(frozen=True)
class Service:
    url: str
    log: Path
    uploads: Path  # its folder for temporary files
    process: psutil.Process
    project: Path

    def post(self, clip: Path, name: str | None = None, **more) -> requests.Response:
        with clip.open("rb") as file:
            return requests.post(f"{self.url}/predict", files={"clip": (name or clip.name, file)}, timeout=120, **more)

    def patiently(self, clip: Path) -> requests.Response:
        """As a client should: again when the service is busy."""
        while (answer := self.post(clip)).status_code == 429:
            time.sleep(float(answer.headers["Retry-After"]) / 20)
        return answer

    def stored(self) -> list[str]:
        return [path.name for path in self.uploads.rglob("*") if path.is_file()]

    def held(self) -> int:
        """Bytes of the files without a name that the service has open for uploads."""
        sizes = [0]
        for descriptor in Path(f"/proc/{self.process.pid}/fd").iterdir():
            with suppress(OSError):  # closed meanwhile
                if str(descriptor.readlink()).startswith(str(self.uploads)):
                    sizes.append(descriptor.stat().st_size)
        return sum(sizes)

    def memory(self) -> int:
        """Bytes of the service and its decoders."""
        return sum(process.memory_info().rss for process in [self.process, *self.process.children(recursive=True)])

    def records(self) -> list[dict]:
        return [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]


@contextmanager
def serving(project: Path, folder: Path, environment: dict[str, str], *options: str) -> Iterator[Service]:
    uploads, log = folder / "uploads", folder / "log"
    uploads.mkdir()
    command = [sys.executable, "-m", "mer_pnao.cli", "serve", "--port", "0", *options]
    with log.open("w") as stderr:
        process = subprocess.Popen(command, cwd=project, env=environment | {"TMPDIR": str(uploads)}, stderr=stderr)
    try:
        while "clips are taken at" not in log.read_text() and process.poll() is None:
            time.sleep(0.02)
        found = re.search(r"http://\S+:\d+", log.read_text())
        assert found, log.read_text()
        yield Service(found[0], log, uploads, psutil.Process(process.pid), project)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(120)
    assert list(uploads.iterdir()) == []


def wait_for(condition: Callable[[], bool], seconds: float = 300) -> None:
    until = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < until, "waited in vain"
        time.sleep(0.02)


@pytest.fixture(scope="session", name="wait_for")
def _wait_for() -> Callable[..., None]:
    return wait_for


@pytest.fixture(scope="session")
def start_service(environment: dict[str, str]) -> Callable[..., AbstractContextManager[Service]]:
    """`mer serve` in a project, with a folder for its log and temporary files, and options."""
    return lambda project, folder, *options: serving(project, folder, environment, *options)


@pytest.fixture(scope="session")
def recordings_service(
    demo_project: Path, tmp_path_factory: pytest.TempPathFactory, environment: dict[str, str]
) -> Iterator[Service]:
    """A service to which more than ten seconds are a recording, of half a minute at most."""
    options = ["--model", "models/enf_pnao/round-00", "--max-seconds", "10"]
    options += ["--max-recording-megabytes", "8", "--max-minutes", "0.5"]
    with serving(demo_project, tmp_path_factory.mktemp("recordings"), environment, *options) as running:
        yield running


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Not for longer: while it is open, nobody else in this process may start one."""
    if not Path(CHROMIUM).is_file():
        pytest.skip("Chromium is absent")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()
