"""A recording in stretches: each as the clip cut out there, decoded once, whatever its clock does."""

from collections.abc import Callable
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest

from mer_pnao.media import container, recording
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import choose_frames, read_frames, read_sound
from mer_pnao.media.recording import Sampling, Stretch, stretches

LIMITS = MediaLimits()
SECOND = 16_000
EACH = Sampling(1000)


@pytest.fixture
def speech() -> Callable[[float], np.ndarray]:
    return lambda seconds: 0.3 * np.random.default_rng(1).standard_normal(round(seconds * SECOND)).clip(-3, 3) / 3


def until_fault(path: Path, length: int, samplings=(EACH,), limits=LIMITS) -> tuple[list[Stretch], str]:
    """The stretches before a recording cannot be read any further, and why."""
    found: list[Stretch] = []
    with pytest.raises(ClipError) as fault:
        found.extend(stretches(path, length, samplings, limits))  # keeps what came before
    return found, str(fault.value)


def numbers(stretch: Stretch, sampling=EACH) -> list[int]:
    """Which of the `numbered` frames, modulo 64, a stretch has taken."""
    return [int(frame[0, 0, 0]) // 4 for frame in stretch.films[sampling].frames]


@pytest.mark.parametrize("seconds", [2.0, 1.6])
def test_a_stretch_is_the_clip_cut_out_there(tmp_path, write_recording, numbered, speech, seconds):
    frames, sound = numbered(160), speech(6.4)
    path = write_recording(tmp_path / "long.mkv", frames, sound)
    samplings = (Sampling(3), Sampling(8), Sampling(1000, 5.0), EACH)
    found = list(stretches(path, round(seconds * SECOND), samplings, LIMITS))
    assert [stretch.start / SECOND for stretch in found] == pytest.approx(np.arange(len(found)) * seconds)
    assert found[-1].end == 6.4 * SECOND
    whole = [stretch for stretch in found if stretch.end - stretch.start == seconds * SECOND]
    assert len(whole) == 6.4 // seconds
    for stretch in whole:
        first, last = (round(time / 640) for time in (stretch.start, stretch.end))
        cut = write_recording(tmp_path / "cut.mkv", frames[first:last], sound[stretch.start : stretch.end])
        np.testing.assert_array_equal(stretch.sound, read_sound(cut, LIMITS))
        for sampling in samplings:
            chosen = choose_frames(cut, sampling.frames, LIMITS, sampling.per_second)
            film = stretch.films[sampling]
            np.testing.assert_array_equal(film.frames, list(read_frames(cut, chosen, LIMITS)))
            times = np.array(film.times) / SECOND
            assert stretch.start / SECOND <= times.min() <= times.max() < stretch.end / SECOND


@pytest.mark.parametrize("seconds", [1.6, 4.0, 14.0, 60.0])
@pytest.mark.parametrize("offset", [0.0, 7.3])
def test_a_stretch_that_ends_early_is_the_clip_cut_out_there(
    tmp_path, write_recording, numbered, speech, seconds, offset
):
    frames, sound = numbered(51), speech(2.04)
    path = write_recording(tmp_path / "short.mkv", frames, sound, offset=offset)
    samplings = (Sampling(3), Sampling(8), Sampling(1000, 5.0), EACH)
    *_, last = stretches(path, round(seconds * SECOND), samplings, LIMITS)
    cut = write_recording(tmp_path / "cut.mkv", frames[last.start // 640 :], sound[last.start :])
    for sampling in samplings:
        chosen = choose_frames(cut, sampling.frames, LIMITS, sampling.per_second)
        film = last.films[sampling]
        np.testing.assert_array_equal(film.frames, list(read_frames(cut, chosen, LIMITS)))
        assert last.start <= np.min(film.times) <= np.max(film.times) < last.end


def test_a_stretch_that_ends_before_its_header_has_a_picture(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(200), speech(8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 8])
    found, reason = until_fault(path, 60 * SECOND, (Sampling(2), Sampling(1)))
    assert reason.startswith(("is truncated: ", "is damaged or truncated"))
    assert [len(film.frames) for film in found[0].films.values()] == [1, 1]
    assert 0 < found[0].films[Sampling(2)].times[0][0] < found[0].end


@pytest.mark.parametrize(("rate", "channels"), [(44_100, 2), (16_000, 1)])
def test_the_sound_of_all_stretches_is_that_of_the_file(make_clip, numbered, rate, channels):
    sound = 0.2 * np.random.default_rng(0).standard_normal((channels, 3 * rate)).clip(-3, 3).astype(np.float32)
    path = make_clip("clip.mkv", numbered(75), sound, rate, codec="pcm_f32le")
    found = list(stretches(path, SECOND, (EACH,), LIMITS))
    np.testing.assert_array_equal(np.concatenate([each.sound for each in found]), read_sound(path, LIMITS))
    assert [len(numbers(each)) for each in found] == [25, 25, 25]


def test_channels_that_cancel_each_other(make_clip, numbered, tone):
    wave = tone(2.0)
    path = make_clip("clip.mkv", numbered(50), np.concatenate([wave, -wave]), codec="pcm_f32le")
    for stretch in stretches(path, SECOND, (EACH,), LIMITS):
        assert np.abs(stretch.sound).max() > 0.4
        assert stretch.remarks == ("its 2 channels of sound cancel each other, so the loudest was used",)


def test_a_clock_that_begins_elsewhere_and_sound_with_a_gap(tmp_path, write_recording, numbered, speech):
    sound = speech(4)
    plain = list(stretches(write_recording(tmp_path / "a.mkv", numbered(100), sound), SECOND, (EACH,), LIMITS))
    later = write_recording(tmp_path / "b.mkv", numbered(100), sound, offset=7.3)
    for one, other in zip(plain, stretches(later, SECOND, (EACH,), LIMITS), strict=True):
        np.testing.assert_array_equal(one.sound, other.sound)
        assert numbers(one) == numbers(other)
    holed = write_recording(tmp_path / "c.mkv", numbered(150), sound, gap=(1.0, 2.0))
    found = np.concatenate([each.sound for each in stretches(holed, SECOND, (EACH,), LIMITS)])
    assert not found[SECOND + 100 : 3 * SECOND - 100].any()
    np.testing.assert_allclose(found[3 * SECOND :], sound[SECOND:], atol=1e-4)


def test_a_picture_stays_for_ten_seconds_and_no_longer(tmp_path, write_recording, numbered, speech):
    begins = [0.0, 0.5, 1.0, 16.0, 16.5]
    path = write_recording(tmp_path / "a.mkv", numbered(5), speech(18), begins=begins)
    found = list(stretches(path, 2 * SECOND, (Sampling(4),), LIMITS))
    assert [numbers(each, Sampling(4)) for each in found] == [[0, 1, 2], *[[2]] * 5, [], [], [3, 4]]
    assert [len(each.sound) for each in found] == 9 * [2 * SECOND]
    assert found[1].films[Sampling(4)].times == [(2.25 * SECOND, 3.75 * SECOND)]  # on screen all the time
    path = write_recording(tmp_path / "b.mkv", numbered(2), speech(40), begins=[0, 20])  # the last one stays, too
    found = list(stretches(path, 4 * SECOND, (Sampling(4),), LIMITS))
    assert [numbers(each, Sampling(4)) for each in found] == [*[[0]] * 3, [], [], *[[1]] * 3, [], []]


def test_the_last_frame_stays_no_longer_than_the_file(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(3), speech(30), begins=[0, 9, 29.5])
    found = list(stretches(path, 4 * SECOND, (Sampling(4),), LIMITS))
    assert found[-1].end == 30 * SECOND
    path = write_recording(tmp_path / "b.mkv", numbered(3), speech(25), begins=[0, 9, 29.5])
    found = list(stretches(path, 4 * SECOND, (Sampling(4),), LIMITS))
    assert 29.5 * SECOND < found[-1].end <= 29.6 * SECOND


def test_sound_that_ends_before_the_picture_and_the_reverse(tmp_path, write_recording, numbered, speech):
    found = list(stretches(write_recording(tmp_path / "a.mkv", numbered(150), speech(2.5)), SECOND, (EACH,), LIMITS))
    assert [len(each.sound) for each in found] == [SECOND, SECOND, SECOND // 2, 0, 0, 0]
    assert [len(numbers(each)) for each in found] == 6 * [25]
    found = list(stretches(write_recording(tmp_path / "b.mkv", numbered(40), speech(4)), SECOND, (EACH,), LIMITS))
    assert [len(each.sound) for each in found] == 4 * [SECOND]
    assert [len(numbers(each)) for each in found] == [25, 15, 0, 0]


def test_what_is_before_the_damage_is_handed_on(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(200), speech(8))
    content = path.read_bytes()
    path.write_bytes(content[: len(content) * 5 // 8])
    found, reason = until_fault(path, SECOND)
    assert reason.startswith(("is truncated: ", "is damaged or truncated"))
    assert [numbers(each) for each in found[:4]] == [[n % 64 for n in range(s, s + 25)] for s in (0, 25, 50, 75)]
    assert 4 <= len(found) <= 6


def test_three_of_a_hundred_seconds_are_missed(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(100), speech(100), rate=1)
    content = path.read_bytes()
    path.write_bytes(content[: round(len(content) * 0.97)])
    found, reason = until_fault(path, 10 * SECOND)
    assert reason.startswith(("is truncated: ", "is damaged or truncated"))
    assert len(found) == 10


def test_a_packet_that_cannot_be_decoded(tmp_path, write_recording, numbered, speech, monkeypatch):
    path = write_recording(tmp_path / "a.mkv", numbered(100), speech(4))
    taken = recording._Reading.take

    def damaged(self, packet):
        if packet.pts and packet.pts * packet.time_base > 2.5:
            raise av.error.InvalidDataError(1, "Invalid data found when processing input")
        taken(self, packet)

    monkeypatch.setattr(recording._Reading, "take", damaged)
    found, reason = until_fault(path, SECOND)
    assert reason == "is damaged or truncated (Invalid data found when processing input), after 2.5 s"
    assert [each.end / SECOND for each in found] == pytest.approx([1, 2, 2.52])


def test_a_clock_that_jumps_ahead(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(25), speech(2), gap=(1.0, 4000.0))
    found, reason = until_fault(path, SECOND // 2)
    assert reason == "jumps from 1.0 s to 4001.0 s in its clock, after 1.0 s"
    assert [(each.end / SECOND, len(numbers(each))) for each in found] == [
        (0.5, 13),
        (1.0, 13),
    ]  # one is on at the border


def test_a_clock_that_goes_back(tmp_path, numbered, speech):
    part = transport_stream(tmp_path / "part.ts", numbered(12), speech(12), rate=1)
    twice = tmp_path / "twice.ts"
    twice.write_bytes(2 * part.read_bytes())
    found, reason = until_fault(twice, 2 * SECOND)
    assert reason == "jumps from 12.1 s to 0.0 s in its clock, after 12.1 s"
    assert [each.end / SECOND for each in found[:6]] == [2, 4, 6, 8, 10, 12]
    assert all(numbers(each) for each in found[:6])


def transport_stream(path: Path, frames: np.ndarray, sound: np.ndarray, rate: int = 25, first: int = 0) -> Path:
    """H.264 and AAC as MPEG-TS, whose parts can be put together; `first` is the number of the first frame."""
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=rate), out.add_stream("aac", rate=SECOND, layout="mono")
        video.height, video.width = frames.shape[1:3]
        video.pix_fmt, video.options = "yuv420p", {"tune": "zerolatency"}
        block = SECOND // rate
        for place, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(image, format="rgb24")
            picture.pts, picture.time_base = place + first, Fraction(1, rate)
            out.mux(video.encode(picture))
            part = sound[None, place * block : (place + 1) * block].astype(np.float32)
            heard = av.AudioFrame.from_ndarray(np.ascontiguousarray(part), format="fltp", layout="mono")
            heard.sample_rate, heard.pts = SECOND, block * (place + first)
            out.mux(audio.encode(heard))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def test_sound_and_picture_far_apart_in_the_file(tmp_path, numbered, write_recording, speech):
    whole = write_recording(tmp_path / "a.mkv", numbered(500), speech(20))
    apart = tmp_path / "apart.mkv"
    with av.open(str(whole)) as source, av.open(str(apart), "w", options={"max_interleave_delta": "1"}) as target:
        streams = {stream: target.add_stream_from_template(stream) for stream in source.streams}
        for stream, written in streams.items():
            source.seek(0)
            for packet in source.demux(stream):
                if packet.dts is not None:
                    packet.stream = written
                    target.mux(packet)
    _, reason = until_fault(apart, SECOND)
    assert reason.startswith("has sound and picture more than 10 s apart in its file, after")


def test_a_size_that_changes(tmp_path, numbered, speech):
    sides = {64: 0, 96: 50}  # by the number of the first frame
    parts = [
        transport_stream(tmp_path / "part.ts", numbered(50, side, side), speech(2), first=first).read_bytes()
        for side, first in sides.items()
    ]
    joined = tmp_path / "joined.ts"
    joined.write_bytes(b"".join(parts))
    found = list(stretches(joined, 3 * SECOND // 2, (EACH,), LIMITS))
    shapes = [{frame.shape[0] for frame in each.films[EACH].frames} for each in found]
    assert shapes[:3] == [{64}, {64}, {96}]  # one in each stretch, as in a clip: the first frame's


def test_more_frames_than_memory(tmp_path, write_recording, speech):
    frames = np.zeros((30, 720, 1280, 3), np.uint8)
    path = write_recording(tmp_path / "a.mkv", frames, speech(1.2))
    _, reason = until_fault(path, SECOND, limits=replace(LIMITS, memory_mb=64))
    assert reason == "has more frames in 1 s than fit into 64 MB, memory_mb of its media, after 1.0 s"
    assert len(list(stretches(path, SECOND, (Sampling(4),), replace(LIMITS, memory_mb=64)))) == 2


def test_it_is_opened_and_each_packet_decoded_once(tmp_path, write_recording, numbered, speech, monkeypatch):
    path = write_recording(tmp_path / "a.mkv", numbered(50), speech(2))
    opened: list[str] = []
    av_open = av.open
    monkeypatch.setattr(container.av, "open", lambda name, **how: opened.append(name) or av_open(name, **how))
    list(stretches(path, SECOND, (EACH, Sampling(4)), LIMITS))
    assert opened == [str(path)]


def test_without_samplings_no_picture_is_decoded(tmp_path, write_recording, numbered, speech):
    path = write_recording(tmp_path / "a.mkv", numbered(50), speech(2))
    assert [(len(each.sound), each.films) for each in stretches(path, SECOND, (), LIMITS)] == 2 * [(SECOND, {})]


@pytest.mark.parametrize(("kind", "reason"), [("audio", "has no audio track"), ("video", "has no video track")])
def test_one_track_alone(make_clip, numbered, tone, kind, reason):
    path = make_clip("a.mkv", numbered() if kind == "audio" else None, tone() if kind == "video" else None)
    assert until_fault(path, SECOND) == ([], reason)
