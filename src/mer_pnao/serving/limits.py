"""What the service takes."""

from dataclasses import dataclass, replace

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.foundations.checks import between

MIB = 2**20
MOST_TEXT = 10_000  # characters of what is said; a clip of a minute has a tenth of that


@dataclass(frozen=True)
class ServiceLimits:
    """Bounds on a clip and on the work at a time. Raises ValueError naming key, value and range."""

    max_bytes: int = 64 * MIB  # a minute of phone video; the clips of MER 2023 have one
    max_seconds: float = 60.0  # of a clip; the model's own limit counts where it is lower
    max_pixels: int = 3840 * 2160  # of a frame; likewise
    decode_seconds: float = 20.0  # for decoding one clip, before the process that does it is killed
    upload_seconds: float = 60.0  # for a clip to arrive
    at_once: int = 4  # clips that are received, decoded or predicted at a time; further ones get 429

    def __post_init__(self) -> None:
        between("max_bytes", self.max_bytes, 1, 2**40)
        between("max_seconds", self.max_seconds, 1, 3600)
        between("max_pixels", self.max_pixels, 64 * 64, 16384 * 16384)
        between("decode_seconds", self.decode_seconds, 0.1, 3600)
        between("upload_seconds", self.upload_seconds, 0.1, 3600)
        between("at_once", self.at_once, 1, 1024)

    def tighten(self, plan: DecodingPlan) -> DecodingPlan:
        """The plan with these bounds where they are lower: what a clip may be, never what becomes of it."""
        media = plan.limits
        seconds, pixels = min(media.max_seconds, self.max_seconds), min(media.max_pixels, self.max_pixels)
        return replace(plan, limits=replace(media, max_seconds=seconds, max_pixels=pixels))
