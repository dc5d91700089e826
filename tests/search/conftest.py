"""A small project on disk that a search can run in, and its task."""

import os
import pwd
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from tempfile import TemporaryDirectory
from uuid import uuid4

import numpy as np
import pandas as pd
import pytest
import torch
from ruamel.yaml import YAML
from sqlalchemy import create_engine, text

from mer_pnao.corpus.manifest import COLUMNS, write_manifest
from mer_pnao.features.sets import write_shard
from mer_pnao.params.profile import Params, load_params
from mer_pnao.search.trial import COM, Task, load_task

torch.set_num_threads(1)
ROOT = Path(__file__).parents[2]
LABELS = ("angry", "neutral", "happy")
CHANGES = {
    "corpus": {"labels": list(LABELS), "root": "data/tiny/corpus"},
    "features": {"acoustic": ["a", "b"], "visual": ["v"]},
    "network": {"hidden": 12, "width": 8},
    "training": {"epochs": 3, "batch": 12, "learning_rate": 0.02},
    "pnao": {"naor": 0.4, "alpha": 0.001, "rounds": 2},
    "search": {
        "trials": 6,
        "naor": {"low": 0.2, "high": 0.8, "points": 3},
        "alpha": {"low": 0.001, "high": 0.004, "points": 2},
        "rounds": {"low": 1, "high": 3},
        "com_at_least": -0.5,
    },
}


def write_project(root: Path) -> Path:
    """params.yaml, the manifest of 48 training and 12 test clips, and three feature sets below `data/tiny/`."""
    yaml = YAML()
    document = yaml.load((ROOT / "profiles/ravdess.yaml").read_text())
    document["profile"], document["folds"] = "tiny", 2
    document["imported"] = {name: f"features/{name}" for name in ("a", "b", "v")}
    del document["seeds"][1:]
    for section, values in CHANGES.items():
        document[section].update(values)
    root.mkdir(parents=True, exist_ok=True)
    with (root / "params.yaml").open("w") as file:
        yaml.dump(document, file)
    rng, emotion = np.random.default_rng(0), np.arange(60) % 3
    names = [f"clip{i:02d}" for i in range(60)]
    rows = [
        (
            name,
            "",
            LABELS[emotion[i]],
            float(emotion[i] - 1 + 0.3 * rng.standard_normal()),
            f"{split[1]}{i // 3 % 8}",
            split,
        )
        for i, name in enumerate(names)
        for split in ["train" if i < 48 else "test"]
    ]
    (root / "data/tiny").mkdir(parents=True)
    write_manifest(pd.DataFrame(rows, columns=list(COLUMNS)), root / "data/tiny/manifest.csv")
    for name, width in (("a", 6), ("b", 5), ("v", 4)):
        means = np.random.default_rng(7 + width).standard_normal((3, width))
        vectors = (means[emotion] + 1.5 * rng.standard_normal((60, width))).astype(np.float32)
        write_shard(root / "data/tiny/features" / name / name / "part-00000.parquet", names, vectors)
    return root


@pytest.fixture(scope="session", name="write_project")
def _write_project() -> Callable[[Path], Path]:
    return write_project


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A fresh project, which is the working directory."""
    root = write_project(tmp_path / "project")
    monkeypatch.chdir(root)
    return root


@pytest.fixture
def params(project: Path) -> Params:
    return load_params(project / "params.yaml")


@pytest.fixture
def task(params: Params) -> Task:
    return load_task(params, (COM,))


@pytest.fixture
def change(project: Path) -> Callable[..., None]:
    """Set `section.name` of the project's params.yaml, by lines, so that nothing else moves."""

    def set_value(section: str, name: str, value: object) -> None:
        path = project / "params.yaml"
        pattern = rf"(?ms)^({section}:.*?^  {name}: )[^\n]*$"
        text, count = re.subn(pattern, rf"\g<1>{value}", path.read_text(), count=1)
        assert count == 1
        path.write_text(text)

    return set_value


@pytest.fixture(scope="session")
def postgres() -> Iterator[str]:
    """The URL of a server of its own, on a Unix socket. PostgreSQL does not run as root: then as `postgres`."""
    initdb, pg_ctl = shutil.which("initdb"), shutil.which("pg_ctl")
    if not initdb or not pg_ctl:
        pytest.skip("PostgreSQL's initdb and pg_ctl are not installed")
    user = None
    if os.geteuid() == 0:
        try:
            user = pwd.getpwnam("postgres").pw_name
        except KeyError:
            pytest.skip("PostgreSQL does not run as root, and there is no user postgres")
    with TemporaryDirectory(prefix="mer-pg-") as name:
        folder = Path(name)
        if user:
            shutil.chown(folder, user)

        def call(*command: str) -> None:
            subprocess.run(command, check=True, user=user, cwd=folder, stdout=subprocess.DEVNULL)

        call(initdb, "-D", f"{folder}/data", "-A", "trust", "-U", "mer", "-N")
        options = f"-c listen_addresses='' -c unix_socket_directories={folder} -c fsync=off -c shared_buffers=16MB"
        call(pg_ctl, "-D", f"{folder}/data", "-o", options, "-l", f"{folder}/log", "-w", "start")
        try:
            yield f"postgresql://mer@/postgres?host={folder}"
        finally:
            call(pg_ctl, "-D", f"{folder}/data", "-m", "immediate", "stop")


class Database:
    """An empty database of the server's, whose connections can be cut and refused."""

    def __init__(self, server: str) -> None:
        self._engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
        self.name = f"t{uuid4().hex}"
        self.url = server.replace("/postgres?", f"/{self.name}?")
        self._execute(f"CREATE DATABASE {self.name}")

    def cut(self) -> None:
        """End every session, as a restart does."""
        self._execute(f"SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity WHERE datname = '{self.name}'")

    def close(self) -> None:
        """Let nobody in any more."""
        self._execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS false")
        self.cut()

    def open(self) -> None:
        """Let everybody in again."""
        self._execute(f"ALTER DATABASE {self.name} ALLOW_CONNECTIONS true")

    def _execute(self, statement: str) -> None:
        with self._engine.connect() as session:
            session.execute(text(statement))
        self._engine.dispose()


@pytest.fixture
def database(postgres: str) -> Database:
    return Database(postgres)
