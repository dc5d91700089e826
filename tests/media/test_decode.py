import gc
import io
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import av
import cv2
import numpy as np
import pytest
from av.video.frame import VideoFrame

from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError, check_clip
from mer_pnao.media.decode import _matrix, choose_frames, is_silent, mono, read_frames, read_sound

LIMITS = MediaLimits()
REAL = Path(__file__).parents[3] / "shared" / "data" / "media"


def decode_frames(path: Path, count: int, limits: MediaLimits, per_second: float = 0.0) -> np.ndarray:
    """(n, H, W, 3): the frames that are chosen."""
    return np.stack(list(read_frames(path, choose_frames(path, count, limits, per_second), limits)))


def test_sound_is_resampled_and_mixed_without_losing_pitch_or_loudness(make_clip, tone, numbered):
    stereo = tone(2.0, rate=44_100, channels=2)
    stereo[1] *= 0.5
    waveform = read_sound(make_clip(frames=numbered(50), sound=stereo, rate=44_100), LIMITS)

    assert waveform.dtype == np.float32
    assert len(waveform) == pytest.approx(2 * 16_000, abs=3000)  # the codec pads
    steady = waveform[8000:24_000]
    assert np.abs(np.fft.rfft(steady)).argmax() == 440  # one second: bins of 1 Hz
    assert steady.std() == pytest.approx(0.375 / np.sqrt(2), rel=0.03)  # the mean of amplitudes .5 and .25


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
@pytest.mark.parametrize(("total", "count"), [(25, 5), (50, 8), (7, 7), (3, 8), (40, 1)])
def test_frames_are_the_middles_of_equal_parts(make_clip, tone, numbered, name, total, count):
    path = make_clip(name, numbered(total), tone(total / 25))
    frames = decode_frames(path, count, LIMITS)

    kept = min(total, count)
    middles = [int((part + 0.5) * total / kept) for part in range(kept)]
    assert frames.shape == (kept, 64, 96, 3)
    assert np.rint(frames.mean(axis=(1, 2, 3)) / 4).astype(int).tolist() == middles


def test_colours_keep_their_order(make_clip, tone):
    red = np.zeros((5, 64, 64, 3), np.uint8)
    red[..., 0] = 200
    frame = decode_frames(make_clip(frames=red, sound=tone(0.2)), 1, LIMITS)[0]
    assert frame[32, 32] == pytest.approx([200, 0, 0], abs=4)


def test_a_time_in_a_name_is_no_protocol(make_clip, tone, numbered, monkeypatch):
    clip = make_clip("10:20.mp4", numbered(), tone())
    monkeypatch.chdir(clip.parent)
    assert check_clip(Path(clip.name), MediaLimits()).seconds == pytest.approx(1, abs=0.1)


def test_large_frames_are_shrunk_to_the_side_asked_for(make_clip, tone, numbered):
    path = make_clip(frames=numbered(5, height=128, width=192), sound=tone(0.2))
    assert decode_frames(path, 2, MediaLimits(frame_side=64)).shape == (2, 64, 96, 3)


def test_frames_of_a_variable_rate_are_chosen_by_the_time_that_they_are_on_screen(make_clip, tone, numbered):
    # Twenty frames in the first 0.8 s, then four that stay on for 1 s each, and a last one of 0.04 s.
    times = [0.04 * n for n in range(20)] + [0.8 + n for n in range(5)]
    for name in ("clip.mp4", "clip.mkv"):
        path = make_clip(name, numbered(25), tone(4.8), times=times)
        frames = decode_frames(path, 6, LIMITS)
        # The middles of six equal parts lie at .40, 1.21, 2.02, 2.82, 3.63 and 4.44 s; two of them see one frame.
        assert np.rint(frames.mean(axis=(1, 2, 3)) / 4).astype(int).tolist() == [10, 20, 21, 22, 23], name
        assert len(decode_frames(path, 25, LIMITS)) == 25


def test_frames_a_second_follow_the_clips_length_and_not_its_frame_rate(make_clip, tone, numbered):
    path = make_clip(frames=numbered(25), sound=tone(1.0))
    assert [len(decode_frames(path, 100, LIMITS, rate)) for rate in (5.0, 10.0, 25.0, 50.0, 0.1)] == [5, 10, 25, 25, 1]
    assert len(decode_frames(path, 3, LIMITS, 10.0)) == 3
    # Twenty frames in the first 0.8 s, then five over 4.04 s: at one a second, the middles of five equal parts.
    times = [0.04 * n for n in range(20)] + [0.8 + n for n in range(5)]
    frames = decode_frames(make_clip("slow.mkv", numbered(25), tone(4.8), times=times), 100, LIMITS, 1.0)
    assert np.rint(frames.mean(axis=(1, 2, 3)) / 4).astype(int).tolist() == [12, 20, 21, 22, 23]


