"""`mer serve` as its users meet it: a process of its own, over HTTP."""

import json
import select
import shutil
import socket
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress
from itertools import cycle
from pathlib import Path

import pytest
import requests

pytestmark = pytest.mark.slow
DRAWN = "the model has learnt from drawn faces and synthetic voices, and knows nothing about people"
TIGHT = ["--max-megabytes", "0.5", "--max-seconds", "3", "--max-pixels", "4096"]
TIGHT += ["--decode-seconds", "8", "--upload-seconds", "1", "--at-once", "1"]


@pytest.fixture(scope="module")
def service(registered, tmp_path_factory, start_service):
    folder = tmp_path_factory.mktemp("service")
    project = Path(shutil.copytree(registered, folder / "project"))
    with start_service(project, folder, "--look-every", "0.5") as running:
        yield running


@pytest.fixture(scope="module")
def tight(demo_project, tmp_path_factory, start_service):
    options = ["--model", "models/enf_pnao/round-00", *TIGHT]
    with start_service(demo_project, tmp_path_factory.mktemp("tight"), *options) as running:
        yield running


def test_answers_are_what_the_pipeline_recorded(service, recorded, assert_same):
    rows = recorded(service.project / "models/enf_pnao/round-00")
    for clip in sorted((service.project / "data/clips").glob("*.mp4")):
        answer = service.post(clip)
        assert answer.status_code == 200
        content = answer.json()
        assert content["model_version"] == "1"
        assert content["warnings"][0] == DRAWN
        assert_same(content, rows[clip.stem])


def test_it_says_what_it_is(service):
    assert requests.get(f"{service.url}/health", timeout=120).json() == {"status": "ok", "model_version": "1"}
    model = requests.get(f"{service.url}/model", timeout=120).json()
    record = json.loads((service.project / "models/enf_pnao/round-00/encoders.json").read_text())
    for name, encoder in model["encoders"].items():
        assert encoder["checkpoint_sha256"] == record[name]["identity"]["checkpoint_sha256"]
    assert model["labels"] == ["neutral", "angry", "happy"]
    assert model["warnings"] == [DRAWN]
    assert (model["version"], model["system"], model["round"], model["max_seconds"]) == ("1", "enf_pnao", 0, 60.0)
    paths = requests.get(f"{service.url}/openapi.json", timeout=120).json()["paths"]
    assert set(paths) == {"/health", "/model", "/predict", "/timeline"}
    assert {"200", "403", "408", "413", "422", "429"} <= set(paths["/predict"]["post"]["responses"])


def test_eight_clients_with_good_and_damaged_clips(service, real_clips, odd_clips, damaged):
    bad = {**damaged, "no_audio": odd_clips.no_audio}
    with ThreadPoolExecutor(8) as clients:  # what a warm service needs, with all its decoders
        list(clients.map(service.patiently, real_clips[:8]))
    before = service.memory()
    jobs = [*zip(real_clips, cycle(bad.values()), strict=False)]
    clips = [clip for pair in jobs for clip in pair] * 2
    with ThreadPoolExecutor(8) as clients:
        answers = list(clients.map(service.patiently, clips))
    alone: dict[str, dict] = {}
    for clip, answer in zip(clips, answers, strict=True):
        if clip in bad.values():
            assert answer.status_code == 422
            assert answer.json()["detail"].startswith("the clip ")
        else:
            assert answer.status_code == 200
            content = answer.json()
            assert content == alone.setdefault(clip.stem, content)  # who else asks at the time changes nothing
            assert content["name"] == clip.stem
    assert len(alone) == 24
    assert service.memory() - before < 150 * 2**20
    assert service.stored() == []


def test_a_clip_without_a_face_is_answered_with_a_warning(service, odd_clips):
    assert service.patiently(odd_clips.no_face).json()["warnings"][-1].startswith("no face was found")


@pytest.mark.parametrize(
    "body", [{}, {"data": {"clip": "text"}}, {"files": {"other": ("a.mp4", b"x")}}, {"data": b"raw"}, {"json": {}}]
)
def test_a_request_without_a_clip_is_told_where_it_goes(service, body):
    answer = requests.post(f"{service.url}/predict", timeout=120, **body)
    assert answer.status_code == 422
    assert answer.json() == {"detail": "no clip was sent: it goes into the multipart field 'clip', as a file"}


