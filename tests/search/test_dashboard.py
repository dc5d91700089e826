"""optuna-dashboard takes requests to this machine's own names alone."""

import http.client
import os
import signal
import socket
import time
from pathlib import Path
from wsgiref.util import setup_testing_defaults

import pytest
from optuna import create_study, get_all_study_names
from optuna_dashboard import wsgi

from mer_pnao.search.dashboard import HOST, for_own_hosts, serve_dashboard
from mer_pnao.search.storage import open_storage


@pytest.mark.parametrize(
    ("host", "status"),
    [
        ("127.0.0.1:8080", 204),
        ("LocalHost", 204),
        ("[::1]:8080", 204),
        ("attacker.example:8080", 400),
        ("127.0.0.1.attacker.example:8080", 400),
        ("localhost:8080.attacker.example", 400),
        ("attacker.example@127.0.0.1:8080", 400),
        ("", 400),
    ],
)
def test_a_study_is_deleted_under_an_own_name_only(tmp_path: Path, host: str, status: int) -> None:
    storage, _ = open_storage(tmp_path, None)
    create_study(study_name="s", storage=storage)
    environ = {"REQUEST_METHOD": "DELETE", "PATH_INFO": "/api/studies/0", "HTTP_HOST": host}
    setup_testing_defaults(environ)
    answers: list[str] = []
    b"".join(for_own_hosts(wsgi(storage))(environ, lambda answer, *_: answers.append(answer)))
    assert [int(answer.split()[0]) for answer in answers] == [status]
    assert get_all_study_names(storage) == ([] if status == 204 else ["s"])


def test_the_server_refuses_other_names(tmp_path: Path) -> None:
    create_study(study_name="s", storage=open_storage(tmp_path, None)[0])
    with socket.create_server((HOST, 0)) as probe:
        port = probe.getsockname()[1]
    child = os.fork()
    if not child:
        try:
            serve_dashboard(tmp_path, None, port)
        finally:
            os._exit(1)
    try:
        while True:
            try:
                socket.create_connection((HOST, port)).close()
                break
            except ConnectionRefusedError:
                assert os.waitpid(child, os.WNOHANG) == (0, 0)
                time.sleep(0.01)
        answers = []
        for host in (f"{HOST}:{port}", f"attacker.example:{port}"):
            connection = http.client.HTTPConnection(HOST, port, timeout=120)
            connection.request("GET", "/api/studies", headers={"Host": host})
            answers.append(connection.getresponse().status)
            connection.close()
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert answers == [200, 400]
