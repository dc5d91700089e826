"""What a profile's corpus holds and what is wrong with it, found in a minute and before anything long runs."""

import os
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from mer_pnao.commands.choose_profile import missing_checkpoints
from mer_pnao.commands.corpus_leaks import find_leaks
from mer_pnao.corpus.manifest import SPLITS, faults_of, refuse_wrong_splits, speakers_of
from mer_pnao.corpus.noisy_twins import with_noisy_twins
from mer_pnao.corpus.readers.labelled_folder import clip_folder, clips_in
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.encoders.config import LAYERED_KINDS
from mer_pnao.encoders.hub_name import hub_name
from mer_pnao.extraction.transcripts import read_transcripts
from mer_pnao.features.mertools import missing_vectors
from mer_pnao.foundations.errors import InputError, as_input_error
from mer_pnao.media.config import SPEECH, MediaLimits
from mer_pnao.media.container import ClipError, check_clip
from mer_pnao.media.corruption import noise_files
from mer_pnao.media.face_reader import face_reader
from mer_pnao.params.profile import Params
from mer_pnao.training.folds import UNLEARNT, learns_valence, make_folds

_LEFT_BY_DVC = {".dvc", ".git", ".hg"}
_THREADS = 8  # reading headers waits for the disk


@dataclass(frozen=True)
class CorpusReport:
    """A corpus before the run.

    `clips` are the manifest's rows and, for clips with a header that can be read, `seconds`. `skipped` are clips that
    will be left out, by name, or path where that is no official name, with the reason; `unmentioned` videos that no
    label mentions. `faults` stop a run or spoil its scores, `remarks` say what it will leave out. `unseen` clips are of
    a sample that left them out.
    """

    clips: pd.DataFrame
    labels: tuple[str, ...]
    skipped: Mapping[str, str]
    unmentioned: tuple[str, ...]
    faults: tuple[str, ...]
    remarks: tuple[str, ...] = ()
    unseen: int = 0

    def splits(self) -> list[str]:
        """Train, test, then the further ones."""
        there = set(self.clips["split"])
        return [*(split for split in SPLITS if split in there), *sorted(there - set(SPLITS))]


def check_corpus(
    params: Params, root: Path, progress: Callable[[int], None] = lambda _: None, sample: int | None = None
) -> CorpusReport:
    """Read a profile's corpus as the pipeline will, and every clip's header; collect what is wrong instead of stopping.

    Of a `sample` only so many clips' headers are read, drawn with the profile's seed, and videos that no label mentions
    are not looked for. Silence and streams that are cut short show in decoding only, and are not found here. `progress`
    is called with the number of headers read since the last call.
    """
    corpus, place = params.corpus, root / params.corpus.root
    faults, skipped, misnamed = _not_hashed(place), dict[str, str](), dict[str, str]()
    try:
        table = read_corpus(corpus, place, params.seed, misnamed.__setitem__)
    except InputError as error:
        nothing = pd.DataFrame(columns=["name", "discrete", "valence", "speaker", "split", "seconds"])
        return CorpusReport(nothing, corpus.labels, {}, (), (*faults_of(error), *faults))
    labels = corpus.labels or tuple(sorted(set(table["discrete"]) - {""}))
    unmentioned, unseen, unused = tuple[str, ...](), 0, list[str]()
    with _collected(faults):
        table = with_noisy_twins(table, params.corruption)
    faults += _extraction_faults(table, params, root)
    if corpus.kind == "mertools":
        for name, source in params.imported.items():
            with _collected(faults):
                absent = missing_vectors(place / source, table["name"].tolist())
                faults += [f"{place / source}: {clip} is missing from the feature set {name}" for clip in absent]
        seconds = [float("nan")] * len(table)
    else:
        drawn = table if sample is None else table.sample(min(sample, len(table)), random_state=params.seed)
        found, skipped, unused = _headers(drawn, place, params.media, progress)
        seconds = pd.Series(found, drawn.index).reindex(table.index).tolist()
        unseen = len(table) - len(drawn)
        if len(skipped) > corpus.max_skipped * len(drawn):
            share = f"corpus.max_skipped {corpus.max_skipped:g}"
            faults.append(f"{len(skipped)} of {len(drawn)} clips will be skipped, more than {share}")
        faults += find_leaks(drawn[~drawn["name"].isin(skipped)], place)
        if sample is None:
            unmentioned = _unmentioned({*table["path"], *misnamed}, corpus.kind, place)
    left = table[~table["name"].isin(skipped)]
    remarks = [f"{len(unused)} clip(s) hold tracks that will not be used, such as {unused[0]}"] if unused else []
    behind = "DVC does not look behind it, so that `dvc repro -f` has to follow a change there"
    remarks += [f"{folder} is a link; {behind}" for folder in _linked_folders(table, place)]
    of_clips = _faults(left, labels, params)
    if not of_clips:
        with _collected(of_clips):
            remarks += _remarks_on_folds(left, labels, params)
    report = table.assign(seconds=seconds)
    skipped |= misnamed
    return CorpusReport(report, labels, skipped, unmentioned, (*of_clips, *faults), tuple(remarks), unseen)


@contextmanager
def _collected(faults: list[str]) -> Iterator[None]:
    """What is refused becomes faults."""
    try:
        yield
    except InputError as error:
        faults.extend(faults_of(error))


