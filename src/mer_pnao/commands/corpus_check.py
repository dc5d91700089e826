"""What a profile's corpus holds and what is wrong with it, found in a minute and before anything long runs."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mer_pnao.corpus.manifest import SPLITS, faults_of, refuse_wrong_splits
from mer_pnao.corpus.noisy_twins import with_noisy_twins
from mer_pnao.corpus.readers.labelled_folder import clip_folder, clips_in
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.encoders.config import SPEECH_KINDS
from mer_pnao.encoders.hub import hub_name
from mer_pnao.features.mertools import missing_vectors
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.corruption import SPEECH, noise_files
from mer_pnao.media.decode import ClipError, MediaLimits, check_clip
from mer_pnao.media.face_reader import face_reader
from mer_pnao.params.profile import Params

_BAR = 40  # characters of the longest bar
_LISTED = 20  # lines of a list on the terminal
_THREADS = 8  # reading headers waits for the disk


@dataclass(frozen=True)
class CorpusReport:
    """A corpus before the run.

    `clips` are the manifest's rows and, for clips with a header that can be read, `seconds`. `skipped` are clips that
    every encoder will leave out, by name with the reason; `unlisted` videos that no label mentions. `faults` stop a
    run.
    """

    clips: pd.DataFrame
    labels: tuple[str, ...]
    skipped: Mapping[str, str]
    unlisted: tuple[str, ...]
    faults: tuple[str, ...]


def check_corpus(params: Params, root: Path, progress: Callable[[int], None] = lambda _: None) -> CorpusReport:
    """Read a profile's corpus as the pipeline will, and every clip's header; collect what is wrong instead of stopping.

    Silence and streams that are cut short show in decoding only, and are not found here.

    Args:
        params: the profile.
        root: the project's folder.
        progress: called with the number of headers read since the last call.
    """
    corpus, place = params.corpus, root / params.corpus.root
    try:
        table = read_corpus(corpus, place, params.seed)
    except InputError as error:
        nothing = pd.DataFrame(columns=["name", "discrete", "valence", "speaker", "split", "seconds"])
        return CorpusReport(nothing, corpus.labels, {}, (), faults_of(error))
    labels = corpus.labels or tuple(sorted(set(table["discrete"]) - {""}))
    faults, skipped, unlisted = list[str](), dict[str, str](), tuple[str, ...]()
    try:
        table = with_noisy_twins(table, params.corruption)
    except InputError as error:
        faults += faults_of(error)
    faults += _extraction_faults(params, root)
    if corpus.kind == "mertools":
        for name, source in params.imported.items():
            try:
                absent = missing_vectors(place / source, table["name"].tolist())
                faults += [f"{place / source}: {clip} is missing from the feature set {name}" for clip in absent]
            except InputError as error:
                faults += faults_of(error)
        seconds = [float("nan")] * len(table)
    else:
        seconds, skipped = _headers(table, place, params.media, progress)
        if len(skipped) > corpus.max_skipped * len(table):
            share = f"corpus.max_skipped {corpus.max_skipped:g}"
            faults.append(f"{len(skipped)} of {len(table)} clips will be skipped, more than {share}")
        unlisted = _unlisted(table, corpus.kind, place)
    faults = _faults(table[~table["name"].isin(skipped)], labels, params.folds) + faults
    return CorpusReport(table.assign(seconds=seconds), labels, skipped, unlisted, tuple(faults))


def print_report(report: CorpusReport, console: Console) -> None:
    """Draw the classes of each split and the lengths of the clips as bars, and list what is wrong."""
    clips = report.clips
    for split in _splits(clips):
        _print_split(split, clips[clips["split"] == split], report.labels, console)
    if clips["seconds"].notna().any():
        _print_lengths(clips["seconds"].dropna(), console)
    _print_list(f"{len(report.unlisted)} video(s) that no label mentions, left alone", report.unlisted, console)
    reasons = [f"{name}: {reason}" for name, reason in report.skipped.items()]
    _print_list(f"{len(reasons)} clip(s) that will be skipped", reasons, console)
    _print_list(f"{len(report.faults)} fault(s) that would stop the run", report.faults, console)
    if not report.faults:
        console.print("The corpus is ready. Silent sound and streams cut short show in decoding only.")


def draw_report(report: CorpusReport, path: Path) -> None:
    """Write a figure of the classes by split and of the clips' lengths. Raises InputError for a path that cannot be."""
    from matplotlib.figure import Figure

    if path.suffix.lower() != ".png":
        raise InputError(f"{path}: a figure must be a .png file")

    figure = Figure(figsize=(9, 3.5), layout="constrained")
    left, right = figure.subplots(1, 2)
    counts = report.clips.groupby(["discrete", "split"]).size().unstack(fill_value=0)
    counts = counts.reindex([*report.labels, *([""] if "" in counts.index else [])], fill_value=0)
    bottom = 0 * counts.sum(axis=1)
    for split in _splits(report.clips):
        left.bar(range(len(counts)), counts[split], bottom=bottom, label=split)
        bottom = bottom + counts[split]
    left.set_xticks(range(len(counts)), [label or "unlabelled" for label in counts.index], rotation=45, ha="right")
    left.set_ylabel("clips")
    left.legend()
    right.hist(report.clips["seconds"].dropna(), bins=30)
    right.set_xlabel("length (s)")
    right.set_ylabel("clips")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=150)
    except OSError as error:
        raise InputError(f"{path} cannot be written: {error.strerror}") from error


