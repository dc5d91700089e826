"""What the service takes."""

from dataclasses import dataclass, replace

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.foundations.checks import between

MIB = 2**20
MOST_TEXT = 10_000  # characters of what is said; a clip of a minute has a tenth of that


@dataclass(frozen=True)
class ServiceLimits:
    """Bounds on a clip or a recording, and on the work at a time. Raises ValueError naming key, value and range."""

    max_bytes: int = 64 * MIB  # a minute of phone video; the clips of MER 2023 have one
    max_seconds: float = 60.0  # of a clip; the model's own limit counts where it is lower
    max_pixels: int = 3840 * 2160  # of a frame; likewise
    max_recording_bytes: int = 1024 * MIB  # an hour of 720p
    max_minutes: float = 60.0  # of a recording
    # For decoding one clip, or a window's length of a recording, before the process that does it is killed.
    decode_seconds: float = 20.0
    upload_seconds: float = 60.0  # for a clip to arrive; a recording has more by its share of bytes
    at_once: int = 4  # clips that are received, decoded or predicted at a time; further ones get 429

    def __post_init__(self) -> None:
        between("max_bytes", self.max_bytes, 1, 2**40)
        between("max_seconds", self.max_seconds, 1, 3600)
        between("max_pixels", self.max_pixels, 64 * 64, 16384 * 16384)
        between("max_recording_bytes", self.max_recording_bytes, 1, 2**40)
        between("max_minutes", self.max_minutes, 0.1, 1440)
        between("decode_seconds", self.decode_seconds, 0.1, 3600)
        between("upload_seconds", self.upload_seconds, 0.1, 3600)
        between("at_once", self.at_once, 1, 1024)

    @property
    def recording_upload_seconds(self) -> float:
        """For a recording to arrive, no slower than a clip."""
        return self.upload_seconds * max(1.0, self.max_recording_bytes / self.max_bytes)

    @property
    def answer_seconds(self) -> float:
        """For the answer to a recording: as long as the longest one plays, and never less than ten minutes."""
        return 60 * max(10.0, self.max_minutes)

    def tighten(self, plan: DecodingPlan) -> DecodingPlan:
        """The plan with these bounds where they are lower: what a clip may be, never what becomes of it."""
        media = plan.limits
        seconds, pixels = min(media.max_seconds, self.max_seconds), min(media.max_pixels, self.max_pixels)
        return replace(plan, limits=replace(media, max_seconds=seconds, max_pixels=pixels))