def _faults(table: pd.DataFrame, labels: tuple[str, ...], params: Params) -> list[str]:
    """What the stages after the manifest would refuse of the clips that are left for them."""
    faults, folds = list[str](), params.folds
    with _collected(faults):
        refuse_wrong_splits(table, params.corpus.shares_speakers)
    train = table[table["split"] == "train"]
    faults += [
        f"the emotion {label!r} has {count} training clip(s), fewer than the {folds} folds"
        for label in labels
        if (count := int((train["discrete"] == label).sum())) < folds
    ]
    if len(labels) < 2:
        faults.append(f"the corpus has one emotion only, {', '.join(labels) or 'none'}")
    if train["speaker"].any():
        known = train["speaker"][train["speaker"] != ""]
        speakers = known.nunique() + len(train) - len(known)  # each unknown one counts for itself
        if speakers < folds:
            faults.append(f"{speakers} speaker(s) of the training clips cannot be kept apart in {folds} folds")
    return faults


def _remarks_on_folds(table: pd.DataFrame, labels: tuple[str, ...], params: Params) -> list[str]:
    """What a run will leave out for its folds. Raises InputError when the clips allow none."""
    train = table[table["split"] == "train"]
    emotion = train["discrete"].map(list(labels).index).to_numpy()
    with as_input_error(ValueError):
        folds = make_folds(emotion, speakers_of(train), params.folds, params.seed, labels)
    unlearnt = table["valence"].notna().any() and not learns_valence(train["valence"].to_numpy(np.float32), folds)
    return [UNLEARNT] if unlearnt else []


def _extraction_faults(table: pd.DataFrame, params: Params, root: Path) -> list[str]:
    """What the stage `features` would refuse of noise, words, faces and checkpoints."""
    faults: list[str] = []
    for config in params.corruption.values():
        with _collected(faults):
            if config.noise != SPEECH:
                noise_files(root / config.noise)
    for encoder in params.encoders.values():
        if encoder.kind == "text":
            with _collected(faults):
                read_transcripts(root / params.corpus.root / encoder.transcripts, table["name"], encoder.column)
    if any(encoder.kind not in LAYERED_KINDS for encoder in params.encoders.values()):
        with _collected(faults):
            face_reader(params.media, root)
    for name, checkpoint in missing_checkpoints(params, root).items():
        hub = "; `mer fetch` puts it there" if hub_name(checkpoint) else ""
        faults.append(f"encoders.{name}: the checkpoint {checkpoint} is missing{hub}")
    return faults


def _headers(
    table: pd.DataFrame, place: Path, limits: MediaLimits, progress: Callable[[int], None]
) -> tuple[list[float], dict[str, str], list[str]]:
    """The length of each clip (NaN: unreadable), the reasons of those that will be skipped, remarks on others."""

    def read(path: Path) -> tuple[float, str, tuple[str, ...]]:
        try:
            header = check_clip(path, limits)
        except ClipError as error:
            return float("nan"), str(error), ()
        if 0 < (seconds := header.seconds) < limits.min_seconds:
            return seconds, f"lasts {seconds:.3f} s, less than {limits.min_seconds:g} s", ()
        return seconds, "", header.remarks

    found = []
    with ThreadPoolExecutor(_THREADS) as pool:
        for header in pool.map(read, (place / path for path in table["path"])):
            found.append(header)
            progress(1)
    named = list(zip(table["name"], found, strict=True))
    skipped = {name: reason for name, (_, reason, _) in named if reason}
    remarks = [f"{name}: {remark}" for name, (_, _, said) in named for remark in said]
    return [seconds for seconds, _, _ in found], skipped, remarks


def _linked_folders(table: pd.DataFrame, place: Path) -> list[str]:
    """The folders below the corpus's that hold clips of the table and are links."""
    folders = {PurePosixPath(folder) for folder in {path.rpartition("/")[0] for path in table["path"]}}
    within = {above for folder in folders for above in (folder, *folder.parents)} - {PurePosixPath()}
    return sorted(str(folder) for folder in within if (place / folder).is_symlink())


def _unmentioned(known: Collection[str], kind: str, place: Path) -> tuple[str, ...]:
    folder = clip_folder(place) if kind == "labelled_folder" else place
    try:
        found = [path.relative_to(place).as_posix() for path in clips_in(folder).values()]
    except InputError:  # two videos of one name, one of them in a part that was not read
        return ()
    return tuple(path for path in found if path not in known)


def _not_hashed(place: Path) -> list[str]:
    """What DVC refuses in the folder that stages depend on; it does not look into linked folders."""
    faults = []
    for here, folders, files in os.walk(place):
        folders[:] = [name for name in folders if name not in _LEFT_BY_DVC]
        for name in files:
            path = os.path.join(here, name)  # noqa: PTH118 - a hundred thousand paths take long
            if reason := _why_not_hashed(path, name):
                faults.append(f"{path!r} {reason}: DVC, which hashes the whole folder, stops at it; take it away")
    return faults


def _why_not_hashed(path: str, name: str) -> str:
    if path.encode(errors="ignore").decode() != path:
        return "has a name that is not in UTF-8"
    if not os.path.exists(path):  # noqa: PTH110
        return "is a link to nothing (`mer profile` renews a release's)"
    if not os.path.isfile(path) or not os.access(path, os.R_OK):  # noqa: PTH113
        return "is no file that can be read"
    return "is DVC's own" if name == ".dvcignore" else ""
