"""A recording on the page of `mer serve`: its timeline grows, and the playhead, a click and the keyboard move on it."""

import json
from pathlib import Path

import numpy as np
import pytest
import requests

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_sound

pytestmark = pytest.mark.slow
SECONDS = 14


@pytest.fixture(scope="module")
def talk(demo_project, filmed, tmp_path_factory) -> Path:
    """A recording that a browser plays, with two seconds in which nobody speaks."""
    import av

    clips = sorted((demo_project / "data/clips").glob("*.mp4"))
    frames = [frame for clip in clips for frame in filmed(clip)[0]]
    sound = np.concatenate([np.resize(read_sound(clip, MediaLimits()), 48_000) for clip in clips])[: SECONDS * 16_000]
    sound[6 * 16_000 : 9 * 16_000] = 0
    path = tmp_path_factory.mktemp("talk") / "talk.mp4"
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=25), out.add_stream("aac", rate=16_000, layout="mono")
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.options = "yuv420p", {"preset": "ultrafast", "bf": "0"}
        for number in range(25 * SECONDS):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[number % len(frames)]), format="rgb24")
            out.mux(video.encode(picture))
        for start in range(0, len(sound), 1024):
            part = av.AudioFrame.from_ndarray(sound[None, start : start + 1024], format="fltp", layout="mono")
            part.sample_rate, part.pts = 16_000, start
            out.mux(audio.encode(part))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


@pytest.fixture
def open_page(browser, recordings_service):
    """Opens the page in a window of its own; what it complains about in the console fails the test."""
    contexts, complaints = [], []

    def opened(width=1280, height=800, scheme="light", script=""):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.add_init_script(script)
        page.goto(recordings_service.url)
        page.locator("#caveats").wait_for()  # the limits are known
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


# The page's own stream of lines, in the place of the service's.
STREAM = """
const real = fetch;
window.fetch = (path, options) => {
  if (path !== "timeline") return real(path, options);
  window.signal = options.signal;
  return Promise.resolve(new Response(new ReadableStream({start: stream => { window.stream = stream; }})));
};
"""
EMOTIONS = ("neutral", "angry", "happy", "sad", "worried", "surprised", "disgusted", "afraid")