@pytest.mark.parametrize(("rotation", "bright"), [(90, "top"), (180, "left"), (270, "bottom"), (0, "right")])
def test_a_rotation_is_undone_as_a_player_undoes_it(make_clip, tone, rotation, bright):
    image = np.zeros((5, 64, 96, 3), np.uint8)
    image[:, :, 48:] = 200
    frame = decode_frames(make_clip(frames=image, sound=tone(0.2), rotation=rotation), 1, LIMITS)[0]
    assert frame.shape == ((96, 64, 3) if rotation in (90, 270) else (64, 96, 3))
    halves = {"top": frame[:40], "bottom": frame[-40:], "left": frame[:, :40], "right": frame[:, -40:]}
    assert halves[bright].mean() > 190
    opposite = {"top": "bottom", "bottom": "top", "left": "right", "right": "left"}[bright]
    assert halves[opposite].mean() < 10


@pytest.mark.parametrize("rate", [8000, 11_025, 22_050, 32_000, 44_100, 48_000, 96_000])
@pytest.mark.parametrize("channels", [1, 2, 6])
def test_pitch_and_level_survive_every_rate_and_layout(make_clip, tone, numbered, rate, channels):
    sound = tone(2.0, rate, channels)
    path = make_clip("clip.mkv", numbered(50), sound, rate=rate, codec="pcm_f32le")
    waveform = read_sound(path, LIMITS)
    assert len(waveform) == pytest.approx(32_000, abs=40)
    steady = waveform[8000:24_000]
    assert np.abs(np.fft.rfft(steady)).argmax() == 440
    assert steady.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.01)  # the same in all channels, so no mix is louder


def test_the_header_tells_what_the_clip_is(make_clip, tone, numbered):
    header = check_clip(make_clip(frames=numbered(50), sound=tone(2.0, 44_100, 2), rate=44_100), LIMITS)
    assert header.seconds == pytest.approx(2.0, abs=0.1)
    assert (header.width, header.height) == (96, 64)


def test_a_clip_filmed_upright_is_turned_as_a_player_turns_it(make_clip, tone):
    image = np.zeros((5, 64, 96, 3), np.uint8)
    image[:, :, 48:] = 200  # the right half is bright
    path = make_clip(frames=image, sound=tone(0.2))
    identity = np.array([0x10000, 0, 0, 0, 0x10000, 0, 0, 0, 0x40000000], ">i4").tobytes()
    clockwise = np.array([0, 0x10000, 0, -0x10000, 0, 0, 0, 0, 0x40000000], ">i4").tobytes()
    content = path.read_bytes()
    track = content.index(b"tkhd")  # the first track is the video
    matrix = content.index(identity, track)
    path.write_bytes(content[:matrix] + clockwise + content[matrix + len(clockwise) :])

    frame = decode_frames(path, 1, LIMITS)[0]
    assert frame.shape == (96, 64, 3)
    assert frame[:40].mean() < 10  # clockwise: what was right is below
    assert frame[56:].mean() > 190


