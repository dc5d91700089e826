"""What a recording costs: windows that overlap, against the same seconds as separate clips that do not.

    python benchmarks/recording.py CLIPS [MODEL] [--seconds 120] [--window 4] [--hop 2] [--repeats 3] [--real-size]
    python benchmarks/recording.py CLIPS [MODEL] [--seconds 120] [--window 4] [--hop 2] --agreement

CLIPS is a folder of clips, which are put together to a recording of so many seconds and cut into clips of a window's
length, in the same codecs. MODEL is the folder of a model whose encoders are there (default: the best round of
enf_pnao, in the project's root, after `make run`); with --real-size it is an untrained network with HuBERT-large,
MA-Net and ResNet-50 of random weights, which see eight faces a clip. Both sides run in one process in turns, encoders
loaded. The agreement is that of each window with the clip cut out there, and, to compare with, that of this clip with
one cut out half a second later; the clips are encoded again, so a little of it is the codecs'.
"""

import argparse
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from fractions import Fraction
from itertools import cycle
from pathlib import Path

import av
import numpy as np
import psutil
import torch
from numpy.typing import NDArray

from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import SAMPLE_RATE, read_frames, read_sound
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.networks import RoundModel
from mer_pnao.outs.record import best_round_directory
from mer_pnao.predict import Prediction, Predictor, Refusal
from mer_pnao.recordings.timeline import timeline

RATE, FACES = 25, 8
LIMITS = MediaLimits()


