"""How fast features are extracted, against the way of the official baseline, carried here as a plain reference.

    python benchmarks/extraction.py CLIPS [--only manet] [--most 6]        # both ways, ratio, how far vectors differ
    python benchmarks/extraction.py CLIPS --growth 30 100 300 [--rate 2]   # time a clip and peak memory over many clips
    python benchmarks/extraction.py CLIPS --growth 100 --engine ray        # the same on local workers of Ray
    python benchmarks/extraction.py CLIPS --parts [--most 6]               # where the time goes, also of --only clip
    python benchmarks/extraction.py CLIPS --runtimes [--repeats 9]  # MA-Net and ResNet-50 in torch and in ONNX Runtime

The encoders have the real sizes and random weights: HuBERT-large (layers 18 to 20), MA-Net and ResNet-50, the faces at
25 frames a second. The reference takes one file at a time, in float32, with all cores for each operation: all 24 layers
of HuBERT, and all frames of a clip in one batch. Both ways start from the video files and end with files of vectors;
loading the encoder is not counted. Growth repeats the clips under other names, in a process of its own for each number,
then kills the largest extraction at random moments, starts it again each time, and compares the bytes. The time on Ray
includes its start; the peak memory is that of the largest process. The runtimes take the faces of the first clip in
turns, on one thread.
"""

import argparse
import contextlib
import hashlib
import json
import platform
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.table import Table
from safetensors.torch import save_file
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    Dinov2Config,
    Dinov2Model,
    HubertConfig,
    HubertModel,
)

from mer_pnao.encoders import manet, resnet
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.engine import on_this_machine
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.ray_engine import on_ray
from mer_pnao.extraction.shards import Clip
from mer_pnao.features.sets import load_sets
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.foundations.placement import number_type
from mer_pnao.foundations.precision import Precision
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.decode import choose_frames, read_frames, read_sound
from mer_pnao.media.face_reader import FaceReader
from mer_pnao.media.faces import HAAR, cut_along, follow_face

ENCODERS = ("hubert", "manet", "resnet")
IMAGE_MODELS = ("clip", "dinov2")  # CLIP ViT-L/14 and DINOv2-large, of which there is no reference here
LAYERS, LIMITS = (18, 19, 20), MediaLimits()
SHARD, STARTING = 16, 12.0  # clips; seconds in which an extraction has loaded its encoder
Vectors = dict[str, NDArray[np.float32]]  # set -> (clips, width)
Way = Callable[[Sequence[Path], Path], Vectors]  # from clips and a folder for the results


def write_checkpoints(folder: Path) -> None:
    """Encoders of the real size with random weights, as `transformers` and the authors lay them out."""
    torch.manual_seed(0)
    config = HubertConfig(
        hidden_size=1024,
        num_hidden_layers=24,
        num_attention_heads=16,
        intermediate_size=4096,
        feat_extract_norm="layer",
        do_stable_layer_norm=True,
        conv_bias=True,
    )
    config.save_pretrained(folder / "hubert")
    save_file(HubertModel(config).state_dict(), folder / "hubert/model.safetensors", metadata={"format": "pt"})
    (folder / "hubert/preprocessor_config.json").write_text(json.dumps({"do_normalize": True}))
    write_face_networks(folder)


def write_face_networks(folder: Path) -> None:
    """Those of the encoders that see faces."""
    for name, network in (("manet", manet.MANet()), ("resnet", resnet.ResNetFERPlus())):
        save_file(network.state_dict(), folder / f"{name}.safetensors")


def write_image_model(name: str, folder: Path) -> None:
    """CLIP's image tower or DINOv2 in the published size, with random weights, as transformers lays them out."""
    sizes = {"hidden_size": 1024, "num_hidden_layers": 24, "num_attention_heads": 16, "patch_size": 14}
    if name == "clip":
        config = CLIPVisionConfig(**sizes, intermediate_size=4096, projection_dim=768)
        CLIPVisionModelWithProjection(config).save_pretrained(folder)
        whole = {"model_type": "clip", "vision_config": config.to_dict(), "projection_dim": 768}
        (folder / "config.json").write_text(json.dumps(whole))
    else:
        Dinov2Model(Dinov2Config(**sizes, image_size=518)).save_pretrained(folder)
    processor = {"image_processor_type": "CLIPImageProcessor", "size": {"shortest_edge": 224}, "crop_size": 224}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))