@pytest.mark.parametrize("decode", [read_sound, lambda path, limits: decode_frames(path, 4, limits), check_clip])
class TestRefusedByEveryDecoder:
    def test_empty_file(self, tmp_path, decode):
        (tmp_path / "clip.mp4").write_bytes(b"")
        with pytest.raises(ClipError, match="is empty"):
            decode(tmp_path / "clip.mp4", LIMITS)

    def test_text(self, tmp_path, decode):
        (tmp_path / "clip.mp4").write_text("not a video\n" * 50)
        with pytest.raises(ClipError, match="not a readable video"):
            decode(tmp_path / "clip.mp4", LIMITS)

    def test_absent(self, tmp_path, decode):
        with pytest.raises(ClipError, match="cannot be opened"):
            decode(tmp_path / "clip.mp4", LIMITS)

    def test_playlist_that_names_another_file(self, make_clip, tone, numbered, decode):
        good = make_clip("good.ts", numbered(25), tone())
        playlist = good.with_name("clip.mp4")
        playlist.write_text(f"ffconcat version 1.0\nfile {good.name}\n")
        with pytest.raises(ClipError, match="not a readable video"):
            decode(playlist, LIMITS)

    def test_cut_off_before_the_index(self, make_clip, tone, numbered, decode):
        path = make_clip(frames=numbered(), sound=tone())
        path.write_bytes(path.read_bytes()[:-2000])  # the index stands at the end
        with pytest.raises(ClipError, match="not a readable video"):
            decode(path, LIMITS)

    def test_no_audio(self, make_clip, numbered, decode):
        with pytest.raises(ClipError, match="has no audio track"):
            decode(make_clip(frames=numbered()), LIMITS)

    def test_no_video(self, make_clip, tone, decode):
        with pytest.raises(ClipError, match="has no video track"):
            decode(make_clip(sound=tone()), LIMITS)

    def test_too_long_by_its_header(self, make_clip, tone, numbered, decode):
        path = make_clip(frames=numbered(60), sound=tone(2.4))
        with pytest.raises(ClipError, match=r"lasts 2\.\d s, more than 2 s"):
            decode(path, MediaLimits(max_seconds=2))

    @pytest.mark.parametrize(("kind", "codec"), [("video", b"V_MPEG4/ISO/AVC"), ("audio", b"A_AAC")])
    def test_a_codec_that_nobody_knows(self, make_clip, tone, numbered, decode, kind, codec):
        path = make_clip("clip.mkv", numbered(), tone())
        content = path.read_bytes()
        assert content.count(codec) == 1
        path.write_bytes(content.replace(codec, codec[:2] + b"X" * (len(codec) - 2)))
        with pytest.raises(ClipError, match=f"has its {kind} in a codec that cannot be decoded here"):
            decode(path, LIMITS)

    def test_too_large(self, make_clip, tone, numbered, decode):
        path = make_clip(frames=numbered(5, 96, 128), sound=tone(0.2))
        with pytest.raises(ClipError, match="is 128x96, more than 5000 pixels"):
            decode(path, MediaLimits(max_pixels=5000))


@pytest.mark.parametrize(
    ("name", "options"),
    [("clip.mp4", {"movflags": "faststart"}), ("clip.mkv", {"reserve_index_space": "2000"})],
)
@pytest.mark.parametrize("share", [0.5, 0.85])
def test_a_cut_off_stream_whose_header_is_whole_is_truncated(make_clip, tone, name, options, share):
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    path = make_clip(name, noise, tone(2.0), options=options)
    content = path.read_bytes()
    path.write_bytes(content[: int(share * len(content))])

    check_clip(path, LIMITS)
    with pytest.raises(ClipError, match=r"is truncated: [01]\.\d\d of 2\.\d\d s"):
        decode_frames(path, 4, LIMITS)
    with pytest.raises(ClipError, match=r"is truncated: [01]\.\d\d of 2\.\d\d s"):
        read_sound(path, LIMITS)


def test_frames_that_an_edit_list_hides_are_neither_counted_nor_missed(make_clip, tone, numbered, tmp_path):
    # As after cutting a film without encoding it again: the clip starts at the key frame before the cut.
    whole = make_clip("whole.mp4", numbered(50), tone(2.0))
    cut = tmp_path / "cut.mp4"
    with av.open(str(whole)) as source, av.open(str(cut), "w") as target:
        streams = {s.index: target.add_stream_from_template(s) for s in source.streams}
        for packet in source.demux():
            if packet.dts is not None:
                early = round(0.8 / packet.time_base)  # the first 20 frames get negative times
                packet.pts, packet.dts = packet.pts - early, packet.dts - early
                packet.stream = streams[packet.stream.index]
                target.mux(packet)
    frames = decode_frames(cut, 3, LIMITS)
    assert np.rint(frames.mean(axis=(1, 2, 3)) / 4).astype(int).tolist() == [25, 35, 45]