def main(clips: Path, predictor: Predictor, asked: argparse.Namespace) -> None:
    """Print both sides' times, their ratio, and the memory held."""
    with tempfile.TemporaryDirectory() as folder:
        frames, sound = joined(list(clips_in(clips).values()), asked.seconds)
        recording = write(Path(folder) / "recording.mp4", frames, sound)
        length = round(asked.window * RATE)
        cuts = [
            write(Path(folder) / f"{at:06d}.mp4", frames[at : at + length], sound[at * 640 : (at + length) * 640])
            for at in range(0, len(frames) - length + 1, length)
        ]
        if asked.agreement:
            agreement(predictor, recording, frames, sound, asked)
            return
        del frames, sound
        held: list[int] = []

        def windows() -> None:
            answers = timeline(predictor, recording, asked.window, asked.hop)
            held.extend(psutil.Process().memory_info().rss // 2**20 for _ in answers)

        def separate() -> None:
            for _ in predictor.predict(cuts):
                pass

        separate(), windows()  # libraries prepare what shapes they meet
        answered = len(held)
        clocks = {"wall clock": time.perf_counter, "both cores": time.process_time}  # the latter stands a busy machine
        taken: dict[tuple[str, Callable[[], None]], list[float]] = {}
        for _ in range(asked.repeats):  # in turns, so that a busy moment hits both
            for side in (separate, windows):
                started = {name: clock() for name, clock in clocks.items()}
                side()
                for name, clock in clocks.items():
                    taken.setdefault((name, side), []).append(clock() - started[name])
        print(f"{asked.seconds} s: {len(cuts)} clips and {answered} windows")
        for name in clocks:
            apart, over = taken[name, separate], taken[name, windows]
            ratio = statistics.median(over) / statistics.median(apart)
            print(f"{name}: clips {rounded(apart)} s, windows {rounded(over)} s, ratio of medians {ratio:.2f}")
        fifth = held[: answered // 5]
        print(f"memory: at most {max(fifth)} MiB in the first fifth of the recording, {max(held)} MiB ever")


def agreement(
    predictor: Predictor,
    recording: Path,
    frames: Sequence[NDArray[np.uint8]],
    sound: NDArray[np.float32],
    asked: argparse.Namespace,
) -> None:
    """Print how windows, apart by whether they lie in one stretch or two, agree with their clips."""

    def cut(seconds: float) -> Prediction | Refusal:
        at, length = round(seconds * RATE), round(asked.window * RATE)
        own = frames[at : at + length], sound[at * 640 : (at + length) * 640]
        return next(predictor.predict([write(recording.with_name("cut.mp4"), *own)]))

    pairs: dict[str, list[tuple[Prediction | Refusal, Prediction | Refusal]]] = {}
    for each in timeline(predictor, recording, asked.window, asked.hop):
        if each.end + 0.5 <= asked.seconds:
            clip = cut(each.start)
            kind = "windows in one stretch" if each.start % asked.window == 0 else "windows across two stretches"
            pairs.setdefault(kind, []).append((each.answer, clip))
            pairs.setdefault("clips half a second later", []).append((cut(each.start + 0.5), clip))
    for kind, both in pairs.items():
        known = [(a, b) for a, b in both if isinstance(a, Prediction) and isinstance(b, Prediction)]
        same = statistics.mean(a.emotion == b.emotion for a, b in known)
        largest = [max(abs(a.posteriors[label] - b.posteriors[label]) for label in a.posteriors) for a, b in known]
        print(
            f"{len(known)} {kind}: {same:.0%} keep the clip's emotion, largest difference of a posterior "
            f"{statistics.median(largest):.2f} in the median, {max(largest):.2f} at most"
        )


def rounded(times: Sequence[float]) -> str:
    """All of them, in order of size."""
    return ", ".join(f"{each:.1f}" for each in sorted(times))


def joined(clips: Sequence[Path], seconds: int) -> tuple[list[NDArray[np.uint8]], NDArray[np.float32]]:
    """So many seconds of frames, all of the first one's size, and of sound, from the clips one after another."""
    frames: list[NDArray[np.uint8]] = []
    sounds = []
    for clip in cycle(clips):
        shown = [
            frame for frame in read_frames(clip, range(10**6), LIMITS) if not frames or frame.shape == frames[0].shape
        ]
        frames += shown
        sounds.append(np.resize(read_sound(clip, LIMITS), len(shown) * SAMPLE_RATE // RATE))
        if len(frames) >= seconds * RATE:
            return frames[: seconds * RATE], np.concatenate(sounds)[: seconds * SAMPLE_RATE]
    raise AssertionError


def write(path: Path, frames: Sequence[NDArray[np.uint8]], sound: NDArray[np.float32]) -> Path:
    """H.264 and AAC in MP4."""
    block = SAMPLE_RATE // RATE
    with av.open(str(path), "w") as out:
        video, audio = out.add_stream("libx264", rate=RATE), out.add_stream("aac", rate=SAMPLE_RATE, layout="mono")
        video.height, video.width = (side // 2 * 2 for side in frames[0].shape[:2])
        video.pix_fmt, video.options = "yuv420p", {"preset": "veryfast"}
        for number, image in enumerate(frames):
            picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(image), format="rgb24")
            picture.pts, picture.time_base = number, Fraction(1, RATE)
            out.mux(video.encode(picture))
            part = np.ascontiguousarray(sound[None, number * block : (number + 1) * block])
            heard = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            heard.sample_rate, heard.pts = SAMPLE_RATE, number * block
            out.mux(audio.encode(heard))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path


def real_size(folder: Path) -> Predictor:
    """An untrained network whose encoders have the size of published ones."""
    from extraction import write_checkpoints  # beside this file

    write_checkpoints(folder)
    configs = {
        "hubert": EncoderConfig("hubert", "hubert", layers=(18, 19, 20), precision="fp32", batch=2),
        "manet": EncoderConfig("manet", "manet.safetensors", precision="fp32", batch=2, frames=FACES),
        "resnet": EncoderConfig("resnet", "resnet.safetensors", precision="fp32", batch=2, frames=FACES),
    }
    encoders = {name: build_encoder(name, config, folder) for name, config in configs.items()}
    widths = {key: width for encoder in encoders.values() for key, width in encoder.sets.items()}
    sound = tuple(key for key in widths if key.startswith("hubert"))
    labels = ("neutral", "angry", "happy")
    blueprint = Blueprint(widths, sound, ("manet", "resnet"), len(labels), "entropy", NetworkConfig(64, 32))
    torch.manual_seed(0)
    return Predictor(RoundModel("enf_pnao", 0, blueprint, labels, (EmotionNetwork(blueprint).eval(),)), "", encoders)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of video clips")
    parser.add_argument("model", type=Path, nargs="?", help="folder of a round")
    parser.add_argument("--seconds", type=int, default=120)
    parser.add_argument("--window", type=float, default=4.0)
    parser.add_argument("--hop", type=float, default=2.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--real-size", action="store_true")
    parser.add_argument("--agreement", action="store_true", help="of windows with the clips cut out there")
    options = parser.parse_args()
    sys.path.insert(0, str(Path(__file__).parent))
    with tempfile.TemporaryDirectory() as place:
        if options.real_size:
            model = real_size(Path(place))
        else:
            model = Predictor.load(options.model or best_round_directory(Path("models/enf_pnao")))
        main(options.clips, model, options)
