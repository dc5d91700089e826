"""Which encoder runs and how, as plain values that need no deep-learning library to be read."""

from dataclasses import dataclass
from pathlib import PurePath
from typing import Literal, get_args

from mer_pnao.checks import between, one_of
from mer_pnao.precision import Precision

Kind = Literal["hubert", "manet", "resnet"]
SplitOrder = Literal["forward", "reverse"]


@dataclass(frozen=True)
class EncoderConfig:
    """One encoder of a profile.

    Raises:
        ValueError: a value is out of range, naming key, value and range.
    """

    kind: Kind
    checkpoint: str  # HuBERT's folder, or a .safetensors, .pth or .pt file; absolute or below the project's root
    layers: tuple[int, ...] = ()  # of HuBERT only, 1 for the first; the paper reads 18, 19 and 20
    precision: Precision = "auto"  # bf16 where the hardware multiplies in it, two to four times as fast
    frames: int = 8  # of a clip, for images; neighbours at 25 a second hardly differ, and cost decides
    batch: int = 8  # clips encoded together; more only costs memory on a CPU
    order: SplitOrder = "forward"  # of MA-Net only: the version that made the challenge's features

    def __post_init__(self) -> None:
        one_of("kind", self.kind, get_args(Kind))
        one_of("precision", self.precision, get_args(Precision))
        one_of("order", self.order, get_args(SplitOrder))
        between("frames", self.frames, 1, 1000)
        between("batch", self.batch, 1, 256)
        if not self.checkpoint:
            raise ValueError("checkpoint must name a file or folder, got ''")
        if ".." in PurePath(self.checkpoint).parts or min(self.checkpoint) < " ":
            raise ValueError(f"checkpoint must be a path without '..', got {self.checkpoint!r}")
        if self.kind == "hubert":
            if not self.layers or len(set(self.layers)) != len(self.layers):
                raise ValueError(f"layers must name at least one layer and none twice, got {self.layers}")
            for layer in self.layers:
                between("layers", layer, 0, 96)
        elif self.layers:
            raise ValueError(f"layers must be empty for {self.kind}, got {self.layers}")

    def sets(self, name: str) -> tuple[str, ...]:
        """Names of the feature sets that the encoder `name` makes: one a layer, or one."""
        return tuple(f"{name}-{layer}" for layer in self.layers) or (name,)
