"""Recordings in windows: the answers of the clips cut out there, what is shared, and a sentence for each mistake."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from dataclasses import dataclass, replace
from itertools import cycle, islice
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from mer_pnao.extraction import stretch_reader
from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError
from mer_pnao.predict import Prediction, Predictor, Refusal
from mer_pnao.recordings.timeline import DecodedTimeline, Window, timeline
from mer_pnao.recordings.windows import Windows

MODEL = "models/enf_pnao/round-00"
SECOND = 16_000
# What sharing may change of a window that lies across two stretches: about twice what was measured, .030 and .018.
POSTERIOR, VALENCE = 0.06, 0.04


@dataclass(frozen=True)
class Recording:
    path: Path
    frames: np.ndarray  # at 25 a second
    sound: np.ndarray


@pytest.fixture(scope="module")
def predictor(demo_project):
    return Predictor.load(demo_project / MODEL, root=demo_project)


@pytest.fixture(scope="module")
def spoken(demo_project, filmed):
    """The frames and the sound of the rendered clips, one after another, 8 seconds of them."""
    frames, sound = [], []
    for clip in sorted((demo_project / "data/clips").glob("*.mp4")):
        shown, heard = filmed(clip)
        frames += shown
        sound.append(heard)
    return np.stack(frames[:200]), np.concatenate(sound)[: 8 * SECOND]


@pytest.fixture
def recording(tmp_path, write_recording, spoken):
    return Recording(write_recording(tmp_path / "talk.mkv", *spoken), *spoken)


@pytest.fixture
def cut_out(tmp_path, write_recording):
    def cut(recording: Recording, windows: list[Window]) -> list[Path]:
        paths = []
        for window in windows:
            first, last = round(25 * window.start), round(25 * window.end)
            path = tmp_path / f"cut-{window.start}.mkv"
            write_recording(path, recording.frames[first:last], recording.sound[640 * first : 640 * last])
            paths.append(path)
        return paths

    return cut


def spans(windows: list[Window]) -> list[tuple[float, float]]:
    return [(round(window.start, 6), round(window.end, 6)) for window in windows]


def apart(one: Prediction, other: Prediction) -> tuple[float, float]:
    """By how much the posteriors differ at most, and the valences."""
    return (
        max(abs(one.posteriors[label] - other.posteriors[label]) for label in one.posteriors),
        abs(one.valence - other.valence),
    )


def test_a_window_is_answered_as_the_clip_cut_out_there(predictor, recording, cut_out):
    windows = list(timeline(predictor, recording.path, window=2.4, hop=1.2))
    assert spans(windows) == [(0, 2.4), (1.2, 3.6), (2.4, 4.8), (3.6, 6), (4.8, 7.2), (6, 8)]
    differences = []
    for place, (window, clip) in enumerate(zip(windows, predictor.predict(cut_out(recording, windows)), strict=True)):
        assert (window.face, window.voice) == (True, True)
        assert window.answer.name == "talk"
        if place % 2 == 0:  # a stretch of its own: nothing is shared
            assert apart(window.answer, clip) == pytest.approx((0, 0), abs=1e-5)
            assert window.answer.warnings == clip.warnings
            assert window.answer.novelty == pytest.approx(clip.novelty, abs=1e-4)
        else:
            differences.append(apart(window.answer, clip))
    assert len(differences) == 3
    assert (np.max(differences, axis=0) < (POSTERIOR, VALENCE)).all()


class Told(Predictor):
    """Encoders whose vectors are known in advance, and answers that tell what the network would get."""

    def decided(self, names, found):
        return [Refusal(name, one.skipped or f"vectors {one.vectors}") for name, one in zip(names, found, strict=True)]


def known(kind: str, limits: MediaLimits, frames: int = 4) -> SimpleNamespace:
    """An encoder of which each vector is the grey level of a frame, or a tenth of a second's mean of the samples."""

    def over_time(clip):
        made.content.append(clip.content)
        if kind == "faces":
            return {kind: clip.content.mean(axis=(1, 2, 3), dtype=np.float32)[:, None]}
        blocks = clip.content[: len(clip.content) // 1600 * 1600].reshape(-1, 1600)
        return {kind: blocks.mean(axis=1, dtype=np.float32)[:, None]}

    plan = DecodingPlan(kind, limits, frames if kind == "faces" else 0, 32 if kind == "faces" else 0)
    made = SimpleNamespace(
        name=kind, sets={kind: 1}, reader=SimpleNamespace(plan=plan), over_time=over_time, content=[]
    )
    made.hop = 1600 if kind == "sound" else 0
    return made


@pytest.fixture
def told(predictor):
    def make(limits: MediaLimits | None = None, kinds=("sound", "faces"), frames: int = 4) -> Told:
        encoders = {kind: known(kind, limits or MediaLimits(), frames) for kind in kinds}
        return Told(predictor.model, "told", encoders)

    return make


def vectors(window: Window) -> dict[str, float]:
    text = window.answer.reason
    assert text.startswith("vectors "), text
    found = eval(text.removeprefix("vectors "), {"array": np.array, "float32": np.float32})
    return {key: float(value[0]) for key, value in found.items()}


def steps(seconds: float) -> tuple[np.ndarray, np.ndarray]:
    """Frames and sound whose level is another one in each tenth of a second."""
    count = round(10 * seconds)
    levels = (37 * np.arange(count) % 200).astype(np.uint8)
    frames = np.repeat(levels, 2)[:, None, None, None] * np.ones((1, 48, 64, 3), np.uint8)  # 20 a second
    loud = np.repeat((11 * np.arange(count) % 17 - 8) / 32, 1600)
    return frames, loud.astype(np.float32)


@pytest.mark.parametrize(("window", "hop"), [(2.0, 0.5), (1.5, 1.1), (2.0, 2.0)])
def test_vectors_are_pooled_over_the_windows_own_time(tmp_path, write_recording, told, window, hop):
    frames, sound = steps(7)
    path = write_recording(tmp_path / "a.mkv", frames, sound, rate=20)
    model = told(frames=10**6)
    found = list(timeline(model, path, window, hop))
    assert len(found) >= 3
    for one in found:
        first, last = round(10 * one.start), round(10 * one.end)
        own = vectors(one)
        assert own["sound"] == pytest.approx(sound.reshape(-1, 1600).mean(axis=1)[first:last].mean(), abs=1e-4)
        assert own["faces"] == pytest.approx(frames[2 * first : 2 * last].mean(), abs=1e-3)
    assert sum(map(len, model.encoders["sound"].content)) == len(sound)  # each second is encoded once
    assert sum(map(len, model.encoders["faces"].content)) == len(frames)


def test_each_frame_is_searched_once_for_all_encoders(predictor, recording, monkeypatch):
    searched = []
    follow = stretch_reader.follow_face

    def counted(frames, detectors):
        searched.extend(frame[::9, ::9].tobytes() for frame in frames)
        return follow(frames, detectors)

    monkeypatch.setattr(stretch_reader, "follow_face", counted)
    manet = predictor.encoders["manet"]
    twice = replace(predictor, encoders={**predictor.encoders, "other": replace(manet, name="other", sets={})})
    assert len(list(timeline(twice, recording.path, window=2.4, hop=0.6))) >= 10
    assert len(searched) == 4 * 3  # of three frames a stretch
    assert set(Counter(searched).values()) == {1}


@pytest.mark.parametrize(
    ("seconds", "window", "hop", "expected"),
    [
        (5.0, 2, 2, [(0, 2), (2, 4), (4, 5)]),
        (4.9, 2, 2, [(0, 2), (2, 4)]),  # a rest of less than half a hop
        (5.0, 2, 1, [(0, 2), (1, 3), (2, 4), (3, 5)]),
        (5.5, 2, 1, [(0, 2), (1, 3), (2, 4), (3, 5), (4, 5.5)]),
        (0.5, 2, 1, [(0, 0.5)]),
        (5.0, 2, None, [(0, 2), (1, 3), (2, 4), (3, 5)]),
        (0.4, 0.15, None, [(0, 0.15), (0.1, 0.25), (0.2, 0.35), (0.3, 0.4)]),
    ],
)
def test_where_windows_lie(tmp_path, write_recording, told, seconds, window, hop, expected):
    path = write_recording(tmp_path / "a.mkv", *steps(seconds), rate=20)
    assert spans(list(timeline(told(), path, window, hop))) == expected


@pytest.mark.parametrize(("window", "hop"), [(1.0, 1 / 3), (1 / 3, 1 / 3), (1 / 3, 1 / 6)])
def test_windows_do_not_drift_off_their_grid(told, window, hop):
    model = told(kinds=["sound"])
    answers, starts = DecodedTimeline(model, "a", Windows(window, hop)), []
    for number in range(99):
        begin = number * answers.length
        heard = np.full(answers.length, 0.1, np.float32)
        stretch = stretch_reader.DecodedStretch(begin, begin + answers.length, heard, {}, ())
        starts += [round(SECOND * one.start) for one in answers.take(stretch)]
    every = round(window / hop)
    assert starts[::every] == [number * answers.length for number in range(99)]  # each stretch is a window
    assert np.abs(np.array(starts) - np.arange(len(starts)) * answers.length / every).max() <= 0.5


def test_the_threads_are_given_back(told, tmp_path, write_recording, monkeypatch):
    path = write_recording(tmp_path / "a.mkv", *steps(2), rate=20)
    monkeypatch.setattr(Told, "decided", lambda *_: 1 / 0)
    given = []
    monkeypatch.setattr(torch, "set_num_threads", given.append)
    model = told()
    reader = stretch_reader.StretchReader(model.plans(), model.root)
    (stretch,) = reader.read(path, 2 * SECOND)
    with pytest.raises(ZeroDivisionError):
        DecodedTimeline(model, "a", Windows(2, 2)).take(reader.find_faces(stretch))
    assert given == [1, torch.get_num_threads()]


def test_windows_without_a_voice_or_a_picture(tmp_path, write_recording, told):
    frames, sound = steps(24)[0], 0.2 * np.random.default_rng(0).uniform(-1, 1, 24 * SECOND)
    sound[4 * SECOND : 6 * SECOND] = 0
    sound[8 * SECOND : 10 * SECOND] *= 0.001
    begins = [*np.arange(40) / 20, 20.0, 20.5, 21]
    path = write_recording(tmp_path / "a.mkv", frames[: len(begins)], sound, rate=20, begins=begins)
    found = list(timeline(told(), path, 2, 2))
    assert [window.voice for window in found] == [True, True, False, True, False, *7 * [True]]
    assert [window.level < -50 for window in found] == [not window.voice for window in found]
    reasons = {window.start: window.answer.reason for window in found if not window.answer.reason.startswith("vec")}
    assert reasons == {4: "is silent", **dict.fromkeys((12, 14, 16, 18, 22), "has no picture that changes")}
    heard = list(timeline(told(), path, 2, 2, speech_only=True))
    assert heard == [window for window in found if window.voice]
    louder = list(timeline(told(), path, 2, 2, speech_only=True, speech_level=-85))
    assert [window.start for window in louder] == [window.start for window in found if window.start != 4]
    assert not any(window.face for window in found)


def test_several_faces_are_told(predictor, tmp_path, write_recording, spoken):
    frames, sound = spoken
    small = np.full_like(frames, 90)
    half = frames.shape[1] // 2
    small[:, half:, half:] = frames[:, ::2, ::2]
    path = write_recording(tmp_path / "a.mkv", np.concatenate([frames, small], axis=2)[:50], sound[: 2 * SECOND])
    (window,) = timeline(predictor, path, 2, 2)
    assert "2 faces were seen in it, of which the largest was followed" in window.answer.warnings


def test_a_face_is_seen_where_there_is_one(predictor, tmp_path, write_recording, spoken):
    frames, sound = spoken
    empty = np.full_like(frames[:60], 90)
    path = write_recording(tmp_path / "a.mkv", np.concatenate([frames[:60], empty, frames[60:90]]), sound[: 6 * SECOND])
    found = list(timeline(predictor, path, 2.4, 2.4))
    assert [window.face for window in found] == [True, False, True]
    whole = "no face was found, so the whole frame was used"
    assert [whole in window.answer.warnings for window in found] == [False, True, False]
    across = list(timeline(predictor, path, 2.4, 1.2))[1]
    assert "no face was found in a part of it, so the whole frame was used there" in across.answer.warnings


def test_a_stretch_whose_pictures_cannot_be_searched(told, tmp_path, write_recording, monkeypatch):
    path = write_recording(tmp_path / "a.mkv", *steps(6), rate=20)
    follow, calls = stretch_reader.follow_face, iter(range(9))

    def second_fails(frames, detectors):
        if next(calls) == 1:
            raise ValueError("no")
        return follow(frames, detectors)

    monkeypatch.setattr(stretch_reader, "follow_face", second_fails)
    model = told()
    reader = stretch_reader.StretchReader(model.plans(), model.root)
    answers = DecodedTimeline(model, "a", Windows(2, 2))
    decoded = map(reader.find_faces, reader.read(path, answers.length))
    found = [window for stretch in decoded for window in answers.take(stretch)]
    assert [window.face for window in found] == 3 * [False]
    assert found[1].answer.reason == "cannot be decoded (ValueError: no)"
    assert [list(vectors(window)) for window in (found[0], found[2])] == 2 * [["sound", "faces"]]


def test_a_model_without_pictures_or_without_sound(tmp_path, write_recording, told):
    frames, sound = steps(4)
    path = write_recording(tmp_path / "a.mkv", frames, 0 * sound, rate=20)
    assert {window.answer.reason for window in timeline(told(kinds=["sound"]), path, 2)} == {"is silent"}
    assert [window.face for window in timeline(told(kinds=["sound"]), path, 2)] == 3 * [None]
    assert [list(vectors(window)) for window in timeline(told(kinds=["faces"]), path, 2)] == 3 * [["faces"]]


def test_what_lies_past_the_sound(told, tmp_path, write_recording):
    frames, sound = steps(8)
    path = write_recording(tmp_path / "a.mkv", frames, sound[: round(4.05 * SECOND)], rate=20)
    found = list(timeline(told(), path, 2, 2))
    assert [window.answer.reason for window in found[2:]] == ["has only 0.050 s of sound", "has no sound"]


def test_what_is_before_the_damage_is_answered(told, tmp_path, write_recording):
    path = write_recording(tmp_path / "a.mkv", *steps(8), rate=20)
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 5 // 8])
    found = []
    with pytest.raises(ClipError, match="truncated"):
        found.extend(timeline(told(), path, 2, 1))
    assert len(found) >= 3
    assert spans(found)[:3] == [(0, 2), (1, 3), (2, 4)]


def test_a_caller_who_leaves_ends_the_work(told, tmp_path, write_recording):
    path = write_recording(tmp_path / "a.mkv", *steps(8), rate=20)
    threads = threading.active_count()
    windows = timeline(told(), path, 1)
    next(windows)
    assert threading.active_count() > threads
    windows.close()
    assert threading.active_count() == threads


def test_stretches_decoded_elsewhere_get_the_same_answers(predictor, recording):
    reader = stretch_reader.StretchReader(predictor.plans(), predictor.root)
    here = list(timeline(predictor, recording.path, 2.4))
    answers = DecodedTimeline(predictor, "talk", Windows(2.4))
    decoded = map(reader.find_faces, reader.read(recording.path, answers.length))
    there = [window for stretch in decoded for window in answers.take(stretch)] + list(answers.rest())
    assert spans(here) == spans(there)
    for one, other in zip(here, there, strict=True):
        assert apart(one.answer, other.answer) == pytest.approx((0, 0), abs=1e-5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"window": 0}, "window must lie in [0.1, 60], got 0 s"),
        ({"window": -1}, "window must lie in [0.1, 60], got -1 s"),
        ({"window": 61}, "window must lie in [0.1, 60], got 61 s"),
        ({"window": float("nan")}, "window must lie in [0.1, 60], got nan s"),
        ({"window": 4, "hop": 0}, "hop must lie in [0.1, 4], got 0 s"),
        ({"window": 4, "hop": 5}, "hop must lie in [0.1, 4], got 5 s"),
        ({"window": 60, "hop": 0.5}, "hop must be at least a fortieth of the window, 1.5 s, got 0.5 s"),
        ({"speech_level": 3}, "speech_level must lie in [-90, 0], got 3 dBFS"),
    ],
)
def test_options_out_of_range(told, options, message):
    with pytest.raises(InputError) as refused:
        timeline(told(), Path("gone.mp4"), **options)
    assert str(refused.value) == message


