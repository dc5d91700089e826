"""Other places for MLflow's records: a PostgreSQL database and an MLflow server, each a real one."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import quote

import mlflow
import pytest
import requests
from mlflow import MlflowClient

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import NAME, initialise, opened
from mer_pnao.tracking.lookup import registered_version
from mer_pnao.tracking.runs import track
from mer_pnao.tracking.ui import serve_ui

psycopg = pytest.importorskip("psycopg")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(os.name == "nt", reason="the cluster is started the way of Unix")]
PASSWORD = "s3cret:@/x"  # with every character that an address needs encoded
FOUR = "import sys, pathlib; from mer_pnao.tracking.connection import initialise; initialise(pathlib.Path(sys.argv[1]))"


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture(scope="module")
def cluster() -> Iterator[int]:
    """The port of an ordinary PostgreSQL cluster of the tests' own."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin")) or [Path(shutil.which("initdb") or "").parent]
    programs = found[-1]
    if not (programs / "initdb").is_file():
        pytest.skip("PostgreSQL is not installed")
    as_user: dict[str, Any] = {}
    folder = Path(tempfile.mkdtemp(prefix="mer-postgres-", dir="/tmp"))  # that another user may reach
    if os.getuid() == 0:  # PostgreSQL refuses to be run by root
        try:
            shutil.chown(folder, "postgres")
        except LookupError:
            shutil.rmtree(folder)
            pytest.skip("there is no user but root to run PostgreSQL")
        as_user = {"user": "postgres", "cwd": folder}
    secret, port = folder / "password", free_port()
    secret.write_text(PASSWORD)
    secret.chmod(0o644)
    setup = ["-D", str(folder / "data"), "-U", "mer", "-A", "scram-sha-256", f"--pwfile={secret}", "--no-sync"]
    made = subprocess.run([programs / "initdb", *setup], capture_output=True, text=True, check=False, **as_user)
    if made.returncode:
        shutil.rmtree(folder)
        pytest.skip(f"PostgreSQL cannot be set up: {made.stderr.strip().splitlines()[-1]}")
    command = ["-D", str(folder / "data"), "-p", str(port), "-k", str(folder), "-h", "127.0.0.1", "-c", "fsync=off"]
    log = (folder / "log").open("w")
    with log, subprocess.Popen([programs / "postgres", *command], stdout=log, stderr=log, **as_user) as server:
        try:
            while True:
                try:
                    psycopg.connect(address_of(port)).close()
                    break
                except psycopg.OperationalError:
                    assert server.poll() is None, (folder / "log").read_text()
                    time.sleep(0.1)
            yield port
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(120)
    shutil.rmtree(folder)


def address_of(port: int, database: str = "postgres", password: str = PASSWORD) -> str:
    return f"postgresql://mer:{quote(password, safe='')}@127.0.0.1:{port}/{database}"


