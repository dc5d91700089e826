"""Feature sets of many clips: batched, resumable by shard, and with a reason for each clip left out."""

import shutil
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.engine import Engine, Progress, on_this_machine
from mer_pnao.extraction.shards import SHARD_SIZE, Clip, Part, shard_folders, write_shard_folder
from mer_pnao.features.remarks import Remark, Row, read_face_shares, read_remarks, write_face_shares, write_remarks
from mer_pnao.features.sets import write_identity
from mer_pnao.foundations.errors import InputError


@dataclass(frozen=True)
class ExtractionReport:
    """What became of the clips: `sets` by width, and the clips that were skipped or lack a face."""

    encoder: str
    clips: int
    sets: Mapping[str, int]
    remarks: tuple[Remark, ...]

    @property
    def skipped(self) -> int:
        return sum(entry.action == "skipped" for entry in self.remarks)


def extract(
    clips: Sequence[Clip],
    encoder: ClipEncoder,
    out: Path,
    work: Path,
    shard_size: int = SHARD_SIZE,
    max_skipped: float = 0.05,
    progress: Progress = lambda _: None,
    engine: Engine | None = None,
) -> ExtractionReport:
    """Writes an encoder's feature sets: `out/<set>/part-*.parquet`, `identity.json`, `skipped.csv`, `faces.csv`.

    Finished shards stay in `work/features/`, found by a hash of all that determines them, so that a killed extraction
    goes on at the shard where it was, with the same bytes as an undisturbed one, and one of a clip more computes that
    clip's shard. The vectors come in the order of the shards, which follows from the clips' names.

    Args:
        clips: what is extracted; the clips of a batch, and the remarks, are in this order.
        encoder: see `build_encoder`.
        out: the encoder's folder, replaced as a whole at the end.
        work: the root of what survives a kill.
        shard_size: clips of a shard, which is what a kill can cost at most.
        max_skipped: share of the clips that may be unusable.
        progress: called with the number of clips finished since the last call.
        engine: what computes the shards; this process when omitted.

    Raises:
        InputError: no clips, a clip twice or missing, an `out` that holds anything else or cannot be made, vectors
            that are not finite, or too many clips skipped, naming the table that lists them.
    """
    refuse_foreign_folder(out)
    shards = extract_part(clips, encoder, work, Part(), shard_size, progress, engine)
    place = {clip.name: number for number, clip in enumerate(clips)}
    remarks = [entry for folder in shards for entry in read_remarks(folder / "skipped.csv")]
    remarks.sort(key=lambda entry: place[entry.name])
    shares = [share for folder in shards for share in read_face_shares(folder / "faces.csv")]
    shares.sort(key=lambda share: place[share[0]])
    report = ExtractionReport(encoder.name, len(clips), dict(encoder.sets), tuple(remarks))
    cache = shards[0].parent
    if report.skipped > max_skipped * len(clips) or report.skipped == len(clips):
        table = cache / "skipped.csv"
        write_remarks(table, remarks)
        raise InputError(
            f"{table}: {encoder.name} skipped {report.skipped} of {len(clips)} clips, "
            f"more than max_skipped = {max_skipped:g}"
        )
    corrupted = {c.name: {"snr": c.corruption.snr, "blur": c.corruption.factor} for c in clips if c.corruption}
    identity = {**encoder.identity, "corrupted": corrupted} if corrupted else encoder.identity
    with FileLock(cache / "publish.lock"):
        _publish(shards, encoder.sets, identity, remarks, shares, out)
    return report


def extract_part(
    clips: Sequence[Clip],
    encoder: ClipEncoder,
    work: Path,
    part: Part,
    shard_size: int = SHARD_SIZE,
    progress: Progress = lambda _: None,
    engine: Engine | None = None,
) -> tuple[Path, ...]:
    """Computes the shards of a part into `work`, for machines that share it; returns the folders of all shards.

    When all of them are there, `extract` with the same clips, encoder and shard size has nothing left to compute.
    Raises InputError for the clips and vectors that `extract` refuses.
    """
    _refuse_bad_list(clips, encoder)
    shards = shard_folders(clips, encoder, work, shard_size)
    own = {folder: members for number, (folder, members) in enumerate(shards.items()) if part.takes(number)}
    missing = {folder: members for folder, members in own.items() if not folder.is_dir()}
    progress(sum(len(members) for folder, members in own.items() if folder not in missing))
    for folder, shard in (engine or on_this_machine(encoder))(missing, progress):
        write_shard_folder(folder, shard)
    return tuple(shards)


def refuse_foreign_folder(out: Path) -> None:
    """Before hours of work: the folder will be replaced, so it must be one that an extraction made, empty, or absent.

    Raises InputError for any other, and for one that cannot be made.
    """
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        foreign = out.exists() and not (out / "identity.json").is_file() and any(out.iterdir())
    except OSError as error:
        raise InputError(f"{out} cannot be made: {error.strerror}") from error
    if foreign:
        raise InputError(f"{out} holds something else than features, and would be replaced; name another folder")


def _refuse_bad_list(clips: Sequence[Clip], encoder: ClipEncoder) -> None:
    if not clips:
        raise InputError(f"{encoder.name}: there are no clips to extract")
    twice = [name for name, times in Counter(clip.name for clip in clips).items() if times > 1]
    if twice:
        raise InputError(f"{encoder.name}: the clip {twice[0]} is listed twice")
    for clip in clips:
        if encoder.reader is not None and not clip.path.is_file():
            raise InputError(f"{clip.path}: the file of the clip {clip.name} is missing")


def _publish(
    shards: Sequence[Path],
    sets: Iterable[str],
    identity: Mapping[str, object],
    remarks: Sequence[Remark],
    shares: Sequence[Row],
    out: Path,
) -> None:
    partial = out.with_name(f".{out.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a kill; two machines that finish together take turns
    for set_name in sets:
        (partial / set_name).mkdir(parents=True)
        for number, shard in enumerate(shards):
            # Copied and not linked: DVC may make its outputs read-only, and links would share that.
            shutil.copyfile(shard / f"{set_name}.parquet", partial / set_name / f"part-{number:05d}.parquet")
    write_identity(partial, identity, remarks)
    write_face_shares(partial / "faces.csv", shares)
    shutil.rmtree(out, ignore_errors=True)
    partial.replace(out)