def test_foreign_names_and_pages_are_refused(service, real_clips):
    """A name that an attacker's DNS points here, and a form on another site."""
    for own in ("localhost:9", "127.0.0.1", "[::1]:8000"):
        assert requests.get(service.url, headers={"Host": own}, timeout=120).status_code == 200
    assert requests.get(service.url, headers={"Host": "evil.example"}, timeout=120).status_code == 400
    assert service.post(real_clips[0], headers={"Host": "evil.example:80"}).status_code == 400
    assert service.post(real_clips[0], headers={"Origin": "http://evil.example"}).status_code == 403
    own = service.post(real_clips[0], headers={"Origin": service.url})
    assert own.status_code == 200
    assert "access-control-allow-origin" not in own.headers


def test_the_log_says_nothing_of_the_clip_or_its_sender(service, real_clips, damaged, wait_for):
    before = len(service.records())
    service.post(real_clips[0], name="jane-doe-visit.mp4")
    service.post(damaged["text"], name="jane-doe-visit.mp4")
    wait_for(lambda: len(service.records()) >= before + 2)  # a line is written after its answer
    text = service.log.read_text()
    assert "jane" not in text
    assert "127.0.0.1" not in text.replace(service.url, "")
    good, bad = service.records()[-2:]
    assert set(good) == set(bad) == {"time", "bytes", "seconds", "status", "model_version", "ms"}
    assert (good["status"], bad["status"], good["model_version"]) == (200, 422, "1")
    assert good["seconds"] == pytest.approx(3.3, abs=0.3)
    assert good["bytes"] == pytest.approx(real_clips[0].stat().st_size, abs=500)


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files without a name are seen in /proc only")
def test_too_large_is_refused_before_it_is_stored(tight, odd_clips):
    large = odd_clips.no_audio
    assert large.stat().st_size > 0.5 * 2**20
    answer = tight.post(large)
    assert (answer.status_code, answer.json()) == (413, {"detail": "the clip is larger than 0.5 MiB"})

    seen = []

    def pieces():
        yield b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\n\r\n'
        for _ in range(200):
            yield bytes(2**16)
            seen.append(tight.held())
        yield b"\r\n--x--\r\n"

    kind = {"Content-Type": "multipart/form-data; boundary=x"}  # and no length: the service has to count
    answer = requests.post(f"{tight.url}/predict", data=pieces(), headers=kind, timeout=120)
    assert (answer.status_code, answer.json()) == (413, {"detail": "the clip is larger than 0.5 MiB"})
    assert tight.stored() == []
    assert max(seen) <= 0.5 * 2**20 + 2**17  # the limit, and what was under way


@pytest.mark.parametrize(
    ("path", "sent", "status"),
    [("predict", "", 413), ("predict", "Origin: http://evil.example\r\n", 403), ("health", "", 405)],
)
def test_who_sends_without_end_is_not_read_for_ever(tight, path, sent, status):
    host, port = tight.url.removeprefix("http://").split(":")
    head = f"POST /{path} HTTP/1.1\r\nHost: {host}\r\nTransfer-Encoding: chunked\r\n{sent}"
    form = "Content-Type: multipart/form-data; boundary=x\r\n\r\n"
    part = b'--x\r\nContent-Disposition: form-data; name="clip"; filename="a.mp4"\r\n\r\n'
    with closing(socket.create_connection((host, int(port)), timeout=60)) as endless:
        endless.sendall((head + form).encode() + b"%x\r\n%b\r\n" % (len(part), part))
        piece, taken = b"100000\r\n%b\r\n" % bytes(2**20), 0
        while not select.select([endless], [], [], 0)[0]:
            endless.sendall(piece)
        answer = endless.recv(4096)
        assert answer.startswith(b"HTTP/1.1 %d " % status)
        assert b"connection: close" in answer.lower()
        with suppress(ConnectionError):
            while taken < 2**36:  # more than any machine takes in the while that it goes on reading
                endless.sendall(piece)
                taken += 2**20
        assert taken < 2**36