def configs(precision: Precision, rate: float) -> dict[str, EncoderConfig]:
    """The encoders as this project runs them."""
    batch = 32 if torch.cuda.is_available() else 2  # more only costs memory on a CPU
    faces = {"precision": precision, "batch": batch, "frames": 100_000, "frames_per_second": rate}
    return {
        "hubert": EncoderConfig("hubert", "hubert", layers=LAYERS, precision=precision, batch=batch),
        "manet": EncoderConfig("manet", "manet.safetensors", **faces),
        "resnet": EncoderConfig("resnet", "resnet.safetensors", **faces),
        **{name: EncoderConfig("image", name, **faces) for name in IMAGE_MODELS},
    }


def plain_hubert(checkpoints: Path) -> Way:
    """All layers of one clip after another."""
    model = HubertModel.from_pretrained(checkpoints / "hubert").eval()

    def run(clips: Sequence[Path], out: Path) -> Vectors:
        rows: dict[str, list[NDArray[np.float32]]] = {f"hubert-{layer}": [] for layer in LAYERS}
        for clip in clips:
            waveform = torch.from_numpy(read_sound(clip, LIMITS))
            waveform = (waveform - waveform.mean()) / torch.sqrt(waveform.var(correction=0) + 1e-7)
            with torch.no_grad():
                states = model(waveform[None], output_hidden_states=True).hidden_states
            for layer in LAYERS:
                vector = states[layer][0].mean(dim=0).numpy()
                rows[f"hubert-{layer}"].append(vector)
                save(out / f"hubert-{layer}" / f"{clip.stem}.npy", vector)
        return {name: np.stack(of_set) for name, of_set in rows.items()}

    return run


def plain_faces(name: str, checkpoints: Path, rate: float) -> Way:
    """All frames of one clip in one batch, one clip after another."""
    path = checkpoints / f"{name}.safetensors"
    network = manet.load_manet(path) if name == "manet" else resnet.load_resnet(path)
    prepare = manet.preprocess if name == "manet" else resnet.preprocess
    side = manet.IMAGE_SIZE if name == "manet" else resnet.SHORT_SIDE
    read = FaceReader(LIMITS, most_held=2**40, most_crops=2**40)

    def run(clips: Sequence[Path], out: Path) -> Vectors:
        rows = []
        for clip in clips:
            crops = read(clip, 100_000, side, per_second=rate).crops
            with torch.no_grad():
                rows.append(network.embed(prepare(crops)).mean(dim=0).numpy())
            save(out / name / f"{clip.stem}.npy", rows[-1])
        return {name: np.stack(rows)}

    return run


def plain(name: str, checkpoints: Path, rate: float) -> Way:
    """The reference of an encoder, loaded."""
    return plain_hubert(checkpoints) if name == "hubert" else plain_faces(name, checkpoints, rate)


def save(path: Path, vector: NDArray[np.float32]) -> None:
    """One file a clip, as the baseline has it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, vector)


def ours(name: str, checkpoints: Path, precision: Precision, rate: float) -> Way:
    """As the stage `features` does it, with the encoder loaded."""
    encoder = build_encoder(name, configs(precision, rate)[name], checkpoints, LIMITS)

    def run(clips: Sequence[Path], out: Path) -> Vectors:
        extract([Clip(clip.stem, clip) for clip in clips], encoder, out / name, out / "work", max_skipped=0)
        return {key: each.vectors for key, each in load_sets(out, list(encoder.sets)).items()}

    return run


def difference(vectors: Vectors, exact: Vectors) -> tuple[float, float]:
    """The largest relative L2 distance and the smallest cosine of a clip's vector, over all sets."""
    distances, cosines = [], []
    for name, reference in exact.items():
        own = vectors[name].astype(np.float64)
        reference = reference.astype(np.float64)
        lengths = np.linalg.norm(reference, axis=1)
        distances.append((np.linalg.norm(own - reference, axis=1) / lengths).max())
        cosines.append(((own * reference).sum(axis=1) / lengths / np.linalg.norm(own, axis=1)).min())
    return max(distances), min(cosines)


def compare(clips: Sequence[Path], names: Sequence[str], repeats: int, rate: float, console: Console) -> None:
    """Both ways in turns, and the ratio of the medians."""
    table = Table("encoder", "way", "s a clip, median", "all", "ratio", "largest relative L2", "smallest cosine")
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        write_checkpoints(folder)
        for name in names:
            ways = {"reference, fp32": plain(name, folder, rate)}
            ways |= {f"this project, {precision}": ours(name, folder, precision, rate) for precision in precisions()}
            times: dict[str, list[float]] = {way: [] for way in ways}
            found: dict[str, Vectors] = {}
            for way, run in ways.items():
                run(clips[:2], folder / "warm" / way)  # the first call of a library is none to be measured
            for repeat in range(repeats):
                for way, run in ways.items():
                    out = folder / f"{way} {repeat}"
                    start = time.perf_counter()
                    found[way] = run(clips, out)
                    times[way].append((time.perf_counter() - start) / len(clips))
            exact, *_ = medians = [statistics.median(each) for each in times.values()]
            for (way, each), median in zip(times.items(), medians, strict=True):
                distance, cosine = difference(found[way], found["reference, fp32"])
                shown, ratio = " ".join(f"{seconds:.3f}" for seconds in each), f"{exact / median:.2f}"
                table.add_row(name, way, f"{median:.3f}", shown, ratio, f"{distance:.1e}", f"{cosine:.6f}")
    console.print(table)


