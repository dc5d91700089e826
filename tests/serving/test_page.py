"""The page of `mer serve` in a browser: clips chosen and dropped, errors in words, a keyboard, a narrow screen."""

import base64
import hashlib
import re
import shutil
from importlib.resources import files

import pytest
import requests

from mer_pnao.serving.page import the_page


def test_the_policy_allows_the_pages_own_script_and_style_only():
    answer = the_page()
    page, policy = bytes(answer.body).decode(), answer.headers["content-security-policy"]
    assert "http://" not in page.replace("http://www.w3.org/2000/svg", "")
    assert "https://" not in page
    for tag, part in (("script", "script-src"), ("style", "style-src")):
        (inner,) = re.findall(f"<{tag}>(.*?)</{tag}>", page, re.DOTALL)
        digest = base64.b64encode(hashlib.sha256(inner.encode()).digest()).decode()
        assert f"{part} 'sha256-{digest}';" in policy
    assert "unsafe" not in policy
    assert policy.startswith("default-src 'none'")
    assert files("mer_pnao.serving").joinpath("page.html").is_file()


@pytest.fixture(scope="module")
def service(demo_project, tmp_path_factory, start_service):
    options = ["--model", "models/enf_pnao/round-00", "--max-megabytes", "0.5"]
    with start_service(demo_project, tmp_path_factory.mktemp("page"), *options) as running:
        yield running


@pytest.fixture
def page(browser, service):
    """The page in a window of its own; what it complains about in the console fails the test."""
    context = browser.new_context(viewport={"width": 1100, "height": 800})
    page = context.new_page()
    page.set_default_timeout(120_000)
    complaints = []
    page.on("console", lambda message: complaints.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: complaints.append(str(error)))
    page.goto(service.url)
    yield page
    context.close()
    # Chromium itself notes each answer of 400 and more, and each that does not come.
    assert [text for text in complaints if "Failed to load resource" not in text] == []


def read(page, list_name):
    """A list of bars: name -> what is written beside it."""
    names = page.locator(f"#{list_name} dt").all_inner_texts()
    numbers = page.locator(f"#{list_name} dd.number").all_inner_texts()
    return dict(zip(names, numbers, strict=True))


def assert_shows(page, answer):
    page.locator("#prediction").wait_for()
    assert page.locator("#emotion").inner_text() == answer["emotion"]
    for list_name, shares in (("emotions", answer["posteriors"]), ("weights", answer["weights"])):
        assert {name: float(text.rstrip(" %")) / 100 for name, text in read(page, list_name).items()} == pytest.approx(
            shares, abs=0.0051
        )
    low, high = answer["valence_range"]
    scale, beyond = (
        f"Valence {answer['valence']:+.2f} on a scale from {low:+.2f} to {high:+.2f};",
        answer["valence"] < low,
    )
    assert scale in page.get_by_role("img").get_attribute("aria-label")
    assert [page.locator(f"#{end}").text_content() for end in ("low", "high")] == [f"{low:+.2f}", f"{high:+.2f}"]
    number = f"{answer['valence']:+.2f}{', beyond the scale' if beyond else ''}"
    assert page.locator("#number").inner_text() == number
    assert page.locator("#beyond").is_visible() == beyond
    ends = [page.locator(f"#{mark}").bounding_box() for mark in ("dot", "low", "high")]
    dot, left, right = (box["x"] + box["width"] / 2 for box in ends)
    place = max(0.0, (answer["valence"] - low) / (high - low))
    assert (dot - left) / (right - left) == pytest.approx(place, abs=0.02)
    said = [words.rstrip(".").lower() for words in page.locator("#warnings p").all_inner_texts()]
    assert said == [words.lower() for words in answer["warnings"]]
    assert page.locator("#caveats").is_hidden()
    assert page.locator("#version").inner_text() == f"Model version {answer['model_version']}"


@pytest.mark.slow
def test_a_chosen_clip_plays_beside_its_prediction(page, service, real_clips):
    assert page.get_by_text("The model has learnt from drawn faces and synthetic voices").is_visible()
    answer = service.post(real_clips[2]).json()
    page.set_input_files("#file", real_clips[2])
    assert_shows(page, answer)
    assert page.locator("#problem").is_hidden()
    assert page.get_by_role("status").inner_text() == f"The clip shows: {answer['emotion']}."
    first = page.locator("#emotions dd:not(.number) .track div").first.bounding_box()
    track = page.locator("#emotions dd:not(.number) .track").first.bounding_box()
    assert first["width"] / track["width"] == pytest.approx(max(answer["posteriors"].values()), abs=0.01)
    page.wait_for_function("document.getElementById('player').src.startsWith('blob:')")