def line(number, **more):
    """A window of four seconds, of many that lie two seconds apart."""
    answer = {"name": "talk", "start": 2.0 * number, "end": 2.0 * number + 4, "face": True, "voice": True}
    answer |= {"level": -20.0, "emotion": EMOTIONS[number // 3 % 8], "posteriors": dict.fromkeys(EMOTIONS, 0.125)}
    answer |= {"valence": 4 * np.sin(number / 5), "confidence": 0.5 + 0.5 * np.cos(number), "novelty": 0.5}
    answer |= {"weights": {"hubert-18": 1.0}, "valence_range": [-3.0, 4.5], "warnings": [], "model_version": "1"}
    return answer | more


def text_of(*lines):
    return "".join(f"{json.dumps(each)}\n" for each in lines)


def send(page, text):
    page.evaluate("text => stream.enqueue(new TextEncoder().encode(text))", text)


def choose(page, path):
    """Choose a recording whose answer is the page's own stream."""
    page.set_input_files("#file", path)
    page.wait_for_function("() => window.stream !== undefined")


def ended(page, **more):
    send(page, text_of({"whole": True, "windows": 0, "seconds": 0.0, **more}))
    page.evaluate("() => stream.close()")


def listed(page, count):
    """The table's rows, once there are so many."""
    page.wait_for_function("count => document.getElementById('listed').rows.length >= count", arg=count)
    return page.evaluate(
        "() => [...document.getElementById('listed').rows].map(row => [...row.cells].map(cell => cell.textContent))"
    )


def at(page, name):
    """From left to right, where the middle of a part lies on the plot: 0 to 1."""
    part, plot = (page.locator(f"#{each}").bounding_box() for each in (name, "plot"))
    return (part["x"] + part["width"] / 2 - plot["x"]) / plot["width"]


def shown_at(page, start):
    page.wait_for_function("start => document.getElementById('when').textContent.startsWith(start)", arg=start)


def test_a_recording_plays_beside_its_timeline(open_page, recordings_service, talk):
    page = open_page()
    page.set_input_files("#file", talk)
    page.wait_for_function("() => document.getElementById('status').textContent.includes('windows')")
    status = 429  # until the place of the page's is free
    while status == 429:
        with talk.open("rb") as file:
            answer = requests.post(f"{recordings_service.url}/timeline", files={"clip": file}, timeout=300)
        status = answer.status_code
    *windows, last = map(json.loads, answer.text.splitlines())
    assert last["whole"]
    rows = listed(page, len(windows))
    assert [row[1] for row in rows] == [window["emotion"] for window in windows]
    assert [row[3] for row in rows] == [f"{window['valence']:+.2f}" for window in windows]
    assert (rows[0][0], rows[1][0]) == ("0:00 to 0:04", "0:02 to 0:06")
    assert page.get_by_role("status").inner_text().startswith(f"{len(windows)} windows, up to 0:14 of 0:14: ")
    assert page.locator("#emotion").inner_text() == windows[0]["emotion"]
    box = page.locator("#plot").bounding_box()
    page.locator("#plot").click(position={"x": 0.6 * box["width"], "y": 20})
    assert page.evaluate("() => document.getElementById('player').currentTime") == pytest.approx(0.6 * 14, abs=0.1)
    assert at(page, "head") == pytest.approx(0.6, abs=0.01)
    shown_at(page, "0:06")
    page.evaluate("() => { document.getElementById('player').currentTime = 3 }")  # as its own controls do
    shown_at(page, "0:00")
    assert at(page, "head") == pytest.approx(3 / 14, abs=0.01)
    slider = page.get_by_role("slider", name="Position in the recording")
    slider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert page.evaluate("() => document.getElementById('player').currentTime") == pytest.approx(5, abs=0.1)
    assert slider.get_attribute("aria-valuetext").startswith("0:05, ")


def test_it_grows_line_by_line_and_shows_gaps(open_page, talk):
    page = open_page(script=STREAM)
    choose(page, talk)
    assert page.locator("#listed tr").count() == 0
    words = text_of(line(0), line(1))
    send(page, words[: len(words) - 9])
    assert len(listed(page, 1)) == 1, "a line that is not whole"
    before = page.locator("#rows rect").first.bounding_box()["width"]
    send(page, words[len(words) - 9 :])
    listed(page, 2)
    boxes = [box.bounding_box() for box in page.locator("#rows rect").all()]
    assert boxes[0]["width"] == pytest.approx(before * 3 / 4, rel=0.02)  # up to the middle between both
    assert boxes[1]["x"] == pytest.approx(boxes[0]["x"] + boxes[0]["width"], abs=1)
    assert page.locator(".gap").count() == 0
    quiet = {key: line(4)[key] for key in ("name", "start", "end", "face", "voice", "level")}
    send(page, text_of(quiet | {"voice": False, "reason": "is silent"}, line(9, confidence=0.0, emotion="bored")))
    assert listed(page, 4)[2] == ["0:08 to 0:12", "-", "-", "-", "is silent, no voice"]
    assert page.locator("#above .gap").count() == 3  # left out, silent, left out
    widths = page.evaluate("() => [...document.querySelectorAll('#sure path')].map(part => part.style.strokeWidth)")
    assert float(widths[0].rstrip("px")) == 7.5
    assert float(widths[-1].rstrip("px")) == 1.5  # the thicker, the surer
    assert page.locator("#names").inner_text().splitlines()[-1] == "bored"
    assert page.locator("#status").inner_text() == "Looking and listening …"
    ended(page)
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('4 windows')")


def test_what_is_left_out_at_the_end_is_grey(open_page, talk):
    page = open_page(script=STREAM)
    choose(page, talk)
    send(page, text_of(line(0)))
    listed(page, 1)
    assert page.locator("#above .gap").count() == 0
    ended(page, whole=True, seconds=14.0)
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('1 windows')")
    box, plot = (page.locator(name).bounding_box() for name in ("#above .gap", "#course"))
    assert box["width"] / plot["width"] == pytest.approx(10 / 14, abs=0.02)


def test_short_windows_have_tenths_of_seconds(open_page, talk):
    page = open_page(script=STREAM)
    page.evaluate("() => { document.getElementById('hop').value = '0.5' }")
    choose(page, talk)
    send(page, text_of(line(0, start=0.5, end=1.5), line(1, start=59.96, end=61.0)))
    assert [row[0] for row in listed(page, 2)] == ["0:00.5 to 0:01.5", "1:00.0 to 1:01.0"]


def test_what_breaks_off_is_said_and_what_was_drawn_stays(open_page, talk):
    page = open_page(script=STREAM)
    choose(page, talk)
    send(page, text_of(line(0)))
    ended(page, whole=False, detail="the recording is damaged, after 5.0 s")
    page.locator("#problem").wait_for()
    said = "The timeline of talk.mp4 ends early: the recording is damaged, after 5.0 s."
    assert page.get_by_role("alert").inner_text() == said
    assert page.locator("#plot").is_visible()
    page.get_by_role("button", name="Show it over time").click()
    page.locator("#problem").wait_for(state="hidden")
    page.wait_for_function("() => !signal.aborted")
    send(page, text_of(line(0), line(1)))
    listed(page, 2)
    page.evaluate("() => stream.close()")  # without a last line
    page.locator("#problem").wait_for()
    assert len(listed(page, 2)) == 2
    assert page.locator("#plot").is_visible()


def test_another_file_ends_the_stream(open_page, talk, demo_project):
    page = open_page(script=STREAM)
    choose(page, talk)
    send(page, text_of(line(0)))
    listed(page, 1)
    page.set_input_files("#file", sorted((demo_project / "data/clips").glob("*.mp4"))[0])  # shorter: a clip
    page.locator("#timeline").wait_for(state="hidden")
    assert page.evaluate("() => signal.aborted")
    page.locator("#prediction").wait_for()
    assert page.locator("#timeline").is_hidden()


@pytest.mark.parametrize(("width", "scheme"), [(1280, "dark"), (390, "light")])
def test_nothing_is_cut_off(open_page, talk, width, scheme):
    page = open_page(width, 844, scheme, STREAM)
    choose(page, talk)
    send(page, text_of(*(line(number) for number in range(1800))))  # an hour
    ended(page)
    page.wait_for_function("() => document.getElementById('status').textContent.startsWith('1800 windows')")
    page.get_by_text("All windows as a table").click()
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    assert page.locator("#ticks").inner_text().split()[-1] == "1:00:02"
    for part in page.locator("#names > div:not(#ends), #ticks, #key").all():
        assert part.evaluate("node => node.scrollWidth <= node.clientWidth"), part.inner_text()
    beside = page.locator("#player").bounding_box()["y"] + 10 > page.locator("#timeline").bounding_box()["y"]
    assert beside == (width == 1280)
