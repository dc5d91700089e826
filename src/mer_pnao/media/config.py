"""What a clip may be and what noisy twins are made of, as plain values that need no decoder to be read."""

from dataclasses import dataclass

from mer_pnao.foundations.checks import between, sub_path

SPEECH = "speech"


@dataclass(frozen=True)
class MediaLimits:
    """What a clip may be, and where its faces come from; a value out of range raises ValueError naming it.

    Headers are checked before anything is decoded, the rest while decoding.
    """

    max_seconds: float = 60.0  # attention costs grow with the square; MER 2023's longest clip has 16 s
    min_seconds: float = 0.1  # a handful of HuBERT's 20 ms frames; less is a cutting error
    max_pixels: int = 3840 * 2160  # 4K UHD: a decoded frame of 25 MB
    silence: float = 1e-4  # a peak under -80 dBFS is the hiss of an empty track
    frame_side: int = 720  # kept frames are shrunk to this short side: faces stay sharp, memory small
    memory_mb: int = 1024  # of decoded clips at once; what is longer is decoded twice, to the same vectors
    detector: str = ""  # YuNet's ONNX file below corpus.root; without one, OpenCV's cascade finds the faces
    crops: str = ""  # folder of ready face crops below corpus.root, as MERTools keeps them; then nothing is searched

    def __post_init__(self) -> None:
        between("max_seconds", self.max_seconds, 1, 3600)
        between("min_seconds", self.min_seconds, 0.025, 10)  # 25 ms: the receptive field of a HuBERT frame
        between("max_pixels", self.max_pixels, 64 * 64, 16384 * 16384)
        between("silence", self.silence, 0, 1)
        between("frame_side", self.frame_side, 64, 4096)
        between("memory_mb", self.memory_mb, 64, 2**20)
        for key, place in (("detector", self.detector), ("crops", self.crops)):
            if place:
                sub_path(key, place)
        if self.detector and self.crops:
            raise ValueError(f"detector must be '' where crops are ready, got {self.detector!r}")


@dataclass(frozen=True)
class CorruptionConfig:
    """How the noisy twin of a test split is made; a value out of range raises ValueError naming it."""

    noise: str = SPEECH  # what training clips say, or a folder of sound files below corpus.root
    snr_low: float = 5.0  # dB; each clip's signal-to-noise ratio is drawn from here
    snr_high: float = 10.0  # to here
    blur: tuple[int, ...] = (1, 2, 4)  # by one of which a clip's frames are shrunk and grown again
    seed: int = 0

    def __post_init__(self) -> None:
        if self.noise != SPEECH:
            sub_path("noise", self.noise)
        between("snr_low", self.snr_low, -60, 60)
        between("snr_high", self.snr_high, self.snr_low, 60)
        if not self.blur:
            raise ValueError("blur must name at least one factor, got ()")
        for factor in self.blur:
            if factor not in (1, 2, 4, 8, 16):
                raise ValueError(f"blur must hold powers of two from 1 to 16, got {factor!r}")
        between("seed", self.seed, 0, 2**32 - 1)
