"""Which encoder runs and how, as plain values that need no deep-learning library to be read."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, get_args

from mer_pnao.foundations.checks import above, between, one_of, sub_path
from mer_pnao.foundations.precision import Precision

Kind = Literal["hubert", "speech", "manet", "resnet", "image", "onnx", "text"]
SplitOrder = Literal["forward", "reverse"]
Pool = Literal["pooled", "cls", "mean"]
Colours = Literal["rgb", "bgr"]
SPEECH_KINDS = ("hubert", "speech")
LAYERED_KINDS = (*SPEECH_KINDS, "text")  # whose layers are chosen; all others see faces
PREPARATION = ("size", "colours", "scale", "mean", "std", "output")  # what an ONNX file does not say
_OWN_KEYS = {"onnx": PREPARATION, "text": ("transcripts", "column")}


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder of a profile; a value out of range raises ValueError naming key, value and range."""

    kind: Kind  # hubert: HuBERT and wav2vec 2.0 only; speech, image, text: whatever of that sort transformers has
    checkpoint: str  # a folder or a file, absolute or below the project's root, or organisation/name@revision
    # 1: the first. Of speech a set each, the paper reads 18, 19 and 20; of text one set, their mean (none: the last).
    layers: tuple[int, ...] = ()
    precision: Precision = "auto"  # bf16 where the hardware multiplies in it, two to four times as fast
    frames: int = 8  # of a clip at most, for images; neighbours at 25 a second hardly differ, and cost decides
    frames_per_second: float = 0.0  # as many as that, within `frames`; 0: `frames` of every clip, however long
    batch: int = 8  # clips encoded together; more only costs memory on a CPU
    batch_seconds: float = 0.0  # of a batch's sound that one pass takes, by length, padding included; 0: all at once
    window_seconds: float = 0.0  # longer sound is cut into stretches of at most so much; 0 never cuts
    order: SplitOrder = "forward"  # of MA-Net only: the version that made the challenge's features
    pool: Pool = "pooled"  # of image only: the model's own embedding, its first token, or the mean over its tokens
    transcripts: str = ""  # of text only: a CSV file below the corpus root that has the clips' words
    column: str = "text"  # of text only: the transcripts' column, such as that of a language
    # Of onnx only, for its file does not say how images are prepared: resized to squares of `size` pixels a side, black
    # being 0 and white `scale`, then in the order `colours` minus `mean` over `std`.
    size: int = 224
    colours: Colours = "rgb"
    scale: float = 1.0
    mean: tuple[float, ...] = (0.0, 0.0, 0.0)
    std: tuple[float, ...] = (1.0, 1.0, 1.0)
    output: str = ""  # the value of the network that is taken; '': its output, if it has one alone
    # Of manet and resnet only; None: torch. ONNX Runtime is faster on a CPU that does not multiply in bfloat16.
    runtime: Literal["onnx"] | None = None

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        one_of("precision", self.precision, get_args(Precision))
        one_of("order", self.order, get_args(SplitOrder))
        between("frames", self.frames, 1, 100_000)
        between("frames_per_second", self.frames_per_second, 0, 240)
        between("batch", self.batch, 1, 256)
        one_of("pool", self.pool, get_args(Pool))
        self._refuse_wrong_preparation()
        for key, seconds in (("batch_seconds", self.batch_seconds), ("window_seconds", self.window_seconds)):
            if seconds:
                between(key, seconds, 1, 3600)
        if not self.checkpoint:
            raise ValueError("checkpoint must name a file or folder, got ''")
        if ".." in PurePath(self.checkpoint).parts or min(self.checkpoint) < " ":
            raise ValueError(f"checkpoint must be a path without '..', got {self.checkpoint!r}")
        if self.kind == "text":
            if not self.transcripts:
                raise ValueError("transcripts is missing")
            sub_path("transcripts", self.transcripts)
        if self.kind in LAYERED_KINDS:
            if (not self.layers and self.kind != "text") or len(set(self.layers)) != len(self.layers):
                raise ValueError(f"layers must name at least one layer and none twice, got {self.layers}")
            for layer in self.layers:
                between("layers", layer, 0, 96)
        elif self.layers:
            raise ValueError(f"layers must be empty for {self.kind}, got {self.layers}")

    def _refuse_wrong_preparation(self) -> None:
        one_of("colours", self.colours, get_args(Colours))
        between("size", self.size, 8, 2048)
        above("scale", self.scale, 0)
        for key, values in (("mean", self.mean), ("std", self.std)):
            if len(values) != 3:
                raise ValueError(f"{key} must have a value for each of the three colours, got {values}")
            for value in values:
                between(key, value, -1e6 if key == "mean" else 1e-6, 1e6)
        if self.runtime and self.kind not in ("manet", "resnet"):
            raise ValueError(f"runtime is for manet and resnet, got {self.runtime!r} for {self.kind}")
        if self.on_onnx_runtime and self.precision == "bf16":
            raise ValueError("precision must be fp32 or auto for ONNX Runtime, got 'bf16'")

    @property
    def on_onnx_runtime(self) -> bool:
        """Whether ONNX Runtime computes it, on the CPU and in what its file says."""
        return self.kind == "onnx" or self.runtime == "onnx"

    def unread(self) -> set[str]:
        """The keys that a profile need not state, since this kind reads them nowhere."""
        others = {key for kind, keys in _OWN_KEYS.items() if kind != self.kind for key in keys}
        return others if self.runtime else {*others, "runtime"}

    def sets(self, name: str) -> tuple[str, ...]:
        """Names of the feature sets that the encoder `name` makes: one a layer of speech, or one."""
        if self.kind == "text":
            return (name,)
        return tuple(f"{name}-{layer}" for layer in self.layers) or (name,)