def test_too_long_and_too_many_pixels(tight, real_clips, demo_project):
    assert tight.post(real_clips[0]).json()["detail"].endswith("s, more than 3 s")
    wide = tight.post(next((demo_project / "data/clips").glob("*.mp4")))
    assert wide.status_code == 422
    assert wide.json()["detail"].endswith("more than 4096 pixels")


def test_a_slow_upload_is_cut_off_and_the_next_client_told_to_wait(tight, real_clips, wait_for):
    host, port = tight.url.removeprefix("http://").split(":")
    with closing(socket.create_connection((host, int(port)), timeout=30)) as slow:
        slow.sendall(f"POST /predict HTTP/1.1\r\nHost: {host}\r\nContent-Length: 9999\r\n".encode())
        slow.sendall(b"Content-Type: multipart/form-data; boundary=x\r\n\r\n--x")
        wait_for(lambda: tight.post(real_clips[0]).status_code == 429, 0.9)
        assert slow.recv(4096).startswith(b"HTTP/1.1 408 ")
    wait_for(lambda: tight.post(real_clips[0]).status_code == 422, 5)


@pytest.mark.parametrize(
    ("kill", "detail"),
    [(False, "the clip takes more than 8 s to decode"), (True, "the clip is 192x192")],  # said by another process
)
def test_a_decoder_that_hangs_or_is_killed_leaves_nothing_behind(tight, demo_project, wait_for, kill, detail):
    clip = next((demo_project / "data/clips").glob("*.mp4"))
    assert tight.post(clip).status_code == 422  # a decoder is there
    (decoder,) = tight.process.children()
    decoder.suspend()
    with ThreadPoolExecutor(1) as client:
        answer = client.submit(tight.post, clip)
        wait_for(lambda: len(tight.stored()) == 1)  # the upload, while it is decoded
        if kill:
            decoder.kill()
        assert answer.result().status_code == 422
    assert answer.result().json()["detail"].startswith(detail)
    assert tight.stored() == []
    assert not decoder.is_running()
    assert "pixels" in tight.post(clip).json()["detail"]


def test_a_promotion_drops_no_request_and_a_version_that_cannot_run_changes_nothing(
    service, real_clips, recorded, assert_same, wait_for
):
    from mer_pnao.tracking.connection import NAME, opened
    from mer_pnao.tracking.lookup import find_registered

    def promote(version: str) -> None:
        with opened(service.project) as store:
            store.client.set_registered_model_alias(NAME, "champion", version)

    answers: list[requests.Response] = []
    stop = threading.Event()

    def client() -> None:
        for clip in cycle(real_clips[:3]):
            if stop.is_set():
                return
            answers.append(service.patiently(clip))

    with ThreadPoolExecutor(3) as clients:
        running = [clients.submit(client) for _ in range(3)]
        try:
            wait_for(lambda: len(answers) >= 3)
            promote("2")
            wait_for(lambda: answers[-1].json().get("model_version") == "2")
        finally:
            stop.set()
        for one in running:
            one.result()
    assert {answer.status_code for answer in answers} == {200}
    versions = [answer.json()["model_version"] for answer in answers]
    assert versions.index("2") >= 3
    clip = sorted((service.project / "data/clips").glob("*.mp4"))[0]
    content = service.post(clip).json()
    assert_same(content, recorded(service.project / "models/enf_pnao/round-01")[clip.stem])

    packed = find_registered(service.project, "1").directory / "encoders.json"
    packed.write_text(packed.read_text().replace('"frames": 3', '"frames": 4', 1))  # in its identity only
    promote("1")
    wait_for(lambda: requests.get(f"{service.url}/health", timeout=120).json()["status"] == "stale")
    assert service.post(clip).json()["model_version"] == "2"
    assert "model 2 goes on answering: the encoder" in service.log.read_text()


def test_a_service_that_cannot_start_says_why(demo_project, environment):
    """As a process; every reason is in test_serve_options."""
    command = [sys.executable, "-m", "mer_pnao.cli", "serve", "--port", "0", "--model", "models/enf_pnao/round-00"]
    command += ["--host", "203.0.113.1"]
    done = subprocess.run(command, cwd=demo_project, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    assert done.stderr.startswith("error: 203.0.113.1 port 0 cannot be used")
    assert len(done.stderr.splitlines()) == 1
