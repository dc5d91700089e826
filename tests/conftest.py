"""A small separable corpus that networks can learn in a second, and the network written out in numpy."""

import gc
import signal
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.cli import main
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.params.profile import Params, load_params
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples

torch.set_num_threads(1)
gc.set_threshold(50_000, 20, 50)  # a tenth of the time went into looking through the libraries' objects again and again
# A shell starts its background jobs with Ctrl-C ignored, and so would the processes be that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)
WIDTHS = {"a": 12, "b": 10, "v": 8}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the files of the most slow tests: of two workers, none may be left alone with them at the end.

    Among the last of these is what needs the first run that another worker is busy with.
    """
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    waits = Path(__file__).parent / "end_to_end/test_changes.py"
    items.sort(key=lambda item: -0.5 if item.path == waits else -slow[item.path])


@pytest.fixture(scope="session")
def with_a_track_twice() -> Callable[..., Path]:
    """Writes a clip anew, with the same sound or picture in two tracks."""
    import av

    def copied(clip: Path, copy: Path, kind: str = "audio") -> Path:
        with av.open(str(clip)) as source, av.open(str(copy), "w") as target:
            kept = [*source.streams, source.streams.get({kind: 0})[0]]
            streams = [(stream, target.add_stream_from_template(stream)) for stream in kept]
            for stream, written in streams:
                source.seek(0)
                for packet in source.demux(stream):
                    if packet.dts is not None:
                        packet.stream = written
                        target.mux(packet)
        return copy

    return copied


@pytest.fixture(scope="session", autouse=True)
def no_settings() -> Iterator[None]:
    """Settings of whoever runs the tests do not count."""
    with pytest.MonkeyPatch.context() as patch:
        for name in ("MLFLOW_TRACKING_URI", "MER_TRACKING", "MER_SEARCH_STORAGE", "DVC_ROOT"):
            patch.delenv(name, raising=False)
        yield


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo's checkpoints."""
    from mer_pnao.demo.checkpoints import write_demo_checkpoints  # and transformers, which take seconds to import

    folder = tmp_path_factory.mktemp("demo")
    write_demo_checkpoints(folder, seed=7)
    return folder


