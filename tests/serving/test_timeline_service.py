"""POST /timeline: a recording's windows line by line while it is decoded elsewhere, and nothing left when it ends."""

import asyncio
import io
import json
import math
import os
import signal
from asyncio import StreamReader
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import requests

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.extraction.stretch_reader import DecodedStretch, StretchReader
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, opened
from mer_pnao.predict import Prediction, Predictor
from mer_pnao.recordings.timeline import Window, timeline
from mer_pnao.serving import app as the_app
from mer_pnao.serving import decoder, timeline_lines
from mer_pnao.serving.current_model import CurrentModel
from mer_pnao.serving.decoder_pool import NO_ANSWER, DecoderPool
from mer_pnao.serving.limits import ServiceLimits
from mer_pnao.serving.recording_decoder import RecordingDecoder, _read
from mer_pnao.serving.server import under

MODEL = "models/enf_pnao/round-00"
SECOND = 16_000
PLANS = {
    "sound": DecodingPlan("sound", MediaLimits()),
    "faces": DecodingPlan("faces", MediaLimits(), frames=3, crop_side=40),
}
FORM = b'--x\r\nContent-Disposition: form-data; name="clip"; filename="talk.mkv"\r\n\r\nabc\r\n--x--\r\n'


@pytest.fixture(scope="module")
def shown(demo_project, filmed):
    """Frames and sound of a rendered clip, over and over for twelve seconds."""
    frames, sound = filmed(min((demo_project / "data/clips").glob("*.mp4")))
    return (frames * 12)[:300], np.resize(sound, 12 * SECOND)


@pytest.fixture
def recording(tmp_path, write_recording, shown):
    return write_recording(tmp_path / "talk.mkv", *shown)


