"""Which corpus it is, and what of it is taken."""

import re
from dataclasses import dataclass
from typing import Literal

from mer_pnao.foundations.checks import between, sub_path


@dataclass(frozen=True)
class CorpusConfig:
    """Where the clips and their labels come from. Raises ValueError naming key, value and range."""

    kind: Literal[  # mertools has features and no clips
        "labelled_folder", "mertools", "mer2023", "mer2024", "mer2025", "mer2026", "meld", "ravdess", "cremad"
    ]
    root: str  # the folder, below data/; `mer profile --data` links it, or what is read in it, to where the corpus is
    labels: tuple[str, ...]  # the emotions, in the order of every table and figure; none: those of the training clips
    label_file: str = "labels.csv"  # of labelled_folder and mertools, below the root; the others know theirs
    intensities: tuple[str, ...] = ()  # of ravdess and cremad: those taken; none: all
    test_speakers: tuple[str, ...] = ()  # who is held out where the labels do not say what is test; none: a draw
    test_share: float = 0.2  # of the clips, where it is drawn
    max_skipped: float = 0.05  # share of clips that may be unusable before a stage fails
    archive_labels: tuple[str, ...] | None = None  # of mertools: the emotions that an archive writes as 0, 1, …
    validation: Literal["dev", "train"] | None = None  # what mertools' and MELD's validation clips are; none: dev
    speaker_in_name: str | None = None  # regular expression: what of a clip's name is its speaker; none: nothing

    def __post_init__(self) -> None:
        between("test_share", self.test_share, 0, 0.5, ends="(]")
        between("max_skipped", self.max_skipped, 0, 1)
        sub_path("label_file", self.label_file)
        if len(self.labels) == 1:
            raise ValueError(f"labels must be at least two emotions, or none, got only {self.labels[0]!r}")
        for key, labels in (("labels", self.labels), ("archive_labels", self.archive_labels or ())):
            for label in labels:
                if not label or not label.isprintable() or label != label.strip():
                    raise ValueError(f"{key} must be words without spaces around them, got {label!r}")
                if labels.count(label) > 1:
                    raise ValueError(f"{key} must name each emotion once, got {label!r} twice")
        try:
            re.compile(self.speaker_in_name or "")
        except re.error as error:
            raise ValueError(
                f"speaker_in_name must be a regular expression, got {self.speaker_in_name!r} ({error})"
            ) from error

    @property
    def shares_speakers(self) -> bool:
        """Whether the official split has the same people in train and test, as MELD's has the six friends."""
        return self.kind == "meld"

    @property
    def is_release(self) -> bool:
        """Whether it is a challenge's release, with a hundred thousand clips that its lists do not name."""
        return self.kind.startswith("mer20")