@pytest.fixture(scope="session")
def bert(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small BERT as published ones come: with the head of pre-training, whose keys bring the prefix `bert.`."""
    from transformers import BertConfig, BertForMaskedLM, BertTokenizer

    folder = tmp_path_factory.mktemp("bert")
    words = ["i", "am", "so", "happy", "sad", "##ly", "to", "##day", "我", "很", "高", "兴", "!"]
    vocabulary = folder / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", *words]), encoding="utf-8")
    torch.manual_seed(0)
    sizes = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}
    BertForMaskedLM(BertConfig(vocab_size=5 + len(words), max_position_embeddings=12, **sizes)).save_pretrained(folder)
    BertTokenizer(str(vocabulary), model_max_length=12).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def examples() -> Examples:
    """120 clips of 3 classes: class means plus noise in every set; valence follows the class; 12 speakers."""
    rng, clips, classes = np.random.default_rng(0), 120, 3
    means = {name: np.random.default_rng(7).standard_normal((classes, width)) for name, width in WIDTHS.items()}
    emotion = np.arange(clips) % classes
    features = {
        name: (mean[emotion] + 1.2 * rng.standard_normal((clips, mean.shape[1]))).astype(np.float32)
        for name, mean in means.items()
    }
    valence = (emotion - 1 + 0.3 * rng.standard_normal(clips)).astype(np.float32)
    names = tuple(f"clip{i:03d}" for i in range(clips))
    speakers = tuple(f"speaker{(i // classes) % 12:02d}" for i in range(clips))
    return Examples(names, features, emotion, valence, speakers, classes)


@pytest.fixture
def blueprint() -> Blueprint:
    return Blueprint(WIDTHS, ("a", "b"), ("v",), 3, "entropy", NetworkConfig(24, 12, 0.2))


@pytest.fixture(scope="session")
def small_profile() -> Params:
    """The demo's profile for this corpus and for networks that train in a moment."""
    demo = load_params(Path(__file__).parents[1] / "profiles/demo.yaml")
    return demo.model_copy(
        update={
            "corpus": replace(demo.corpus, labels=("angry", "neutral", "happy")),
            "features": replace(demo.features, acoustic=("a", "b"), visual=("v",)),
            "network": NetworkConfig(16, 8),
            "training": TrainingConfig(epochs=3, batch=16, learning_rate=5e-3),
        }
    )


Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def mer(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Mer:
    """Call `mer` in this process and the working directory; returns exit code, stdout and stderr."""

    def call(*arguments: str) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["mer", *arguments])
        with pytest.raises(SystemExit) as stopped:
            main()
        captured = capsys.readouterr()
        return int(stopped.value.code or 0), captured.out, captured.err

    return call


Arrays = Mapping[str, np.ndarray]


@pytest.fixture
def plain_forward() -> Callable[[Blueprint, Arrays, Arrays], dict[str, np.ndarray]]:
    """The network's whole prediction from a dense state, in plain numpy: an oracle that shares no code with it."""
    return _plain_forward


def _plain_forward(blueprint: Blueprint, state: Arrays, features: Arrays) -> dict[str, np.ndarray]:
    """AFG, eq. 1-4 and the decision fusion (eq. 5-7, attention or the mean), as `docs/paper.md` rules them."""

    def linear(name: str, value: np.ndarray) -> np.ndarray:
        return value @ state[f"{name}.weight"].T + state.get(f"{name}.bias", 0.0)

    def relu(value: np.ndarray) -> np.ndarray:
        return np.where(value > 0, value, 0.0)

    def softmax(value: np.ndarray) -> np.ndarray:
        powers = np.exp(value - value.max(axis=1, keepdims=True))
        return powers / powers.sum(axis=1, keepdims=True)

    x = {
        name: (values - state[f"zscore.{name}.mean"]) / state[f"zscore.{name}.std"] for name, values in features.items()
    }
    posteriors, valences, fused_vectors = [], [], []
    temperature = blueprint.config.temperature
    for acoustic in blueprint.acoustic:
        gathering, decoder = f"branches.{acoustic}.gathering", f"branches.{acoustic}.decoder"
        h = []
        others = [name for name in blueprint.acoustic if name != acoustic] if blueprint.gathered == "all" else []
        for name in (acoustic, *others, *blueprint.visual):
            mlp = f"{gathering}.modalities.{name}"
            last = linear(f"{mlp}.outer", relu(linear(f"{mlp}.inner", x[name])))
            h.append(relu(last) if blueprint.config.output == "relu" else last)
        together = np.concatenate(h, axis=1)
        if blueprint.config.scorer == "tanh":
            scores = [linear(f"{gathering}.scorer.score", np.tanh(linear(f"{gathering}.scorer.project", m))) for m in h]
            alpha = softmax(np.concatenate(scores, axis=1) / temperature)
        elif blueprint.config.scorer == "linear":
            alpha = softmax(linear(f"{gathering}.scorer.score", together) / temperature)
        elif blueprint.config.scorer == "mean":
            alpha = np.full((len(together), len(h)), 1 / len(h))
        else:  # the official baseline's perceptron, without a softmax
            inner = relu(linear(f"{gathering}.scorer.inner", together))
            alpha = linear(f"{gathering}.scorer.score", relu(linear(f"{gathering}.scorer.outer", inner)))
        fused = sum(alpha[:, [m]] * h[m] for m in range(len(h)))
        e = softmax(linear(f"{decoder}.emotion", fused))
        v_h = linear(f"{decoder}.valence_of_fused", fused)
        v_e = np.tanh(linear(f"{decoder}.valence_of_emotion", e))
        posteriors.append(e)
        valences.append(linear(f"{decoder}.valence", np.concatenate([v_h, v_e], axis=1))[:, 0])
        fused_vectors.append(fused)
    branches, clips = len(posteriors), len(valences[0])
    weights = np.ones((branches, clips))
    if blueprint.fusion == "attention":
        weights = softmax(linear("fusion.score", np.concatenate(fused_vectors, axis=1))).T
    elif blueprint.fusion == "mean":
        weights /= branches
    elif branches > 1:
        entropies = np.array([-(e * np.log(e)).sum(axis=1) for e in posteriors])
        weights = (1 - entropies / entropies.sum(axis=0)) / (branches - 1)
    return {
        "log_posteriors": np.log(posteriors),
        "valences": np.array(valences),
        "weights": weights,
        "posterior": sum(w[:, None] * e for w, e in zip(weights, posteriors, strict=True)),
        "valence": sum(w * v for w, v in zip(weights, valences, strict=True)),
    }


@pytest.fixture
def write_recording() -> Callable[..., Path]:
    """Writes frames (n, H, W, 3) and mono sound at 16 kHz, both lossless and side by side in the file."""
    return _write_recording


def _write_recording(
    path: Path,
    frames: Sequence[np.ndarray],
    sound: np.ndarray,
    *,
    rate: int = 25,
    begins: Sequence[float] | None = None,  # of the frames, in seconds
    gap: tuple[float, float] = (1e9, 0),  # seconds of sound, and how much later what follows begins
    offset: float = 0.0,  # of all times
) -> Path:
    import av

    begins = [number / rate for number in range(len(frames))] if begins is None else begins
    block = 16_000 // rate
    with av.open(str(path), "w", options={"avoid_negative_ts": "disabled"}) as out:
        video = out.add_stream("libx264rgb", rate=rate)
        video.height, video.width = frames[0].shape[:2]
        video.pix_fmt, video.options = "rgb24", {"qp": "0", "preset": "ultrafast", "tune": "zerolatency"}
        video.codec_context.time_base = Fraction(1, 1000)
        audio = out.add_stream("pcm_s16le", rate=16_000, layout="mono")
        pcm = np.round(sound * 32768).clip(-32768, 32767).astype(np.int16)
        shown = [(begin, video, number) for number, begin in enumerate(begins)]
        heard = [
            (start / 16_000 + (gap[1] if start / 16_000 >= gap[0] else 0), audio, start)
            for start in range(0, len(pcm), block)
        ]
        assert len(shown) == len(frames)
        for begin, stream, place in sorted([*shown, *heard], key=lambda event: event[0]):
            if stream is video:  # made now, for minutes of them are gigabytes
                picture = av.VideoFrame.from_ndarray(np.ascontiguousarray(frames[place]), format="rgb24")
                picture.pts, picture.time_base = round(1000 * (begin + offset)), Fraction(1, 1000)
                out.mux(stream.encode(picture))
            else:
                part = av.AudioFrame.from_ndarray(pcm[None, place : place + block], format="s16", layout="mono")
                part.sample_rate, part.pts = 16_000, round(16_000 * (begin + offset))
                part.time_base = Fraction(1, 16_000)
                out.mux(stream.encode(part))
        out.mux(video.encode())
        out.mux(audio.encode())
    return path