@pytest.fixture
def damaged_midway(recording, tmp_path):
    content = recording.read_bytes()
    path = tmp_path / "damaged.mkv"
    path.write_bytes(content[: len(content) // 2])
    return path


# --- the decoder ------------------------------------------------------------------------------------------------------


def decoded(path, use=None, length=2 * SECOND, plans=PLANS, most_seconds=3600.0):
    """The stretches that another process makes, and why there are no more; `use` is called after each of them."""

    async def run():
        decoder, found, reason = RecordingDecoder(120, Path()), [], ""
        with path.open("rb") as file:
            try:
                async for stretch in decoder.stretches(file.fileno(), plans, length, most_seconds):
                    found.append(stretch)
                    if use:
                        use(decoder)
            except (ClipError, InputError) as error:
                reason = str(error)
            finally:
                await decoder.close()
        assert decoder._process.returncode is not None
        return found, reason

    return asyncio.run(run())


def test_the_stretches_are_those_of_this_process(recording):
    reader = StretchReader(PLANS)
    here = list(map(reader.find_faces, reader.read(recording, 2 * SECOND)))
    there, reason = decoded(recording)
    assert (len(there), reason) == (len(here), "")
    for one, other in zip(here, there, strict=True):
        np.testing.assert_array_equal(one.sound, other.sound)
        assert (one.start, one.end, one.remarks) == (other.start, other.end, other.remarks)
        assert list(one.faces) == list(other.faces) == ["faces"]
        for field in ("crops", "times", "seen"):
            np.testing.assert_array_equal(getattr(one.faces["faces"], field), getattr(other.faces["faces"], field))
        assert one.faces["faces"].whole_frame == other.faces["faces"].whole_frame


def test_what_cannot_be_used_has_its_reason(recording, damaged_midway, damaged):
    found, reason = decoded(damaged_midway)
    assert len(found) >= 2
    assert reason.startswith("is ")
    assert decoded(damaged["text"])[1].startswith("is not a readable video file")
    assert decoded(recording, most_seconds=11.0) == ([], "lasts 12.0 s, more than 11 s")
    other = replace(PLANS["sound"], limits=replace(PLANS["sound"].limits, silence=0.5))
    assert decoded(recording, plans={**PLANS, "sound": other})[1].startswith("its encoders were run with different")


def test_a_recording_may_be_as_long_as_its_header_is_allowed_to_say(demo_project):
    clip = sorted((demo_project / "data/clips").glob("*.mp4"))[0]
    with opened(clip, MediaLimits(), math.inf) as tracks:
        told = float(tracks.end)
    found, reason = decoded(clip, most_seconds=told)
    assert found[-1].end > told * SECOND, "the last block of sound is filled up"
    assert reason == ""


def test_a_stretch_whose_pictures_cannot_be_searched_says_why(recording, monkeypatch):
    stretch = DecodedStretch(0, SECOND, np.ones(5, np.float32), {}, ("a remark",), "shows too much")
    monkeypatch.setattr(StretchReader, "find_faces", lambda reader, read: replace(stretch, end=read.end))
    out = io.BytesIO()
    plans = {name: asdict(plan) for name, plan in PLANS.items()}
    monkeypatch.setattr(os, "nice", lambda by: 0)
    asked = {"path": str(recording), "root": ".", "plans": plans, "length": 2 * SECOND, "most_seconds": 60}
    decoder._answer_recording(asked, out)

    async def run():
        process = SimpleNamespace(stdout=StreamReader())
        process.stdout.feed_data(out.getvalue())
        return await _read(process, PLANS, 0, 2 * SECOND), await process.stdout.readline()

    found, following = asyncio.run(run())
    assert found.sound.tolist() == [1.0] * 5
    assert replace(found, sound=stretch.sound) == replace(stretch, end=2 * SECOND)
    assert json.loads(following)["end"] == 4 * SECOND, "the next one"


def test_a_decoder_that_hangs_or_dies_ends_it(recording):
    def hang(decoder):
        decoder._seconds = 0.2
        os.kill(decoder._process.pid, signal.SIGSTOP)

    # More than the pipe holds is not yet there when a stretch is handed on.
    found, reason = decoded(recording, hang)
    assert 0 < len(found) < 6
    assert reason == f"takes more than 0.2 s to decode 2 s after {2 * len(found):.1f} s"
    found, reason = decoded(recording, lambda decoder: os.kill(decoder._process.pid, signal.SIGKILL))
    assert 0 < len(found) < 6
    assert reason == f"makes the decoder fail after {2 * len(found):.1f} s"


def test_who_leaves_in_the_middle_leaves_no_process(recording):
    async def run():
        decoder = RecordingDecoder(120, Path())
        with recording.open("rb") as file:
            stretches = decoder.stretches(file.fileno(), PLANS, 2 * SECOND, 3600.0)
            await anext(stretches)
            while not decoder._process.stdout._paused:  # the pipe is full, and its end is not to be seen
                await asyncio.sleep(0.01)
            async with asyncio.timeout(60):
                await decoder.close()
        return decoder._process.returncode

    assert asyncio.run(run()) == -signal.SIGKILL


NOTHING = {
    "end": SECOND,
    "samples": 0,
    "faces": {"faces": {"count": 0, "whole_frame": True}},
    "remarks": [],
    "reason": "",
}


def read(told, start=0):
    """The stretch of a decoder that tells of one, and sends nought for all arrays."""

    async def run():
        process = SimpleNamespace(stdout=StreamReader())
        process.stdout.feed_data(json.dumps(told).encode() + b"\n" + bytes(10**6))
        process.stdout.feed_eof()
        return await _read(process, PLANS, start, 2 * SECOND)

    return asyncio.run(run())


@pytest.mark.parametrize(
    ("told", "start"),
    [
        ({"end": 0}, 0),
        ({"end": 2 * SECOND + 1}, 0),
        ({"samples": SECOND + 1}, 0),
        ({"samples": -1}, 0),
        ({"samples": SECOND, "end": 10**6}, 0),
        ({"end": 2 * SECOND}, SECOND),  # behind a short one, which is the last
        ({"end": 1e999}, 0),
        ({"faces": {"faces": {"count": 4, "whole_frame": True}}}, 0),
        ({"faces": {"faces": {"count": -1, "whole_frame": True}}}, 0),
        ({"faces": {}}, 0),
    ],
)
def test_a_stretch_that_no_recording_can_give_is_not_taken(told, start):
    assert read(NOTHING).end == SECOND
    with pytest.raises(NO_ANSWER):
        read(NOTHING | told, start)
    with pytest.raises(NO_ANSWER):
        read([])


# --- the application, with stand-ins for decoder and network ----------------------------------------------------------


class Caller:
    """Somebody who asks; `said` are the messages of the answer."""

    def __init__(self, app, path="/timeline", body=FORM, headers=(), *, whole=True, ahead=0):
        """`ahead` is how many messages of the answer are said before the first one is taken; 0: all."""
        self.said: asyncio.Queue[dict] = asyncio.Queue(ahead)
        self._coming: asyncio.Queue[dict] = asyncio.Queue()
        self.send(body, whole)
        sent = {"host": "127.0.0.1:8000", "content-type": "multipart/form-data; boundary=x", **dict(headers)}
        scope = {"type": "http", "method": "POST", "path": path, "query_string": b"", "http_version": "1.1"}
        scope["headers"] = [(key.encode(), value.encode()) for key, value in sent.items()]
        self.task = asyncio.create_task(app(scope, self._coming.get, self.said.put))

    def send(self, body, whole=True):
        self._coming.put_nowait({"type": "http.request", "body": body, "more_body": not whole})

    def leave(self):
        self._coming.put_nowait({"type": "http.disconnect"})

    async def status(self):
        """Status and headers."""
        start = await self.said.get()
        return start["status"], {key.decode(): value.decode() for key, value in start["headers"]}

    async def line(self):
        return json.loads((await self.said.get())["body"])

    async def rest(self):
        """The lines until the end."""
        await self.task
        bodies = [self.said.get_nowait().get("body", b"") for _ in range(self.said.qsize())]
        return [json.loads(line) for line in b"".join(bodies).splitlines()]


@pytest.fixture
def service(tmp_path, monkeypatch):
    """The application; a test says with `parts.stretches`, an asynchronous generator, what is decoded when."""
    parts = SimpleNamespace(closed=0, answered_by=[], current=None)

    async def nothing(pool):
        pass

    async def close(decoder):
        for _ in range(9):  # others have their turns before its process has ended
            await asyncio.sleep(0)
        parts.closed += 1

    class Answers:
        length = SECOND

        def __init__(self, predictor, name, asked):
            self.version, self.name = predictor.version, name

        def take(self, stretch):
            answer = Prediction(self.name, "happy", {"happy": 1.0}, 0.0, 1.0, {}, self.version)
            spans = (stretch.start, stretch.end), (stretch.start + 8000, stretch.end + 8000)
            return [Window(start / SECOND, end / SECOND, answer, True, True, -20.0) for start, end in spans]

        def rest(self):
            return []

    monkeypatch.setattr(DecoderPool, "warm_up", nothing)
    monkeypatch.setattr(the_app, "_warm_up", lambda predictor: None)
    monkeypatch.setattr(RecordingDecoder, "close", close)
    monkeypatch.setattr(RecordingDecoder, "stretches", lambda decoder, *asked: parts.stretches(*asked))
    monkeypatch.setattr(the_app, "DecodedTimeline", Answers)

    def predictor(version):
        def predict(name, contents, words):
            return Prediction(name, "happy", {"happy": 1.0}, 0.0, 1.0, {}, version)

        return SimpleNamespace(version=version, plans=lambda: PLANS, reads_words=False, predict_decoded=predict)

    async def decode(pool, path, plans):
        return {name: SimpleNamespace(content=np.zeros(SECOND)) for name in plans}

    monkeypatch.setattr(DecoderPool, "decode", decode)
    parts.current = CurrentModel(lambda before: predictor("2" if before else "1"))
    parts.app = the_app.make_app(parts.current, tmp_path, ServiceLimits(upload_seconds=60))
    return parts


def running(service, use):
    """What `use` gives, within a minute at most, while the service runs."""

    async def run():
        async with service.app.router.lifespan_context(service.app), asyncio.timeout(60):
            return await use()

    return asyncio.run(run())


def a_stretch(number):
    return DecodedStretch(number * SECOND, (number + 1) * SECOND, np.zeros(SECOND, np.float32), {}, ())


def test_each_line_is_sent_before_the_next_stretch_is_decoded(service, capfd):
    async def use():
        wanted = [asyncio.Event() for _ in range(3)]

        async def stretches(file, plans, length, most_seconds):
            assert (os.pread(file, 9, 0), length, most_seconds) == (b"abc", SECOND, 3600)
            for number, want in enumerate(wanted):
                await want.wait()
                yield a_stretch(number)

        service.stretches = stretches
        caller = Caller(service.app)
        wanted[0].set()
        status, headers = await caller.status()
        assert (status, headers["content-type"]) == (200, "application/x-ndjson")
        found = []
        for want in wanted[1:]:
            found += [await caller.line(), await caller.line()]
            want.set()
        return found + await caller.rest()

    *windows, last = running(service, use)
    assert [(window["start"], window["end"]) for window in windows] == [(n / 2, n / 2 + 1) for n in range(6)]
    assert {window["name"] for window in windows} == {"talk"}
    assert list(windows[0])[:7] == ["name", "start", "end", "face", "voice", "level", "emotion"]
    assert last == {"whole": True, "windows": 6, "seconds": 3.0}
    assert service.closed == 1
    (line,) = capfd.readouterr().err.splitlines()
    record = json.loads(line)
    assert list(record) == ["time", "bytes", "seconds", "status", "model_version", "windows", "whole", "ms"]
    told = {"bytes": len(FORM), "seconds": 3.0, "status": 200, "model_version": "1", "windows": 6, "whole": True}
    assert record.items() >= told.items()


def test_a_caller_who_goes_away_ends_it(service, capfd):
    async def use():
        async def stretches(*asked):
            yield a_stretch(0)
            await asyncio.Event().wait()

        service.stretches = stretches
        for _ in range(2):  # the place is free again
            caller = Caller(service.app)
            assert (await caller.status())[0] == 200
            await caller.line()
            caller.leave()
            await caller.task

    running(service, use)
    assert service.closed == 2
    assert [json.loads(line)["whole"] for line in capfd.readouterr().err.splitlines()] == [False, False]


def test_a_caller_who_takes_nothing_is_given_up(service, tmp_path):
    service.app = the_app.make_app(service.current, tmp_path, ServiceLimits(upload_seconds=0.2))

    async def use():
        async def stretches(*asked):
            for number in range(10**6):
                yield a_stretch(number)

        service.stretches = stretches
        caller = Caller(service.app, ahead=5)
        await caller.task
        return caller.said.qsize()

    assert running(service, use) == 5
    assert service.closed == 1


def test_a_caller_who_takes_too_long_for_all_of_it_is_given_up(service, monkeypatch):
    now = 0.0
    monkeypatch.setattr(timeline_lines, "time", SimpleNamespace(monotonic=lambda: now))

    async def use():
        nonlocal now

        async def stretches(*asked):
            for number in range(10**6):
                yield a_stretch(number)

        service.stretches = stretches
        caller = Caller(service.app, ahead=1)
        await caller.status()
        windows = [await caller.line() for _ in range(5)]
        now = 3601.0
        while "whole" not in (last := await caller.line()):
            windows.append(last)
        following = Caller(service.app)
        next_status, _ = await following.status()
        following.leave()
        await following.task
        await caller.task
        return windows, last, next_status

    windows, last, next_status = running(service, use)
    assert len(windows) == last["windows"] < 10
    assert not last["whole"]
    assert last["detail"] == "the recording takes more than 60 minutes to be answered"
    assert next_status == 200


def test_who_has_the_last_line_may_send_the_next_recording(service):
    async def use():
        async def stretches(*asked):
            yield a_stretch(0)

        service.stretches = stretches
        callers = []
        for number in range(4):  # as many as may be held at a time
            callers.append(caller := Caller(service.app, ahead=1))
            assert (await caller.status())[0] == 200
            while "whole" not in await caller.line():
                pass
            assert service.closed == number + 1
        await asyncio.gather(*(caller.task for caller in callers))

    running(service, use)


def held_after_a_stretch(service):
    """The decoder gives one stretch, and the next thing when the event is set that this returns."""
    on = asyncio.Event()

    async def stretches(*asked):
        yield a_stretch(0)
        await on.wait()

    service.stretches = stretches
    return on


def test_recordings_that_arrive_slowly_keep_no_other_one_waiting(service):
    async def use():
        on = held_after_a_stretch(service)
        slow = [Caller(service.app, body=FORM[:40], whole=False) for _ in range(3)]
        working = Caller(service.app)
        assert (await working.status())[0] == 200
        slow[0].send(FORM[40:])
        status, headers = await slow[0].status()
        assert (status, headers["retry-after"]) == (429, "2")
        assert await slow[0].rest() == [{"detail": "another recording is being worked on"}]
        on.set()
        assert (await working.rest())[-1]["whole"]
        slow += [Caller(service.app, body=FORM[:40], whole=False) for _ in range(2)]
        status, headers = await Caller(service.app).status()
        assert (status, headers["retry-after"]) == (429, "2")
        slow[1].send(FORM[40:])
        assert (await slow[1].status())[0] == 200
        assert (await slow[1].rest())[-1]["whole"]
        for caller in slow[2:]:
            caller.leave()
            await caller.task

    running(service, use)


def test_what_breaks_off_says_so(service):
    async def use():
        async def stretches(*asked):
            yield a_stretch(0)
            raise ClipError("is damaged, after 1.0 s")

        service.stretches = stretches
        caller = Caller(service.app)
        assert (await caller.status())[0] == 200
        return await caller.rest()

    *windows, last = running(service, use)
    assert len(windows) == 2
    detail = "the recording is damaged, after 1.0 s"
    assert last == {"whole": False, "windows": 2, "seconds": 1.0, "detail": detail}


@pytest.mark.parametrize(
    ("fault", "status", "detail"),
    [
        (ClipError("has no audio track"), 422, "the recording has no audio track"),
        (InputError("its encoders differ"), 422, "its encoders differ"),
        (OSError(28, "No space left on device"), 507, "the recording cannot be held here: No space left on device"),
    ],
)
def test_a_refusal_before_the_first_window_is_a_status(service, fault, status, detail):
    async def use():
        async def stretches(*asked):
            raise fault
            yield

        service.stretches = stretches
        caller = Caller(service.app)
        return (await caller.status())[0], await caller.rest()

    assert running(service, use) == (status, [{"detail": detail}])
    assert service.closed == 1


def test_one_recording_at_a_time_beside_the_clips(service):
    async def use():
        on = held_after_a_stretch(service)
        first = Caller(service.app)
        assert (await first.status())[0] == 200
        status, headers = await Caller(service.app).status()
        assert (status, headers["retry-after"]) == (429, "2")
        clips = [Caller(service.app, "/predict") for _ in range(4)]
        assert [(await clip.status())[0] for clip in clips] == [200] * 4
        service.current.predictor = service.current._loaded(service.current.predictor)
        on.set()
        lines = await first.rest()
        assert lines[-1]["whole"]
        assert {line["model_version"] for line in lines[:-1]} == {"1"}  # that it began with
        second = Caller(service.app)
        assert (await second.status())[0] == 200
        assert (await second.line())["model_version"] == "2"
        second.leave()
        await second.task

    running(service, use)


@pytest.mark.parametrize("kept", ["/mer", ""])
def test_the_door_under_a_path(service, kept):
    async def use():
        async def stretches(*asked):
            yield a_stretch(0)

        service.stretches = stretches
        app, path = under(service.app, "/mer"), f"{kept}/timeline"
        evil = Caller(app, path, headers={"origin": "https://else"})
        assert (await evil.status())[0] == 403
        assert (await evil.rest())[0]["detail"].startswith("recordings are taken from this service's own page")
        good = Caller(app, path)
        assert (await good.status())[0] == 200
        assert (await good.rest())[-1]["whole"]

    running(service, use)


@pytest.mark.parametrize(
    ("field", "value", "detail"),
    [
        ("window", "four", "the field 'window' takes a number of seconds"),
        ("hop", "x", "the field 'hop' takes a number of seconds"),
        ("speech_only", "perhaps", "the field 'speech_only' takes true or false"),
        ("window", "61", "a window is a clip, of 60 s at most, and 61 s were asked for"),
    ],
)
def test_fields_that_make_no_sense(service, field, value, detail):
    async def use():
        part = f'--x\r\nContent-Disposition: form-data; name="{field}"\r\n\r\n{value}\r\n'.encode()
        caller = Caller(service.app, body=part + FORM)
        return (await caller.status())[0], await caller.rest()

    assert running(service, use) == (422, [{"detail": detail}])


# --- a process of its own ---------------------------------------------------------------------------------------------


@pytest.fixture
def served(recordings_service):
    return recordings_service


def post(served, path, **fields):
    with path.open("rb") as file:
        form = {"files": {"clip": (path.name, file)}, "data": fields}
        return requests.post(f"{served.url}/timeline", **form, stream=True, timeout=300)


@pytest.mark.slow
def test_the_lines_are_the_windows_of_the_python_api(served, demo_project, recording, damaged_midway, wait_for):
    predictor = Predictor.load(demo_project / MODEL, root=demo_project)
    answer = post(served, recording, window=2, hop=0.5)
    assert answer.status_code == 200
    *found, last = map(json.loads, answer.iter_lines())
    windows = [window.plain() for window in timeline(predictor, recording, 2, 0.5)]
    assert last == {"whole": True, "windows": len(windows), "seconds": 12.0}
    for line, window in zip(found, json.loads(json.dumps(windows)), strict=True):
        for key in ("posteriors", "weights"):
            assert line.pop(key) == pytest.approx(window.pop(key), abs=1e-5)
        for key in ("valence", "confidence", "level", "novelty"):
            assert line.pop(key) == pytest.approx(window.pop(key), abs=1e-4)
        assert line == window
    *found, last = map(json.loads, post(served, damaged_midway, window=2, speech_only="true").iter_lines())
    assert len(found) == last["windows"] >= 3
    assert not last["whole"]
    assert last["detail"].startswith("the recording is ")
    assert served.stored() == []
    wait_for(lambda: served.held() == 0)  # a file is closed after its answer


@pytest.mark.slow
def test_who_hangs_up_leaves_nothing_behind(served, recording, wait_for):
    wait_for(lambda: len(served.process.children()) <= 1)  # that of clips
    before = len(served.records())
    answer = post(served, recording, window=0.1, hop=0.1)
    next(answer.iter_lines(chunk_size=1))
    answer.close()
    wait_for(lambda: len(served.records()) > before)
    record = served.records()[-1]
    assert (record["status"], record["whole"]) == (200, False)
    assert 0 < record["windows"] < 120
    wait_for(lambda: len(served.process.children()) <= 1)
    wait_for(lambda: served.held() == 0)
    assert post(served, recording, window=6).status_code == 200


@pytest.mark.slow
def test_what_is_too_much_or_no_recording(served, tmp_path, damaged, write_recording, shown):
    frames, sound = shown
    long = write_recording(tmp_path / "long.mkv", frames[:10], np.tile(sound, 3), rate=25)
    for path, status, detail in (
        (long, 422, "the recording lasts 36.0 s, more than 30 s"),
        (damaged["empty"], 422, "the recording is empty"),
    ):
        answer = post(served, path)
        assert (answer.status_code, answer.json()) == (status, {"detail": detail})
    large = tmp_path / "large.mp4"
    large.write_bytes(bytes(9 * 2**20))
    answer = post(served, large)
    assert (answer.status_code, answer.json()) == (413, {"detail": "the recording is larger than 8 MiB"})
    assert post(served, long, hop=0).json() == {"detail": "hop must lie in [0.1, 4], got 0.0 s"}
    assert served.stored() == []
    model = requests.get(f"{served.url}/model", timeout=120).json()
    assert (model["max_minutes"], model["max_recording_bytes"]) == (0.5, 8 * 2**20)
    described = requests.get(f"{served.url}/openapi.json", timeout=120).json()["paths"]["/timeline"]["post"]
    assert list(described["responses"]["200"]["content"]) == ["application/x-ndjson"]
    assert set(described["responses"]) == {"200", "400", "403", "408", "413", "422", "429", "507"}