def parts(clips: Sequence[Path], names: Sequence[str], rate: float, console: Console) -> None:
    """Seconds a clip of each step, one after another in one thread."""
    torch.set_num_threads(1)
    table = Table("encoder", "decoding", "faces", "encoder", title="s a clip, one thread")
    with tempfile.TemporaryDirectory() as place:
        write_checkpoints(Path(place))
        for name in names:
            if name in IMAGE_MODELS:
                write_image_model(name, Path(place) / name)
            encoder = build_encoder(name, configs("auto", rate)[name], Path(place), LIMITS)
            spent = np.zeros(3)
            encoder.encode([encoder.reader(clips[0])])
            for clip in clips:
                marks = [time.perf_counter()]
                if name == "hubert":
                    read_sound(clip, LIMITS)
                    marks += [time.perf_counter()] * 2
                else:
                    frames = list(read_frames(clip, choose_frames(clip, 100_000, LIMITS, rate), LIMITS))
                    marks.append(time.perf_counter())
                    list(cut_along(frames, follow_face(frames, HAAR), manet.IMAGE_SIZE))
                    marks.append(time.perf_counter())
                content = encoder.reader(clip)
                start = time.perf_counter()
                encoder.encode([content])
                spent += [*np.diff(marks), time.perf_counter() - start]
            table.add_row(name, *(f"{seconds:.3f}" for seconds in spent / len(clips)))
    console.print(table)


def runtimes(clip: Path, names: Sequence[str], repeats: int, console: Console) -> None:
    """Seconds an image of the same network in torch and in ONNX Runtime, to load it, and how far the vectors differ."""
    torch.set_num_threads(1)
    for name in (name for name in names if name in ("manet", "resnet")):
        with tempfile.TemporaryDirectory() as place:
            checkpoints = Path(place)
            torch.manual_seed(0)
            write_face_networks(checkpoints)
            config = EncoderConfig(name, f"{name}.safetensors", precision="fp32")
            ways = {"torch, fp32": config, "ONNX Runtime, fp32": replace(config, runtime="onnx")}
            if "bf16" in precisions():
                ways["torch, bf16"] = replace(config, precision="bf16")
            loading, encoders = dict[str, float](), {}
            for way, each in ways.items():
                start = time.process_time()
                encoders[way] = build_encoder(name, each, checkpoints, LIMITS)
                loading[way] = time.process_time() - start
        clips = [encoders["torch, fp32"].reader(clip)]
        times: dict[str, list[float]] = {way: [] for way in ways}
        found = {way: encoder.encode(clips) for way, encoder in encoders.items()}
        for _ in range(repeats):
            for way, encoder in encoders.items():
                start = time.process_time()  # of one thread, whatever else runs
                encoder.encode(clips)
                times[way].append((time.process_time() - start) / len(clips[0].content))
        exact, *_ = medians = [statistics.median(each) for each in times.values()]
        headings = ("way", "to load, s", "s an image, median", "least", "ratio", "largest relative L2")
        table = Table(*headings, title=f"{name}, one thread")
        for (way, each), median in zip(times.items(), medians, strict=True):
            distance, _ = difference(found[way], found["torch, fp32"])
            numbers = (f"{loading[way]:.1f}", f"{median:.4f}", f"{min(each):.4f}", f"{exact / median:.2f}")
            table.add_row(way, *numbers, f"{distance:.1e}")
        console.print(table)


