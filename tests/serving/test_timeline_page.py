"""A recording on the page of `mer serve`: its timeline grows, and the playhead, a click and the keyboard move on it."""

import json
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import read_frames, read_sound

pytestmark = pytest.mark.slow
SECONDS = 14


@pytest.fixture(scope="module")
def talk(demo_project, tmp_path_factory) -> Path:
    """A recording that a browser plays, with two seconds in which nobody speaks."""
    import av

    clips = sorted((demo_project / "data/clips").glob("*.mp4"))
    frames = [frame for clip in clips for frame in list(read_frames(clip, range(75), MediaLimits()))]
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


@pytest.fixture(scope="module")
def service(demo_project, tmp_path_factory, start_service):
    options = ["--model", "models/enf_pnao/round-00", "--max-seconds", "10"]
    with start_service(demo_project, tmp_path_factory.mktemp("timeline-page"), *options) as running:
        yield running


@pytest.fixture
def open_page(browser, service):
    """Opens the page in a window of its own; what it complains about in the console fails the test."""
    contexts, complaints = [], []

    def opened(width=1280, height=800, scheme="light"):
        contexts.append(browser.new_context(viewport={"width": width, "height": height}, color_scheme=scheme))
        page = contexts[-1].new_page()
        page.set_default_timeout(120_000)
        page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.goto(service.url)
        page.locator("#caveats").wait_for()  # the limits are known
        return page

    yield opened
    for context in contexts:
        context.close()
    assert complaints == []


@pytest.mark.parametrize("width", [1280, 390])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_look(open_page, talk, width, scheme, tmp_path):
    page = open_page(width, 844, scheme)
    page.set_input_files("#file", talk)
    page.wait_for_function("() => document.getElementById('status').textContent.includes('windows')")
    page.evaluate("document.getElementById('player').currentTime = 4")
    page.wait_for_function("() => document.getElementById('when').textContent.startsWith('0:02')")
    page.screenshot(path=f"/tmp/w/shots/{width}-{scheme}.png", full_page=True)
