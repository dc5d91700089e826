"""Which windows of a recording are wanted, and which of them a stretch completes. Times are numbers of samples."""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mer_pnao.extraction.clip_reader import DecodingPlan
from mer_pnao.foundations.checks import between
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.predict import Predictor
from mer_pnao.recordings.encoding import EncodedStretch

SPEECH_LEVEL = -50.0  # dBFS
SHORTEST = 0.1  # s, of a window and a hop
_MOST_WINDOWS = 40  # that begin within one: more would tell little, and hold up what else is answered


@dataclass(frozen=True)
class Windows:
    """Which windows are wanted, see `timeline`."""

    window: float = 4.0  # s
    chosen_hop: float | None = None  # s; None: half a window
    speech_only: bool = False
    speech_level: float = SPEECH_LEVEL

    @property
    def hop(self) -> float:
        """From one window's start to the next one's, in seconds."""
        return max(self.window / 2, SHORTEST) if self.chosen_hop is None else self.chosen_hop

    @property
    def length(self) -> int:
        """Of a window, in samples."""
        return round(self.window * SAMPLE_RATE)

    def start(self, number: int) -> int:
        """Of the window of this number, in samples; a window that is a stretch stays one, however it is rounded."""
        return round(number * self.hop / self.window * self.length)

    def plans(self, predictor: Predictor) -> Mapping[str, DecodingPlan]:
        """How the model takes a recording. Raises InputError where it cannot, or what is asked for is out of range."""
        if predictor.reads_words:
            raise InputError(
                f"model {predictor.version} reads words, and what is said when in a recording is not known: "
                "cut it into clips, and give their transcripts"
            )
        plans = predictor.plans()
        longest = min(plan.limits.max_seconds for plan in plans.values())
        shortest = max(SHORTEST, *(plan.limits.min_seconds for plan in plans.values()))
        try:
            between("window", self.window, shortest, longest)
            between("hop", self.hop, SHORTEST, self.window)
            between("speech_level", self.speech_level, -90, 0)
        except ValueError as error:
            raise InputError(f"{error} s" if "level" not in str(error) else f"{error} dBFS") from error
        if self.hop < self.window / _MOST_WINDOWS:
            least = f"a fortieth of the window, {self.window / _MOST_WINDOWS:g} s"
            raise InputError(f"hop must be at least {least}, got {self.hop:g} s")
        return plans


Span = tuple[int, int, Sequence[EncodedStretch]]  # start and end of a window, and the stretches that it lies in


class Spans:
    """Where the windows lie, from stretches that come one by one."""

    def __init__(self, asked: Windows) -> None:
        self._asked = asked
        self._held: deque[EncodedStretch] = deque()
        self._number, self._total = 0, 0  # of the next window, and of all stretches

    def take(self, stretch: EncodedStretch) -> list[Span]:
        """The windows that the next stretch completes."""
        self._held.append(stretch)
        self._total = stretch.decoded.end
        whole: list[Span] = []
        while (end := self._asked.start(self._number) + self._asked.length) <= self._total:
            whole.append((end - self._asked.length, end, tuple(self._held)))
            self._number += 1
            while self._held and self._held[0].decoded.end <= self._asked.start(self._number):
                self._held.popleft()
        return whole

    def rest(self) -> list[Span]:
        """The shorter window at the end, unless it is hardly longer than what others have reached."""
        start = self._asked.start(self._number)
        reached = self._asked.start(self._number - 1) + self._asked.length
        left = not self._number or self._total - reached >= self._asked.hop * SAMPLE_RATE / 2
        if self._held and self._total > start and left:
            return [(start, self._total, tuple(self._held))]
        return []