def test_models_that_take_no_recording(told, predictor, tmp_path):
    wordy = told()
    wordy.encoders["words"] = SimpleNamespace(reader=None)
    with pytest.raises(InputError, match="reads words, and what is said when in a recording is not known"):
        timeline(wordy, Path("gone.mp4"))
    (tmp_path / "crops").mkdir()
    with pytest.raises(InputError, match="its faces come from ready crops, and a recording has none"):
        timeline(replace(told(MediaLimits(crops="crops")), root=tmp_path), Path("gone.mp4"))
    with pytest.raises(ClipError, match="cannot be opened"):
        next(timeline(predictor, Path("gone.mp4")))


class TestCommand:
    """`mer predict --window`."""

    @pytest.fixture
    def run(self, mer, demo_project, recording, predictor, monkeypatch):
        monkeypatch.setattr(Predictor, "load", lambda *_: predictor)  # seconds each time

        def call(*options: str, path: Path = recording.path, columns: str = "80"):
            os.environ["COLUMNS"] = columns
            code, out, err = mer(demo_project, "predict", str(path), "--model", MODEL, *options)
            return code, out, err.replace("\n\n", "\n").strip()

        return call

    def test_json_csv_table_and_figure_say_the_same(self, run, predictor, recording, tmp_path):
        windows = list(timeline(predictor, recording.path, 4.0))
        code, out, err = run("--window", "4", "--json")
        assert code == 0
        assert [json.loads(line) for line in out.splitlines()] == [json.loads(json.dumps(w.plain())) for w in windows]
        keys = ["name", "start", "end", "face", "voice", "level", "emotion", "posteriors", "valence", "confidence"]
        keys += ["weights", "model_version", "valence_range", "novelty", "warnings"]
        assert list(json.loads(out.splitlines()[0])) == keys

        table, figure = tmp_path / "new/t.csv", tmp_path / "new/t.png"
        code, out, err = run("--window", "4", "--csv", str(table), "--plot", str(figure))
        assert (code, out) == (0, f"3 windows of 1 recordings: {table}\n")
        rows = pd.read_csv(table)
        assert list(rows.columns)[:9] == [*keys[:6], "emotion", "confidence", "valence"]
        assert list(rows["emotion"]) == [window.answer.emotion for window in windows]
        assert rows["posterior_happy"].tolist() == [window.answer.posteriors["happy"] for window in windows]
        assert list(zip(rows["start"], rows["end"], strict=True)) == spans(windows) == [(0, 4), (2, 6), (4, 8)]
        assert figure.read_bytes().startswith(b"\x89PNG")
        assert sorted(path.name for path in figure.parent.iterdir()) == ["t.csv", "t.png"]

        code, out, err = run("--window", "4")
        lines = out.splitlines()
        assert code == 0
        assert max(map(len, lines)) <= 80
        assert lines[1] == "talk, model enf_pnao/round-00"
        assert lines[2].split() == ["start", "end", "emotion", "conf.", "valence", "next", "best", "remarks"]
        assert [line.split()[:3] for line in lines[3:]] == [
            [start, end, window.answer.emotion]
            for (start, end), window in zip(
                [("0:00.0", "0:04.0"), ("0:02.0", "0:06.0"), ("0:04.0", "0:08.0")], windows, strict=True
            )
        ]
        assert "the model has learnt from drawn faces" in err

    def test_a_damaged_recording(self, run, recording, tmp_path):
        content = recording.path.read_bytes()
        recording.path.write_bytes(content[: len(content) * 3 // 4])
        table = tmp_path / "t.csv"
        code, _, err = run("--window", "2", "--csv", str(table))
        assert code == 2
        assert f"{recording.path}: is " in err
        assert "truncated" in err
        assert "Traceback" not in err
        assert len(pd.read_csv(table)) >= 2

    @pytest.mark.parametrize(
        ("options", "message"),
        [
            (["--hop", "2"], "--hop is for recordings: give --window, the seconds of a window, too"),
            (["--speech-only"], "--speech-only is for recordings: give --window, the seconds of a window, too"),
            (["--plot", "a.png"], "--plot is for recordings: give --window, the seconds of a window, too"),
            (["--window", "0"], "window must lie in [0.1, 60], got 0.0 s"),
            (["--window", "4", "--wide"], "--wide cannot be given with --window"),
            (["--window", "4", "--text", "hello"], "--text and --transcripts cannot be given with --window"),
            (["--window", "4", "--plot", "a.jpg"], "a.jpg: a figure must be a .png file"),
            (["--window", "4", "--json", "--csv", "a.csv"], "only one of --json, --wide and --csv can be asked for"),
        ],
    )
    def test_wrong_options(self, run, options, message):
        assert run(*options) == (2, "", f"error: {message}")

    def test_a_clip_that_is_too_long_names_the_window(self, run, tmp_path, write_recording):
        frames, sound = np.zeros((61, 32, 32, 3), np.uint8), np.zeros(61 * SECOND)
        path = write_recording(tmp_path / "long.mkv", frames, sound, rate=1)
        code, _, err = run(path=path)
        assert code == 2
        assert err.splitlines() == [
            f"{path}: lasts 61.0 s, more than 60 s",
            "what is longer than a clip is answered in windows: --window 4",
            "1 of 1 clips could not be used",
        ]

    def test_a_window_without_an_answer_has_its_reason_in_the_table(self, run, tmp_path, write_recording):
        path = write_recording(tmp_path / "mute.mkv", np.zeros((4, 32, 32, 3), np.uint8), np.zeros(2 * SECOND), rate=2)
        code, out, _ = run("--window", "1", "--hop", "1", path=path)
        assert code == 0
        assert [line.split("  ")[-1] for line in out.splitlines()[3:]] == 2 * ["- is silent"]


@pytest.mark.slow
def test_a_killed_run_leaves_no_half_file(demo_project, recording, environment, tmp_path):
    table = tmp_path / "out/t.csv"
    command = [sys.executable, "-m", "mer_pnao.cli", "predict", str(recording.path), "--model", MODEL]
    process = subprocess.Popen([*command, "--window", "0.5", "--csv", str(table)], cwd=demo_project, env=environment)
    while not table.parent.is_dir() and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not table.exists()


MEMORY = """
import sys
from pathlib import Path
import psutil
from mer_pnao.predict import Predictor
from mer_pnao.recordings.timeline import timeline
predictor = Predictor.load(Path("models/enf_pnao/round-00"))
held = [psutil.Process().memory_info().rss for _ in timeline(predictor, Path(sys.argv[1]))]
print(len(held), max(held) // 2**20)
"""


@pytest.mark.slow
def test_memory_does_not_grow_with_the_recording(demo_project, spoken, write_recording, tmp_path, environment):
    frames, sound = spoken
    peaks = []
    for minutes in (1, 4):
        shown, heard = list(islice(cycle(frames[::5]), 300 * minutes)), np.resize(sound, 60 * minutes * SECOND)
        path = write_recording(tmp_path / f"{minutes}.mkv", shown, heard, rate=5)
        done = subprocess.run(
            [sys.executable, "-c", MEMORY, str(path)],
            cwd=demo_project,
            env=environment,
            check=True,
            capture_output=True,
        )
        windows, peak = map(int, done.stdout.split())
        assert windows == 30 * minutes - 1
        peaks.append(peak)
    assert peaks[1] < peaks[0] + 60  # MiB