@pytest.mark.slow
def test_a_dropped_clip_and_then_another_one(page, service, real_clips):
    for clip in real_clips[3:5]:
        data = base64.b64encode(clip.read_bytes()).decode()
        page.evaluate(
            """([data, name]) => {
              const bytes = Uint8Array.from(atob(data), letter => letter.charCodeAt(0));
              const carried = new DataTransfer();
              carried.items.add(new File([bytes], name, {type: "video/mp4"}));
              document.getElementById("drop").dispatchEvent(
                new DragEvent("drop", {dataTransfer: carried, bubbles: true, cancelable: true}));
            }""",
            [data, clip.name],
        )
        page.get_by_text(clip.name, exact=True).wait_for()
        assert_shows(page, service.post(clip).json())


@pytest.mark.slow
def test_what_goes_wrong_is_said_in_words(page, real_clips, odd_clips, damaged, tmp_path):
    def told(path):
        page.set_input_files("#file", path)
        page.get_by_role("alert").wait_for()
        page.wait_for_function("name => document.getElementById('problem').textContent.includes(name)", arg=path.name)
        assert page.locator("#prediction").is_hidden()
        return page.get_by_role("alert").inner_text()

    assert told(damaged["truncated"]).startswith("No prediction for truncated.mp4: the clip is ")
    assert told(damaged["empty"]) == "No prediction for empty.mp4: the clip is empty."
    large = odd_clips.no_face
    told_of_large = told(large)
    assert (
        told_of_large
        == f"{large.name} is too large: {large.stat().st_size / 2**20:.1f} MiB, and at most 0.5 MiB are taken."
    )
    silent = tmp_path / "<b>no sound<b>.mp4"  # a name is never markup
    shutil.copyfile(damaged["text"], silent)
    assert "<b>no sound<b>.mp4" in told(silent)
    page.set_input_files("#file", real_clips[0])
    page.locator("#prediction").wait_for()
    assert page.locator("#problem").is_hidden()


@pytest.mark.slow
def test_a_service_that_is_gone_is_said_in_words(page, real_clips):
    page.route("**/predict", lambda route: route.abort())
    page.set_input_files("#file", real_clips[0])
    page.get_by_role("alert").wait_for()
    assert page.get_by_role("alert").inner_text() == "The service cannot be reached. Is mer serve still running?"


@pytest.mark.slow
def test_a_busy_service_is_waited_for(page, real_clips):
    busy = [True]

    def answer(route):
        if busy and busy.pop():
            route.fulfill(status=429, headers={"Retry-After": "0.05"}, json={"detail": "busy"})
        else:
            route.continue_()

    page.route("**/predict", answer)
    page.set_input_files("#file", real_clips[0])
    page.locator("#prediction").wait_for()
    assert not busy


@pytest.mark.slow
def test_another_file_that_is_chosen_meanwhile_is_sent_once(page, real_clips):
    sent = []

    def answer(route):
        sent.append(route.request)
        if len(sent) == 1:
            route.fulfill(status=429, headers={"Retry-After": "1"}, json={"detail": "busy"})
        else:
            route.continue_()

    page.route("**/predict", answer)
    # The waiting ends when the test says so.
    page.evaluate("() => { window.setTimeout = after => { window.again = after; } }")
    page.set_input_files("#file", real_clips[0])
    page.wait_for_function("() => window.again")
    page.set_input_files("#file", real_clips[1])
    page.locator("#prediction").wait_for()
    page.evaluate("() => window.again()")
    page.evaluate("() => fetch('health')")  # what was to be sent has been
    assert len(sent) == 2


@pytest.mark.slow
def test_by_keyboard_and_by_name(page, real_clips):
    chooser = page.get_by_label("Drop a clip here, or choose one")
    # Listening for choosers reaches the page unawaited, and a key may overtake it. Questions answered by the page
    # before the key is pressed show that it has come.
    with page.expect_file_chooser() as opened:
        page.keyboard.press("Tab")
        assert page.evaluate("document.activeElement.id") == "file"
        outline = page.locator("#drop").evaluate("node => getComputedStyle(node).outlineStyle")
        assert outline == "solid"  # the focus can be seen
        page.keyboard.press("Space")
    opened.value.set_files(real_clips[1])
    page.locator("#prediction").wait_for()
    page.keyboard.press("Tab")
    assert page.evaluate("document.activeElement.id") == "player"
    assert chooser.get_attribute("aria-describedby") == "about"
    assert "At most 0.5 MiB and 60 seconds." in page.locator("#about").inner_text()


@pytest.mark.slow
@pytest.mark.parametrize("width", [320, 375, 1100])
def test_nothing_is_cut_off(page, real_clips, width):
    page.set_viewport_size({"width": width, "height": 700})
    page.set_input_files("#file", real_clips[1])
    page.locator("#prediction").wait_for()
    assert page.evaluate("document.documentElement.scrollWidth") <= width


@pytest.mark.slow
def test_headers_keep_other_code_out(service):
    headers = requests.get(service.url, timeout=120).headers
    assert headers["content-security-policy"] == the_page().headers["content-security-policy"]
    assert headers["x-content-type-options"] == "nosniff"
