"""The service as an ASGI application, with a stand-in for the model: what it holds when, and whom it refuses."""

import asyncio
import json
import re
import tempfile
from contextlib import nullcontext, suppress
from pathlib import Path
from types import SimpleNamespace

import pytest
from fastapi import FastAPI

from mer_pnao.foundations.errors import InputError
from mer_pnao.predict import Prediction
from mer_pnao.serving.app import make_app
from mer_pnao.serving.current_model import CurrentModel
from mer_pnao.serving.decoder_pool import DecoderPool
from mer_pnao.serving.limits import ServiceLimits
from mer_pnao.serving.server import root_path, under

LARGE = 2 * 2**20  # bytes; smaller parts of a form are held in memory


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The application without decoders and networks; what is asked of them is what `decode` and `predict` do."""
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    parts = SimpleNamespace(decode=lambda path: None, predict=lambda: None)

    async def decode(pool, path, plans):
        parts.decode(path)
        return {}

    def predict(name, contents, words):
        parts.predict()
        return Prediction(name, "happy", {"happy": 1.0}, 0.0, 1.0, {}, "1")

    async def warm_up(pool):
        pass

    monkeypatch.setattr(DecoderPool, "decode", decode)
    monkeypatch.setattr(DecoderPool, "warm_up", warm_up)
    predictor = SimpleNamespace(version="1", plans=dict, reads_words=False, predict_decoded=predict)
    parts.app = make_app(CurrentModel(lambda before: predictor), tmp_path, ServiceLimits())
    return parts


def form(**files):
    parts = [
        f'--x\r\nContent-Disposition: form-data; name="{name}"; filename="{name}.mp4"\r\n\r\n'.encode()
        + content
        + b"\r\n"
        for name, content in files.items()
    ]
    return b"".join(parts) + b"--x--\r\n"


def asked(app, method, path, body=b"", headers=()):
    """Status, headers and content of a request's answer."""
    said = []
    coming = [{"type": "http.request", "body": body, "more_body": False}]

    async def receive():
        return coming.pop() if coming else {"type": "http.disconnect"}

    async def send(message):
        said.append(message)

    sent = {"host": "127.0.0.1:8000", **dict(headers)}
    scope = {"type": "http", "method": method, "path": path, "query_string": b"", "http_version": "1.1"}
    scope["headers"] = [(key.encode(), value.encode()) for key, value in sent.items()]

    async def run():
        async with app.router.lifespan_context(app) if isinstance(app, FastAPI) else nullcontext():
            await app(scope, receive, send)

    asyncio.run(run())
    answered = {key.decode(): value.decode() for key, value in said[0]["headers"]}
    return said[0]["status"], answered, b"".join(message.get("body", b"") for message in said[1:])


def post(app, body, headers=(), path="/predict"):
    """Status and JSON of POST /predict with a multipart body whose boundary is x."""
    form_of = {"content-type": "multipart/form-data; boundary=x"}
    status, _, content = asked(app, "POST", path, body, form_of | dict(headers))
    return status, json.loads(content)


def held(folder):
    """Sizes of the files below a folder that this process has open, with a name or without."""
    sizes = []
    for descriptor in Path("/proc/self/fd").iterdir():
        with suppress(OSError):  # closed meanwhile
            if str(descriptor.readlink()).startswith(str(folder)):
                sizes.append(descriptor.stat().st_size)
    return sizes


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="files without a name are seen in /proc only")
def test_an_upload_is_held_once_while_it_is_decoded_and_not_at_all_by_the_network(service, tmp_path):
    seen = {}

    def at(stage):
        seen[stage] = sorted(path.stat().st_size for path in tmp_path.rglob("*") if path.is_file()), held(tmp_path)

    def nothing_is_left():
        at("network")
        assert list(tmp_path.iterdir()) == []  # not even a folder that a cleaner of old files would take away

    service.decode = lambda path: at("decoder")
    service.predict = nothing_is_left
    status, answer = post(service.app, form(clip=bytes(LARGE), other=bytes(LARGE)))
    assert (status, answer["name"]) == (200, "clip")
    assert seen == {"decoder": ([LARGE], []), "network": ([], [])}


@pytest.mark.parametrize("size", [1, LARGE])  # held in memory while it arrives, and in a file
def test_a_clip_that_cannot_be_held_is_no_mistake_of_who_sent_it(service, tmp_path, monkeypatch, size):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "gone"))
    answer = post(service.app, form(clip=bytes(size)))
    assert answer == (507, {"detail": "the clip cannot be held here: No such file or directory"})


@pytest.mark.parametrize(("body", "status"), [(b"junk", 400), (form(clip=b"x")[:40], 422)])
def test_what_is_no_whole_form_is_refused(service, body, status):
    found, answer = post(service.app, body)
    assert (found, list(answer)) == (status, ["detail"])


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://127.0.0.1:8000", 200),
        ("https://127.0.0.1:8000", 200),
        ("http://127.0.0.1:8001", 403),
        ("http://[", 403),
        ("http://evil.example://127.0.0.1:8000", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_a_page_of_another_origin_is_refused_however_it_is_written(service, origin, status):
    assert post(service.app, form(clip=b"x"), {"origin": origin})[0] == status


@pytest.mark.parametrize("kept", ["/mer", ""])
def test_behind_a_proxy_under_a_path(service, kept):
    """The proxy leaves the path in a request, or takes it off."""
    app = under(service.app, "/mer")
    assert asked(app, "GET", f"{kept}/")[0] == 200
    page = asked(app, "GET", f"{kept}/")[2].decode()
    assert re.findall(r'(?:fetch|post)\(("[^"]+")', page) == ['"model"', '"predict"', '"timeline"']
    assert asked(app, "GET", f"{kept}/health")[0] == 200
    status, _, description = asked(app, "GET", f"{kept}/openapi.json")
    assert (status, json.loads(description)["servers"]) == (200, [{"url": "/mer"}])
    assert post(app, form(clip=b"x"), path=f"{kept}/predict")[0] == 200
    assert post(app, form(clip=b"x"), {"origin": "https://else"}, f"{kept}/predict")[0] == 403, "past the door"
    for path in ("//predict", "/mer/predict", "//mer/predict", "/mer//predict", "/predict/"):
        sent = {"content-type": "multipart/form-data; boundary=x", "origin": "https://else"}
        status, _, _ = asked(app, "POST", kept + path, form(clip=b"x"), sent)
        assert status in (307, 403, 404, 405), f"past the door by {kept + path}"


def test_the_page_under_a_path_ends_with_a_slash(service):
    status, headers, _ = asked(under(service.app, "/mer"), "GET", "/mer")
    assert (status, headers["location"]) == (307, "/mer/")
    assert asked(under(service.app, ""), "GET", "/")[0] == 200
    assert asked(under(service.app, "/mer"), "GET", "/merry")[0] == 404


@pytest.mark.parametrize("path", ["mer", "/a b", "/..//", "//", "/mer?x", "http://x/mer", "/mer\n"])
def test_a_root_path_that_is_none(path):
    with pytest.raises(InputError, match="a root path is a path such as /mer, got "):
        root_path(path)
    assert [root_path(each) for each in ("", "/", "/mer", "/a/b/")] == ["", "", "/mer", "/a/b"]
