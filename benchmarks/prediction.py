"""What a prediction costs: `mer predict` against the extraction of the same clips, and a warm service's first answer.

    python benchmarks/prediction.py CLIPS [MODEL]
    python benchmarks/prediction.py CLIPS --parts     # where the time of one answer goes, at real size

CLIPS is a folder of clips, MODEL the folder of a model whose encoders are there (default: the best round of enf_pnao).
Run it in the project's root, after `make run`, on a machine that does nothing else. Both sides of the ratio decode,
load the encoders and encode in one process; predicting decides on top, with every fold's network.

The parts are those of a service's answer for the first clip, one after another on all cores: decoding, once for each
encoder and once for all of them as the service does; HuBERT-large, MA-Net and ResNet-50 with random weights and the
frames of `profiles/mer2023.yaml`; and five networks of MER 2023's size.
"""

import argparse
import json
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from urllib.request import Request, urlopen

import av
import extraction as real  # the benchmarks beside this one
import latency
import torch

from mer_pnao.corpus.readers.labelled_folder import clips_in
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.clip_reader import ClipReader, SharedReader
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip
from mer_pnao.foundations.files import read_json
from mer_pnao.outs.names import ENCODERS
from mer_pnao.outs.record import best_round_directory
from mer_pnao.params.profile import load_params
from mer_pnao.predict import Predictor

REPEATS = 5
FRAMES = 8  # of a clip, as `profiles/mer2023.yaml` has it


def main(folder: Path, model: Path) -> None:
    """Print the costs."""
    clips = clips_in(folder)
    made = set(read_json(model / ENCODERS))

    def extraction() -> None:
        params = load_params()
        with tempfile.TemporaryDirectory() as place:
            for name in made:
                encoder = build_encoder(name, params.encoders[name], Path(), params.media)
                wanted = [Clip(name, path) for name, path in clips.items()]
                extract(wanted, encoder, Path(place) / name, Path(place) / "work", max_skipped=1.0)

    def prediction() -> None:
        for _ in Predictor.load(model).predict(clips.values()):
            pass

    extraction(), prediction()  # imports, and the file cache
    extracting, predicting = [], []
    for _ in range(REPEATS):  # in turns, so that a busy moment hits both
        extracting.append(seconds_of(extraction))
        predicting.append(seconds_of(prediction))
    both = statistics.median(extracting), statistics.median(predicting)
    print(f"{len(clips)} clips: extraction {both[0]:.2f} s, prediction {both[1]:.2f} s, ratio {both[1] / both[0]:.2f}")
    first, later = service(model, next(iter(clips.values())))
    print(f"service: first answer {first:.0f} ms, later ones {later:.0f} ms (median of 10)")


def parts(clip: Path) -> None:
    """Print the milliseconds of each step of one answer, medians of turns."""
    with tempfile.TemporaryDirectory() as place:
        real.write_checkpoints(Path(place))
        asked = {name: replace(real.configs("fp32", 0.0)[name], frames=FRAMES) for name in real.ENCODERS}
        encoders = {name: build_encoder(name, config, Path(place), real.LIMITS) for name, config in asked.items()}
    plans = {name: encoder.reader.plan for name, encoder in encoders.items() if encoder.reader}
    shared, alone = SharedReader(plans), [ClipReader(plan) for plan in plans.values()]
    network, contents = latency.of_real_size()[0], shared(clip)
    vectors = {name: torch.randn(1, width) for name, width in network.blueprint.widths.items()}
    steps = {
        "decoding, for each encoder": lambda: [reader(clip) for reader in alone],
        "decoding, once for all": lambda: shared(clip),
        **{name: partial(encoders[name].encode, [contents[name]]) for name in encoders},
        "five networks": lambda: network.decide(vectors),
        **{f"{name}, four clips at once": partial(encoders[name].encode, [contents[name]] * 4) for name in encoders},
    }
    for step in steps.values():  # the first pass costs more
        step()
    turns = [[seconds_of(step) for step in steps.values()] for _ in range(REPEATS)]
    with av.open(str(clip)) as container:
        track, length = container.streams.video[0], (container.duration or 0) / av.time_base
        print(f"{clip.name}: {length:.2f} s, {track.width}x{track.height}, {len(contents['manet'].content)} faces")
    for name, each in zip(steps, zip(*turns, strict=True), strict=True):
        print(f"{1000 * statistics.median(each):8.1f} ms  {name}")


def seconds_of(work: Callable[[], None]) -> float:
    """Wall-clock time."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def service(model: Path, clip: Path) -> tuple[float, float]:
    """Milliseconds to the first answer of a service that has started, and the median of ten further ones."""
    command = [sys.executable, "-m", "mer_pnao.cli", "serve", "--port", "0", "--model", str(model)]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        assert process.stderr is not None
        url = re.search(r"http://\S+:\d+", process.stderr.readline())
        assert url is not None
        with urlopen(f"{url[0]}/health"):  # answers when the model is loaded
            pass
        head = b'--clip\r\nContent-Disposition: form-data; name="clip"; filename="clip.mp4"\r\n\r\n'
        body = head + clip.read_bytes() + b"\r\n--clip--\r\n"
        kind = {"Content-Type": "multipart/form-data; boundary=clip"}

        def ask() -> None:
            with urlopen(Request(f"{url[0]}/predict", body, kind)) as answer:
                assert json.load(answer)["emotion"]

        times = [1000 * seconds_of(ask) for _ in range(11)]
    finally:
        process.terminate()
        process.wait()
    return times[0], statistics.median(times[1:])


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of video clips")
    parser.add_argument("model", type=Path, nargs="?", help="folder of a round")
    parser.add_argument("--parts", action="store_true", help="where the time of one answer goes")
    asked = parser.parse_args()
    if asked.parts:
        parts(next(iter(clips_in(asked.clips).values())))
    else:
        main(asked.clips, asked.model or best_round_directory(Path("models/enf_pnao")))