def test_decoding_stops_at_the_limit_when_the_header_does_not_tell_the_length(make_clip, tone, numbered):
    class Pipe(io.RawIOBase):
        """Cannot go back, so that the container's header stays without a duration."""

        def __init__(self) -> None:
            self.content = bytearray()

        def writable(self) -> bool:
            return True

        def write(self, data) -> int:
            self.content += bytes(data)
            return len(data)

    pipe = Pipe()
    path = make_clip("live.mkv", numbered(100), tone(4.0), options={"live": "1"}, target=pipe)
    path.write_bytes(bytes(pipe.content))

    with pytest.raises(ClipError, match="more than 2 s of sound"):
        read_sound(path, MediaLimits(max_seconds=2))
    assert len(read_sound(path, LIMITS)) > 3 * 16_000


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mov", "clip.mkv", "clip.ts", "clip.avi", "clip.wmv"])
def test_a_longer_track_that_is_not_read_is_no_sign_of_truncation(make_clip, tone, numbered, name):
    path = make_clip(name, numbered(), tone(), more=[tone(9.0)])
    limits = LIMITS if name == "clip.wmv" else MediaLimits(max_seconds=2)  # ASF tells no track's own length
    assert len(read_sound(path, limits)) == pytest.approx(16_000, abs=3000)
    assert len(decode_frames(path, 4, limits)) == 4
    assert check_clip(path, LIMITS).seconds == pytest.approx(9 if name == "clip.wmv" else 1, abs=0.3)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
def test_a_subtitle_may_stay_on_when_the_clip_is_over(make_clip, tone, numbered, name):
    path = make_clip(name, numbered(), tone(), subtitle=(0.5, 30.0))
    assert len(read_sound(path, MediaLimits(max_seconds=2))) == pytest.approx(16_000, abs=3000)
    assert len(decode_frames(path, 4, MediaLimits(max_seconds=2))) == 4


@pytest.mark.parametrize(
    ("name", "options"),
    [("clip.mp4", {"movflags": "faststart"}), ("clip.mkv", {"reserve_index_space": "2000"})],
)
@pytest.mark.parametrize("extra", [{"subtitle": (0.0, 2.0)}, {"more": True}])
def test_a_clip_of_more_tracks_is_truncated_where_those_that_are_read_are(make_clip, tone, name, options, extra):
    noise = np.random.default_rng(0).integers(0, 256, (50, 64, 64, 3), dtype=np.uint8)
    extra = {"more": [tone(2.5)]} if "more" in extra else extra
    path = make_clip(name, noise, tone(2.0), options=options, **extra)
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
    for decode in (read_sound, lambda path, limits: decode_frames(path, 4, limits)):
        with pytest.raises(ClipError, match=r"is truncated: [01]\.\d\d of 2\.[01]\d s"):
            decode(path, LIMITS)


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv"])
@pytest.mark.parametrize(("default", "number", "pitch"), [(None, 1, 440), (0, 1, 440), (1, 2, 880)])
def test_of_several_sounds_the_one_is_heard_that_a_player_takes(
    make_clip, tone, numbered, name, default, number, pitch
):
    path = make_clip(name, numbered(50), tone(2.0), more=[tone(2.0, pitch=880)], default=default)
    said: list[str] = []
    heard = read_sound(path, LIMITS, said.append)[8000:24_000]
    assert np.abs(np.fft.rfft(heard)).argmax() == pitch  # one second: bins of 1 Hz
    assert said == [f"it has 2 audio tracks, of which number {number} was used"]
    assert check_clip(path, LIMITS).remarks == tuple(said)


def test_a_sound_that_cannot_be_decoded_leaves_its_place_to_the_next(make_clip, tone, numbered):
    path = make_clip("clip.mkv", numbered(50), tone(2.0), more=[tone(2.0, pitch=880)], default=0)
    path.write_bytes(path.read_bytes().replace(b"A_AAC", b"A_XXX", 1))
    said: list[str] = []
    heard = read_sound(path, LIMITS, said.append)[8000:24_000]
    assert np.abs(np.fft.rfft(heard)).argmax() == 880
    assert said == ["it has 2 audio tracks, of which number 2 was used"]