def precisions() -> list[Precision]:
    """Those worth measuring here."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return ["fp32", "bf16"] if number_type("auto", device) == torch.bfloat16 else ["fp32"]


def extract_repeated(
    clips: Sequence[Path], name: str, checkpoints: Path, out: Path, count: int, rate: float, on: str
) -> None:
    """Extract so many clips, the given ones again and again, and print seconds and peak memory as JSON."""
    build = partial(build_encoder, name, configs("auto", rate)[name], checkpoints.resolve(), LIMITS)
    encoder = build()
    engine = on_ray(build, encoder) if on == "ray" else on_this_machine(encoder, usable_cores())
    many = [Clip(f"clip-{number:06d}", clips[number % len(clips)]) for number in range(count)]
    start = time.perf_counter()
    extract(many, encoder, out / name, out / "work", SHARD, engine=engine)
    seconds = time.perf_counter() - start
    peak = max(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    print(json.dumps({"seconds": seconds, "mb": peak / 1024}))


def growth(call: Sequence[str], names: Sequence[str], counts: Sequence[int], kills: int, console: Console) -> None:
    """Time a clip and peak memory over numbers of clips; then kills, after which the bytes must be the same."""
    table = Table("encoder", "clips", "s a clip", "peak memory, MB")
    with tempfile.TemporaryDirectory() as place:
        checkpoints = Path(place) / "checkpoints"
        write_checkpoints(checkpoints)
        for name in names:
            for count in counts:
                out = Path(place) / f"{name}-{count}"
                told = json.loads(subprocess.check_output([*call, *one(name, checkpoints, out, count)]))
                table.add_row(name, str(count), f"{told['seconds'] / count:.3f}", f"{told['mb']:.0f}")
            killed = Path(place) / f"{name}-killed"
            again = [*call, *one(name, checkpoints, killed, count)]
            lost = killed_and_started_again(again, killed, kills, told["seconds"])
            same = digests(killed / name) == digests(out / name)
            console.print(
                f"{name}: {len(lost)} kills of {count} clips in shards of {SHARD}; clips lost by each: {lost}; "
                f"the bytes are {'the same' if same else 'NOT the same'}"
            )
            if not same:
                raise SystemExit(1)
    console.print(table)


def one(name: str, checkpoints: Path, out: Path, count: int) -> list[str]:
    """The arguments of one extraction."""
    return ["--only", name, "--one", str(checkpoints), str(out), str(count)]


def killed_and_started_again(extraction: Sequence[str], out: Path, kills: int, seconds: float) -> list[int]:
    """Kill at random moments, then let it end; returns how many clips of a finished shard each kill took: none."""
    moments = np.random.default_rng(0).uniform(0.1, 0.9, kills) * seconds / max(1, kills)
    lost = []
    for moment in moments:
        process = subprocess.Popen(extraction, stdout=subprocess.DEVNULL)
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(STARTING + moment)
        before = finished(out)
        process.kill()
        process.wait()
        lost.append(SHARD * len(before - finished(out)))
    subprocess.run(extraction, check=True, stdout=subprocess.DEVNULL)
    return lost


def finished(out: Path) -> set[str]:
    """The shards that are there."""
    return {path.name for path in (out / "work/features").glob("*/part-*")}


def digests(folder: Path) -> dict[str, str]:
    """Every file's content."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file()]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def main() -> None:
    """Say what it runs on, and measure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("clips", type=Path, help="folder of video clips")
    parser.add_argument("--only", choices=(*ENCODERS, *IMAGE_MODELS))
    parser.add_argument("--most", type=int, help="take so many clips only")
    parser.add_argument("--rate", type=float, default=25.0, help="of frames a second")
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--growth", type=int, nargs="+", metavar="CLIPS")
    parser.add_argument("--kills", type=int, default=3)
    parser.add_argument("--engine", choices=("local", "ray"), default="local", help="of --growth")
    parser.add_argument("--parts", action="store_true")
    parser.add_argument("--runtimes", action="store_true")
    parser.add_argument("--one", nargs=3, help=argparse.SUPPRESS)  # checkpoints, out, clips: what growth calls
    asked = parser.parse_args()
    clips = sorted(path for path in asked.clips.iterdir() if path.suffix in (".mp4", ".avi", ".mkv", ".flv"))[
        : asked.most
    ]
    names = [asked.only] if asked.only else list(ENCODERS)
    if asked.one:
        checkpoints, out, count = asked.one
        extract_repeated(clips, asked.only, Path(checkpoints), Path(out), int(count), asked.rate, asked.engine)
        return
    console = Console()
    where = torch.cuda.get_device_name() if torch.cuda.is_available() else platform.machine()
    able = torch.cpu.get_capabilities()
    does = [name for name in ("avx2", "avx512_f", "avx512_bf16", "amx_bf16") if able.get(name)]
    console.print(f"{where}, {usable_cores()} cores ({', '.join(does)}), torch {torch.__version__}; {len(clips)} clips")
    if asked.parts:
        parts(clips, names, asked.rate, console)
    elif asked.runtimes:
        runtimes(clips[0], names, asked.repeats, console)
    elif asked.growth:
        call = [sys.executable, __file__, str(asked.clips), "--rate", str(asked.rate), "--engine", asked.engine]
        growth(call, names, asked.growth, asked.kills, console)
    else:
        compare(clips, names, asked.repeats, asked.rate, console)


if __name__ == "__main__":
    main()
