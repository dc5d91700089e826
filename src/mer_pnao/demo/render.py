"""The planned corpus as files: one mp4 a clip and labels.csv."""

import csv
from collections.abc import Callable
from functools import partial
from pathlib import Path

import av
import cv2
import numpy as np

from mer_pnao.demo.face import draw_frames
from mer_pnao.demo.motion import plan_motion
from mer_pnao.demo.plan import FRAME_RATE, ClipPlan, SyntheticConfig, plan_corpus
from mer_pnao.demo.portrait import SIZE, paint_portrait
from mer_pnao.demo.voice import SAMPLE_RATE, plan_prosody, synthesise
from mer_pnao.foundations.files import replacing
from mer_pnao.foundations.parallel import parallel_map


def render_corpus(
    config: SyntheticConfig, directory: Path, workers: int, progress: Callable[[int], None] = lambda _: None
) -> None:
    """Write `<name>.mp4` of every planned clip, then `labels.csv`, into `directory`, whose parent exists.

    Clips are H.264 (SIZE x SIZE, yuv420p, FRAME_RATE) and AAC (mono, 16 kHz). The bytes depend on `config`
    only, not on `workers`. No file has its final name before it is whole.
    """
    directory.mkdir(exist_ok=True)
    clips = plan_corpus(config)
    for _ in parallel_map(workers, progress)(partial(render_clip, directory=directory), clips):
        pass
    with replacing(directory / "labels.csv") as unfinished, unfinished.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(("name", "discrete", "valence", "speaker", "split"))
        for clip in clips:
            writer.writerow((clip.name, clip.label, f"{clip.valence:.2f}", clip.speaker.name, clip.split))


def render_clip(clip: ClipPlan, directory: Path) -> Path:
    """Write one clip as `<name>.mp4` and return its path."""
    cv2.setNumThreads(1)  # clips are rendered side by side
    rng = np.random.default_rng(clip.seed)
    prosody = plan_prosody(clip.duration, clip.speaker.timbre, clip.voice, rng)
    speech = synthesise(prosody, clip.duration, clip.speaker.timbre, clip.voice, rng)
    times = np.arange(clip.frames) / FRAME_RATE
    motion = plan_motion(times, prosody.mouth_opening(times), clip.face, rng)
    portrait = paint_portrait(clip.speaker.look, clip.face, rng)
    path = directory / f"{clip.name}.mp4"
    options = {"fflags": "+bitexact"}
    with replacing(path) as unfinished, av.open(str(unfinished), "w", format="mp4", options=options) as container:
        picture = container.add_stream("libx264", rate=FRAME_RATE)
        picture.width = picture.height = SIZE
        picture.pix_fmt = "yuv420p"
        # One thread: with more, x264 divides its work, and so its bytes, by the number of cores.
        picture.codec_context.thread_count = 1
        picture.options = {"preset": "superfast", "crf": "22", "threads": "1"}
        sound = container.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        sound.bit_rate = 48_000
        sound.options = {"aac_coder": "fast"}  # the default search takes longer than all the drawing
        for image in draw_frames(portrait, clip.speaker.look, clip.face, motion):
            planes = cv2.cvtColor(image, cv2.COLOR_BGR2YUV_I420)
            container.mux(picture.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(picture.encode())
        samples = av.AudioFrame.from_ndarray(speech[None], format="fltp", layout="mono")
        samples.sample_rate, samples.pts = SAMPLE_RATE, 0
        container.mux(sound.encode(samples))
        container.mux(sound.encode())
    return path