def _splits(clips: pd.DataFrame) -> list[str]:
    """Train, test, then the further ones."""
    return [*(split for split in SPLITS if split in set(clips["split"])), *sorted(set(clips["split"]) - set(SPLITS))]


def _faults(table: pd.DataFrame, labels: tuple[str, ...], folds: int) -> list[str]:
    """What the stages after the manifest would refuse of the clips that are left for them."""
    faults: list[str] = []
    try:
        refuse_wrong_splits(table)
    except InputError as error:
        faults += faults_of(error)
    train = table[table["split"] == "train"]
    for label in labels:
        if (count := int((train["discrete"] == label).sum())) < folds:
            faults.append(f"the emotion {label!r} has {count} training clip(s), fewer than the {folds} folds")
    if len(labels) < 2:
        faults.append(f"the corpus has one emotion only, {', '.join(labels) or 'none'}")
    if train["speaker"].any():
        known = train["speaker"][train["speaker"] != ""]
        speakers = known.nunique() + len(train) - len(known)  # each unknown one counts for itself
        if speakers < folds:
            faults.append(f"{speakers} speaker(s) of the training clips cannot be kept apart in {folds} folds")
    return faults


def _extraction_faults(params: Params, root: Path) -> list[str]:
    """What the stage `features` would refuse of noise, faces and checkpoints."""
    noises = [root / config.noise for config in params.corruption.values() if config.noise != SPEECH]
    checks: list[Callable[[], object]] = [partial(noise_files, folder) for folder in noises]
    if any(encoder.kind not in SPEECH_KINDS for encoder in params.encoders.values()):
        checks.append(partial(face_reader, params.media, root))
    faults: list[str] = []
    for check in checks:
        try:
            check()
        except InputError as error:
            faults += faults_of(error)
    if "checkpoints" not in params.synthesize:
        for name, encoder in params.encoders.items():
            if not (root / encoder.checkpoint).exists():
                hub = "; `mer fetch` puts it there" if hub_name(encoder.checkpoint) else ""
                faults.append(f"encoders.{name}: the checkpoint {encoder.checkpoint} is missing{hub}")
    return faults


def _headers(
    table: pd.DataFrame, place: Path, limits: MediaLimits, progress: Callable[[int], None]
) -> tuple[list[float], dict[str, str]]:
    """The length of each clip (NaN: unreadable), and the reasons of those that will be skipped."""

    def read(path: Path) -> tuple[float, str]:
        try:
            seconds = check_clip(path, limits).seconds
        except ClipError as error:
            return float("nan"), str(error)
        too_short = 0 < seconds < limits.min_seconds
        return seconds, f"lasts {seconds:.3f} s, less than {limits.min_seconds:g} s" if too_short else ""

    seconds, skipped = [], {}
    with ThreadPoolExecutor(_THREADS) as pool:
        found = pool.map(read, (place / path for path in table["path"]))
        for name, (length, reason) in zip(table["name"], found, strict=True):
            seconds.append(length)
            if reason:
                skipped[name] = reason
            progress(1)
    return seconds, skipped


def _unlisted(table: pd.DataFrame, kind: str, place: Path) -> tuple[str, ...]:
    listed = set(table["path"])
    folder = clip_folder(place) if kind == "labelled_folder" else place
    try:
        found = [path.relative_to(place).as_posix() for path in clips_in(folder).values()]
    except InputError:  # two videos of one name, one of them in a part that was not read
        return ()
    return tuple(path for path in found if path not in listed)


def _print_split(split: str, clips: pd.DataFrame, labels: tuple[str, ...], console: Console) -> None:
    speakers = clips["speaker"][clips["speaker"] != ""].nunique()
    valence = clips["valence"].dropna()
    parts = [f"{len(clips)} clips", f"{speakers or 'unknown'} speakers"]
    parts.append(f"{len(valence)} valences, mean {valence.mean():.2f}" if len(valence) else "no valence")
    console.print(Text.assemble((split, "bold"), f": {', '.join(parts)}"))
    unlabelled = int((clips["discrete"] == "").sum())
    counts = {label: int((clips["discrete"] == label).sum()) for label in labels}
    _print_bars(counts | ({"unlabelled": unlabelled} if unlabelled else {}), console)


def _print_lengths(seconds: "pd.Series[float]", console: Console) -> None:
    low, middle, high = seconds.quantile([0, 0.5, 1])
    hours = seconds.sum() / 3600
    said = f": {low:.1f} to {high:.1f} s, median {middle:.1f} s, {hours:.2f} h in all"
    console.print(Text.assemble(("length", "bold"), said))
    width = next(width for width in (0.5, 1, 2, 5, 10, 30, 60, 300, 3600) if high < 12 * width or width == 3600)
    counts = Counter(int(length // width) for length in seconds)
    _print_bars(
        {f"{width * part:g}-{width * (part + 1):g} s": counts[part] for part in range(int(high // width) + 1)}, console
    )


def _print_bars(counts: Mapping[str, int], console: Console) -> None:
    longest = max(counts.values(), default=0) or 1
    table = Table.grid(padding=(0, 2))
    for name, count in counts.items():
        table.add_row(Text(f"  {name}"), str(count), "█" * round(_BAR * count / longest))
    console.print(table)


def _print_list(title: str, lines: Sequence[str], console: Console) -> None:
    if lines:
        console.print(title, style="bold", highlight=False)
        for line in lines[:_LISTED]:
            console.print(Text(f"  {line}"), soft_wrap=True)
        if len(lines) > _LISTED:
            console.print(f"  and {len(lines) - _LISTED} more", highlight=False)
