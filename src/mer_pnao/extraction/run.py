"""Several encoders over the same clips: the parts of machines that share the work, and the features in the end."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.engine import Engine
from mer_pnao.extraction.extract import ExtractionReport, extract, extract_part
from mer_pnao.extraction.shards import Clip, Part
from mer_pnao.features.remarks import Remark, write_remarks
from mer_pnao.foundations.console import progress

SKIPPED = "skipped_clips.csv"  # the remarks of all encoders, beside their folders


@dataclass(frozen=True)
class Extraction:
    """What is extracted of which clips, and how."""

    encoders: Sequence[str]
    build: Callable[[str], ClipEncoder]
    clips: Callable[[str], Sequence[Clip]]  # as the encoder of this name takes them
    work: Path  # the root of what survives a kill
    engine: Callable[[ClipEncoder], Engine]

    def parts(self, part: Part) -> Iterator[tuple[str, tuple[Path, ...]]]:
        """Computes a part of each encoder's shards; yields its name and the shards of other machines to come."""
        for name in self.encoders:
            encoder, clips = self.build(name), self.clips(name)
            with progress(f"extracting {name}", part.clips(clips)) as done:
                engine = self.engine(encoder)
                shards = extract_part(clips, encoder, self.work, part, progress=done, engine=engine)
            yield name, tuple(folder for folder in shards if not folder.is_dir())

    def features(self, out: Path, max_skipped: float) -> Iterator[ExtractionReport]:
        """Writes each encoder's features to `out/<encoder>`, then the remarks of all to `out/skipped_clips.csv`."""
        remarks: list[Remark] = []
        for name in self.encoders:
            encoder, clips = self.build(name), self.clips(name)
            with progress(f"extracting {name}", len(clips)) as done:
                engine, folder = self.engine(encoder), out / name
                report = extract(
                    clips, encoder, folder, self.work, max_skipped=max_skipped, progress=done, engine=engine
                )
            remarks += report.remarks
            yield report
        write_remarks(out / SKIPPED, remarks)