@pytest.fixture
def database(cluster: int, request: pytest.FixtureRequest) -> Iterator[str]:
    """The name of an empty database."""
    name = f"mer_{abs(hash(request.node.name))}"
    with psycopg.connect(address_of(cluster), autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield name
    with psycopg.connect(address_of(cluster), autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def uri(cluster: int, database: str, monkeypatch: pytest.MonkeyPatch) -> str:
    chosen = address_of(cluster, database).replace("postgresql:", "postgresql+psycopg:")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", chosen)
    return chosen


def rows_of(address: str) -> dict[str, list[str]]:
    """Everything in the database, table by table."""
    with psycopg.connect(address) as connection:
        tables = connection.execute("SELECT table_name FROM information_schema.tables WHERE table_schema = 'public'")
        return {name: sorted(map(repr, connection.execute(f'SELECT * FROM "{name}"'))) for (name,) in tables.fetchall()}


def write_outs(project: Path, outs: SimpleNamespace) -> None:
    outs.write_round(project / "models", "pnao", 0, 0.3)
    outs.write_round(project / "models", "pnao", 1, 0.4, 900, best=True)
    outs.write_single(project / "models", "final", 0.45)


def load_and_predict(root: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.chdir(root)
    monkeypatch.setattr(sys, "path", [*sys.path])
    model = mlflow.pyfunc.load_model(f"models:/{NAME}@candidate")
    return len(model.predict({name: values.numpy() for name, values in outs.make_features(3).items()}))


def test_four_machines_may_initialise_a_postgresql_at_once(
    uri: str, cluster: int, database: str, tmp_path: Path, outs: SimpleNamespace
) -> None:
    roots = [outs.make_project(tmp_path / f"machine-{number}") for number in range(4)]
    processes = [
        subprocess.Popen([sys.executable, "-c", FOUR, str(root)], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        for root in roots
    ]
    assert [(process.communicate(), process.returncode) for process in processes] == [((b"", b""), 0)] * 4
    with psycopg.connect(address_of(cluster, database)) as connection:
        experiments = connection.execute("SELECT name, artifact_location FROM experiments WHERE name <> 'Default'")
        assert experiments.fetchall() == [(NAME, "mlruns/artifacts")]
        assert connection.execute("SELECT name FROM registered_models").fetchall() == [(NAME,)]
    assert not any((root / "mlruns/mlflow.db").exists() for root in roots)


def test_runs_and_versions_in_postgresql(
    uri: str, cluster: int, database: str, tmp_path: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = outs.make_project(tmp_path / "project")
    write_outs(project, outs)
    track(project)
    before = rows_of(address_of(cluster, database))
    assert sum("round" in row for row in before["runs"]) == 2
    assert len(before["model_versions"]) == 2
    track(project)
    assert rows_of(address_of(cluster, database)) == before
    with ThreadPoolExecutor(1) as pool, opened(project):  # a service asks which version it is while others write
        assert pool.submit(registered_version, project, "candidate").result(timeout=60) == "2"
    away = shutil.move(project, tmp_path / "elsewhere")  # artifacts lie in the checkout, wherever it is
    assert load_and_predict(away, outs, monkeypatch) == 3
    secrets = {PASSWORD, quote(PASSWORD, safe="")}
    assert not any(secret in row for rows in before.values() for row in rows for secret in secrets)

    port = free_port()
    code = "import sys, pathlib; from mer_pnao.tracking import ui; ui.serve_ui(pathlib.Path(), int(sys.argv[1]))"
    command = [sys.executable, "-c", code, str(port)]
    with subprocess.Popen(command, cwd=away, stderr=subprocess.PIPE, text=True, start_new_session=True) as server:
        try:
            while True:
                try:
                    assert requests.get(f"http://127.0.0.1:{port}/health", timeout=30).ok
                    break
                except requests.RequestException:
                    assert server.poll() is None
                    time.sleep(0.1)
            (run,) = MlflowClient(f"http://127.0.0.1:{port}").search_runs(["1"], "tags.round = '1'")
            query = {"path": "record.json", "run_uuid": run.info.run_id}
            answer = requests.get(f"http://127.0.0.1:{port}/get-artifact", query, timeout=120)
            assert answer.json()["round"] == 1
            if Path("/proc/self").exists():
                lines = [path.read_bytes() for path in Path("/proc").glob(f"{server.pid}/cmdline")]
                assert not any(secret.encode() in line for line in lines for secret in secrets)
        finally:
            server.send_signal(signal.SIGINT)
            _, said = server.communicate(timeout=120)
    assert not any(secret in said for secret in secrets)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ("postgresql+psycopg://mer:wr0ng-one@127.0.0.1:{port}/postgres", "password authentication failed"),
        ("postgresql+psycopg://mer:wr0ng-one@127.0.0.1:1/postgres", "[Cc]onnection refused|failed"),
        ("postgresql://mer:wr0ng/@one@127.0.0.1:1/postgres", "[Cc]onnection refused|failed"),
        ("postgresql://127.0.0.1:1/postgres?user=mer&password=wr0ng", "[Cc]onnection refused|failed"),
        ("postgresql+absent://mer:wr0ng-one@127.0.0.1/postgres", "special characters percent-encoded"),
        ("postgresql://mer:wr0ng-one@127.0.0.1:wr0ng/postgres", "special characters percent-encoded"),
        ("mysql://mer:wr0ng-one@127.0.0.1/postgres", "the database driver 'MySQLdb' is not installed"),
    ],
)
def test_a_wrong_address_is_a_sentence_without_the_password(
    wrong: str, message: str, cluster: int, tmp_path: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", wrong.format(port=cluster))
    project = outs.make_project(tmp_path / "project")
    outs.write_single(project / "models", "final", 0.4)
    for command in (initialise, track, lambda root: serve_ui(root, free_port())):
        started = time.monotonic()
        with pytest.raises(InputError, match=message) as caught:
            command(project)
        assert time.monotonic() - started < 10
        assert "wr0ng" not in str(caught.value).replace("127.0.0.1:wr0ng", "")  # a port is no secret


def test_a_server_keeps_records_and_artifacts(
    tmp_path: Path, outs: SimpleNamespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, port = tmp_path / "server", free_port()
    here.mkdir()
    command = [sys.executable, "-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    command += ["--backend-store-uri", "sqlite:///server.db", "--artifacts-destination", "served"]
    quiet = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true"}
    silent = subprocess.DEVNULL
    with subprocess.Popen(command, cwd=here, env=os.environ | quiet, stdout=silent, stderr=silent) as server:
        try:
            address = f"http://127.0.0.1:{port}"
            while True:
                try:
                    assert requests.get(f"{address}/health", timeout=30).ok
                    break
                except requests.RequestException:
                    assert server.poll() is None
                    time.sleep(0.1)
            monkeypatch.setenv("MLFLOW_TRACKING_URI", address)
            project = outs.make_project(tmp_path / "project")
            write_outs(project, outs)
            track(project)
            client = MlflowClient(address)
            experiment = client.get_experiment_by_name(NAME)

            def state() -> list[Any]:
                runs = client.search_runs([experiment.experiment_id])
                versions = client.search_model_versions(f"name = '{NAME}'")
                return [[run.to_dictionary() for run in runs], [dict(version) for version in versions]]

            before = state()
            assert [len(part) for part in before] == [4, 2]
            track(project)
            assert state() == before
            assert not (project / "mlruns/artifacts").exists()
            assert list((here / "served").rglob("curves.csv"))
            assert load_and_predict(project, outs, monkeypatch) == 3
            with pytest.raises(InputError, match=f"{address}, which has a UI of its own: open it there"):
                serve_ui(project, free_port())
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(120)
