"""Which corpus it is, and what of it is taken."""

from dataclasses import dataclass
from typing import Literal

from mer_pnao.foundations.checks import between, sub_path


@dataclass(frozen=True)
class CorpusConfig:
    """Where the clips and their labels come from. Raises ValueError naming key, value and range."""

    kind: Literal["labelled_folder", "mertools", "mer2023", "ravdess", "cremad"]  # mertools has features and no clips
    root: str  # the folder, below data/; `mer profile --data` links it to where the corpus is
    labels: tuple[str, ...]  # the emotions, in the order of every table and figure; none: those of the training clips
    label_file: str = "labels.csv"  # of labelled_folder and mertools, below the root; the others know theirs
    intensities: tuple[str, ...] = ()  # of ravdess and cremad: those taken; none: all
    test_speakers: tuple[str, ...] = ()  # who is held out where the labels do not say what is test; none: a draw
    test_share: float = 0.2  # of the clips, where it is drawn
    max_skipped: float = 0.05  # share of clips that may be unusable before a stage fails

    def __post_init__(self) -> None:
        between("test_share", self.test_share, 0, 0.5, ends="(]")
        between("max_skipped", self.max_skipped, 0, 1)
        sub_path("label_file", self.label_file)
        if len(self.labels) == 1:
            raise ValueError(f"labels must be at least two emotions, or none, got only {self.labels[0]!r}")
        for label in self.labels:
            if not label or not label.isprintable() or label != label.strip():
                raise ValueError(f"labels must be words without spaces around them, got {label!r}")
            if self.labels.count(label) > 1:
                raise ValueError(f"labels must name each emotion once, got {label!r} twice")