@pytest.mark.parametrize("name", ["clip.mp4", "clip.mkv", "clip.ts", "clip.avi"])
@pytest.mark.parametrize(
    ("aspect", "shape"),
    [((2, 1), (64, 192)), ((64, 45), (64, 137)), ((8, 9), (72, 96)), ((1, 1), (64, 96)), ((1001, 1000), (64, 96))],
)
def test_pixels_that_are_not_square_are_shown_in_proportion(make_clip, tone, name, aspect, shape):
    image = np.zeros((5, 64, 96, 3), np.uint8)
    image[:, 32:, 48:] = 200
    path = make_clip(name, image, tone(0.2), aspect=Fraction(*aspect))
    frame = decode_frames(path, 1, LIMITS)[0]
    assert frame.shape == (*shape, 3)
    header = check_clip(path, LIMITS)
    assert (header.height, header.width) == shape
    height, width = shape
    assert frame[height // 2 + 3 :, width // 2 + 3 :].min() > 190
    assert max(frame[: height // 2 - 3].max(), frame[:, : width // 2 - 3].max()) < 10


def test_a_clip_is_as_large_as_it_is_shown(make_clip, tone, numbered):
    path = make_clip(frames=numbered(5), sound=tone(0.2), aspect=Fraction(2, 1))
    assert decode_frames(path, 1, MediaLimits(max_pixels=192 * 64)).shape == (1, 64, 192, 3)
    with pytest.raises(ClipError, match="is 192x64, more than 12287 pixels"):
        decode_frames(path, 1, MediaLimits(max_pixels=192 * 64 - 1))
    turned = make_clip("turned.mp4", numbered(5), tone(0.2), aspect=Fraction(2, 1), rotation=90)
    assert decode_frames(turned, 1, LIMITS).shape == (1, 192, 64, 3)


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
@pytest.mark.parametrize("mirrored", [(True, False), (False, True), (True, True)])
def test_a_mirrored_picture_is_shown_as_a_player_shows_it(make_clip, tone, rotation, mirrored):
    image = np.zeros((64, 96, 3), np.uint8)
    image[:32, :48] = 200  # one corner is bright
    path = make_clip(frames=np.stack([image] * 5), sound=tone(0.2), rotation=rotation, mirrored=mirrored)
    shown = np.rot90(image, rotation // 90)
    shown = shown[:: -1 if mirrored[1] else 1, :: -1 if mirrored[0] else 1]
    frame = decode_frames(path, 1, LIMITS)[0]
    np.testing.assert_allclose(frame.astype(int), shown, atol=10)


def test_what_the_library_has_no_name_for_beside_a_rotation_costs_no_clip(make_clip, tone, monkeypatch):
    def refuse(frame):
        raise ValueError("33 is not a valid Type")

    monkeypatch.setattr("mer_pnao.media.decode.SideDataContainer", refuse)
    assert _matrix(SimpleNamespace(rotation=90)) == pytest.approx((0, -1, 1, 0), abs=1e-9)


def test_no_frame_waits_for_the_garbage_to_be_collected(make_clip, tone, numbered):
    """Which `mer` does so seldom that an hour's frames, gigabytes, would still be there in the end."""
    path = make_clip(frames=numbered(50), sound=tone(2.0), rotation=90)
    gc.collect()
    gc.disable()
    try:
        assert sum(1 for _ in read_frames(path, range(50), LIMITS)) == 50
        assert not [each for each in gc.get_objects() if type(each) is VideoFrame]
    finally:
        gc.enable()


@pytest.mark.parametrize("codec", ["pcm_f32le", "aac"])
@pytest.mark.parametrize("other", [-1.0, -0.95])
def test_of_channels_that_cancel_each_other_the_loudest_is_heard(make_clip, tone, numbered, codec, other):
    wave = tone(2.0)
    path = make_clip("clip.mkv", numbered(50), np.concatenate([other * wave, wave]), codec=codec)
    said: list[str] = []
    heard = read_sound(path, LIMITS, said.append)[8000:24_000]
    assert heard.std() == pytest.approx(0.5 / np.sqrt(2), rel=0.06)
    assert said == ["its 2 channels of sound cancel each other, so the loudest was used"]


@pytest.mark.parametrize("gains", [(1.0, 0.0), (0.02, 0.02), (1.0, -0.5), (0.0, 0.0, 0.0, 0.0, 0.0, 1.0)])
def test_channels_that_differ_are_mixed_as_ever(make_clip, tone, numbered, gains):
    sound = np.concatenate([gain * tone(2.0) for gain in gains])
    path = make_clip("clip.mkv", numbered(50), sound, codec="pcm_f32le")
    said: list[str] = []
    heard = read_sound(path, LIMITS, said.append)
    with av.open(str(path)) as container:
        np.testing.assert_array_equal(heard, mono(container.decode(audio=0), 60.0))
    assert said == []


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_sound_that_is_no_number_is_refused(make_clip, tone, numbered, value):
    sound = tone(1.0, channels=2)
    sound[1, 8000] = value
    with pytest.raises(ClipError, match="has samples of sound that are NaN or infinite"):
        read_sound(make_clip("clip.mkv", numbered(), sound, codec="pcm_f32le"), LIMITS)


@pytest.mark.parametrize(("codec", "rate"), [("pcm_f32le", 16_000), ("pcm_f32le", 44_100), ("aac", 16_000)])
@pytest.mark.parametrize("constant", [-0.9, 0.01, 0.3])
def test_a_constant_is_silence_and_what_is_said_over_it_is_not(make_clip, tone, numbered, codec, rate, constant):
    flat = np.full((1, 2 * rate), constant, np.float32)
    with pytest.raises(ClipError, match="is silent"):
        read_sound(make_clip("clip.mkv", numbered(50), flat, rate=rate, codec=codec), LIMITS)
    said = flat + 0.05 * tone(2.0, rate)
    heard = read_sound(make_clip("clip.mkv", numbered(50), said, rate=rate, codec=codec), LIMITS)
    assert heard[8000:24_000].mean() == pytest.approx(constant, abs=1e-3)


def test_silence_and_noise_under_it_are_refused(make_clip, tone, numbered):
    for level in (0.0, 5e-5):
        path = make_clip("clip.mkv", numbered(), level * 2 * tone(), codec="pcm_f32le")
        with pytest.raises(ClipError, match="is silent"):
            read_sound(path, LIMITS)
    audible = make_clip("clip.mkv", numbered(), 5e-4 * tone(), codec="pcm_f32le")
    assert np.abs(read_sound(audible, LIMITS)).max() == pytest.approx(2.5e-4, abs=1 / 32768)


def test_a_few_milliseconds_of_sound_are_refused(make_clip, tone, numbered):
    path = make_clip("clip.mkv", numbered(), tone(0.05), codec="pcm_f32le")
    with pytest.raises(ClipError, match=r"only 0\.050 s of sound"):
        read_sound(path, LIMITS)


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        (MemoryError(), "needs more memory than there is"),
        (cv2.error("OpenCV: no\nmore"), r"cannot be decoded \(error: OpenCV: no\)"),
        (ValueError("odd size"), r"cannot be decoded \(ValueError: odd size\)"),
        (ZeroDivisionError("by zero"), r"cannot be decoded \(ZeroDivisionError: by zero\)"),
        (av.error.InvalidDataError(1, "Invalid data"), r"is damaged or truncated \(Invalid data\)"),
    ],
)
def test_whatever_a_library_raises_over_a_frame_is_a_reason(make_clip, tone, numbered, monkeypatch, error, reason):
    def fail(*_):
        raise error

    path = make_clip(frames=numbered(), sound=tone())
    monkeypatch.setattr("mer_pnao.media.decode.upright_rgb", fail)
    with pytest.raises(ClipError, match=reason):
        decode_frames(path, 4, LIMITS)


def test_a_mistake_of_the_program_is_no_fault_of_the_clip(make_clip, tone, numbered, monkeypatch):
    def fail(*_):
        raise TypeError

    path = make_clip(frames=numbered(), sound=tone())
    monkeypatch.setattr("mer_pnao.media.decode.upright_rgb", fail)
    with pytest.raises(TypeError):
        decode_frames(path, 4, LIMITS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("max_seconds", 0.5), ("min_seconds", 0.0), ("max_pixels", 10), ("silence", -1.0), ("frame_side", 8)],
)
def test_limits_out_of_range_are_refused_by_name(key, value):
    with pytest.raises(ValueError, match=rf"{key} must lie in \["):
        MediaLimits(**{key: value})


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips of ../shared/data/media are absent")
def test_real_clips_decode_whole():
    path = REAL / "no_face_720p.mp4"  # six channels at 48 kHz
    waveform = read_sound(path, LIMITS)
    assert len(waveform) / 16_000 == pytest.approx(5.31, abs=0.05)
    assert decode_frames(path, 3, LIMITS).shape == (3, 720, 1280, 3)


def test_sound_that_moves_is_told_without_a_median(monkeypatch):
    medians = []
    median = np.median
    monkeypatch.setattr(np, "median", lambda values: medians.append(len(values)) or median(values))
    moving = (0.5 + 0.1 * np.random.default_rng(0).standard_normal(60 * 16_000)).astype(np.float32)
    assert not is_silent(moving, 1e-4)
    assert is_silent(np.full(16_000, 1e-5, np.float32), 1e-4)
    assert not medians
    assert is_silent(np.full(16_000, 0.5, np.float32), 1e-4)
    assert medians == [16_000]
