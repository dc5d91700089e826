"""`mer check`: what it counts on real clips, and that every fault is there, not the first one only."""

import contextlib
import csv
import io
import os
import shutil
import socket
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from rich.console import Console

from mer_pnao.commands.corpus_check import CorpusReport, check_corpus
from mer_pnao.commands.corpus_figure import draw_report
from mer_pnao.commands.corpus_report import print_report
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import CorruptionConfig
from mer_pnao.params.profile import Params, load_params

ROOT = Path(__file__).parents[2]
MEDIA = ROOT.parent / "shared/data/media"
RAVDESS = ROOT.parent / "shared/data/ravdess"
EMOTIONS = ("neutral", "calm", "happy", "sad", "angry", "fearful", "disgust", "surprised")
HERE = pytest.mark.skipif(not MEDIA.is_dir(), reason="the real data in ../shared/data is not here")


def profile(folds: int = 2, **corpus: object) -> Params:
    demo = load_params(ROOT / "profiles/demo.yaml")
    changed = replace(demo.corpus, **{"root": "data/corpus", **corpus})
    return demo.model_copy(update={"corpus": changed, "folds": folds})


def printed(report: CorpusReport) -> str:
    console = Console(record=True, width=200, file=io.StringIO())
    print_report(report, console)
    return console.export_text()


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """The real clips with their labels, and a row more for each odd file."""
    root = tmp_path / "data/corpus"
    (root / "clips").mkdir(parents=True)
    shutil.copyfile(MEDIA / "labels.csv", root / "labels.csv")  # not the mode: the originals may be read-only
    for clip in (*MEDIA.glob("clips/*.mp4"), *MEDIA.glob("*.mp4")):
        shutil.copyfile(clip, root / "clips" / clip.name)
    (root / "clips/text.mp4").write_text("not a video")
    (root / "clips/nobody.mp4").write_text("no label mentions it")
    with (root / "labels.csv").open("a", newline="") as file:
        csv.writer(file).writerows((odd, "happy", "", "", "train") for odd in ("no_audio", "no_face_720p", "text"))
    return root


@HERE
def test_tracks_that_will_not_be_used_are_named(tmp_path: Path, corpus: Path, with_a_track_twice: Callable) -> None:
    for name in ("01-02-01-01-01-05", "01-04-01-01-01-16"):
        (corpus / f"clips/{name}.mp4").unlink()
        with_a_track_twice(MEDIA / f"clips/{name}.mp4", corpus / f"clips/{name}.mkv")
    unknown = corpus / f"clips/{name}.mkv"
    unknown.write_bytes(unknown.read_bytes().replace(b"A_AAC", b"A_XXX", 1))
    text = printed(check_corpus(profile(labels=EMOTIONS, max_skipped=0.1), tmp_path))
    assert "Note: 2 clip(s) hold tracks that will not be used, such as 01-0" in text
    assert ": it has 2 audio tracks, of which number 1 was used." in text


@HERE
def test_a_folder_that_dvc_does_not_see_is_named(tmp_path: Path, corpus: Path) -> None:
    elsewhere = (corpus / "clips").rename(tmp_path / "elsewhere")
    (corpus / "clips").mkdir()
    (corpus / "clips/more").symlink_to(elsewhere)
    report = check_corpus(profile(labels=EMOTIONS, max_skipped=0.1), tmp_path)
    assert len(report.clips) == 27
    assert report.remarks[0].startswith("clips/more is a link; DVC does not look behind it, so that `dvc repro -f`")


@HERE
def test_a_good_corpus_with_some_odd_clips(tmp_path: Path, corpus: Path) -> None:
    done: list[int] = []
    report = check_corpus(profile(labels=EMOTIONS, max_skipped=0.1), tmp_path, done.append)
    assert report.faults == ()
    assert sum(done) == len(report.clips) == 27
    assert report.skipped.keys() == {"no_audio", "text"}
    assert report.skipped["no_audio"] == "has no audio track"
    assert "is not a readable video file" in report.skipped["text"]
    assert report.unmentioned == ("clips/nobody.mp4",)
    seconds = report.clips.set_index("name")["seconds"]
    assert seconds[sorted(report.skipped)].isna().all()
    assert seconds.drop(sorted(report.skipped)).between(2, 30).all()
    text = printed(report)
    assert "train: 21 clips, 18 speakers, no valence" in text
    assert "test: 6 clips, 6 speakers, no valence" in text
    assert "text: is not a readable video file" in text
    assert "The corpus is ready" in text
    draw_report(report, tmp_path / "reports/check.png")
    assert (tmp_path / "reports/check.png").read_bytes().startswith(b"\x89PNG")


@HERE
def test_friends_on_both_sides_are_no_fault_of_meld_alone(tmp_path: Path) -> None:
    root = tmp_path / "data/corpus"
    clips = iter(sorted(MEDIA.glob("clips/*.mp4")))
    for part, folder in (
        ("train", "train_splits"),
        ("dev", "dev_splits_complete"),
        ("test", "output_repeated_splits_test"),
    ):
        (root / folder).mkdir(parents=True)
        lines = ["Speaker,Emotion,Dialogue_ID,Utterance_ID"]
        for number in range(4):
            shutil.copyfile(next(clips), root / folder / f"dia0_utt{number}.mp4")
            lines.append(f"{('Ross', 'Rachel')[number % 2]},{('joy', 'fear')[number // 2]},0,{number}")
        (root / f"{part}_sent_emo.csv").write_text("\n".join(lines) + "\n")
    report = check_corpus(profile(kind="meld", labels=("joy", "fear")), tmp_path)
    assert report.faults == ()
    assert report.splits() == ["train", "test", "dev"]
    rows = report.clips[["name", "discrete", "speaker", "split"]]
    rows.to_csv(tmp_path / "labels.csv", index=False)
    for clip, path in zip(report.clips["name"], report.clips["path"], strict=True):
        (root / path).rename(root / f"{clip}.mp4")
    shutil.move(tmp_path / "labels.csv", root)
    again = check_corpus(profile(kind="labelled_folder", labels=("joy", "fear")), tmp_path)
    assert "speaker 'Ross' is in both splits, train and test" in again.faults


def remux(source: Path, target: Path) -> None:
    """The same tracks in another container."""
    with av.open(source) as there, av.open(target, "w") as here:
        tracks = {track.index: here.add_stream_from_template(track) for track in there.streams}
        for packet in there.demux():
            if packet.dts is not None:
                packet.stream = tracks[packet.stream.index]
                here.mux(packet)


@HERE
def test_clips_of_train_that_are_tested_are_named(tmp_path: Path, corpus: Path) -> None:
    """The same file, the same sound in other containers; in train alone, a copy is nobody's business."""
    train = [corpus / "clips" / f"{name}.mp4" for name in ("01-01-01-01-01-01", "01-01-01-01-01-08")]
    shutil.copyfile(train[0], corpus / "clips/copy.mp4")
    shutil.copyfile(train[0], corpus / "clips/twice.mp4")
    remux(train[1], corpus / "clips/other.mkv")
    remux(train[1], corpus / "clips/third.flv")
    with (corpus / "labels.csv").open("a", newline="") as file:
        rows = (("copy", "test"), ("twice", "train"), ("other", "test"), ("third", "dev"))
        csv.writer(file).writerows((name, "happy", "", "", split) for name, split in rows)
    own = profile(labels=EMOTIONS, max_skipped=0.1)
    noisy = CorruptionConfig(noise="speech", snr_low=5.0, snr_high=10.0, blur=(1,), seed=0)
    report = check_corpus(own.model_copy(update={"corruption": {"noisy": noisy}}), tmp_path)
    assert report.faults == (
        "clips/copy.mp4 of test is the same file as clips/01-01-01-01-01-01.mp4 of train: its score would say nothing",
        "clips/other.mkv of test is the same sound as clips/01-01-01-01-01-08.mp4 of train: its score would say "
        "nothing",
        "clips/third.flv of dev is the same sound as clips/01-01-01-01-01-08.mp4 of train: its score would say nothing",
    )


@HERE
def test_a_misnamed_clip_is_skipped_and_not_called_unmentioned(tmp_path: Path) -> None:
    clips = sorted(MEDIA.glob("clips/*.mp4"))
    root = tmp_path / "data/corpus"
    root.mkdir(parents=True)
    for place, clip in enumerate(clips):
        shutil.copyfile(clip, root / f"{1001 + place // 2}_ITH_{('SAD', 'HAP')[place % 2]}_XX.mp4")
    shutil.copyfile(clips[0], root / "1040_ITH_SAD_X.mp4")
    params = profile(kind="cremad", labels=("sad", "happy"))
    report = check_corpus(params, tmp_path)
    assert (report.faults, report.unmentioned) == ((), ())
    reason = "'1040_ITH_SAD_X' is not a name of CREMA-D, such as 1001_DFA_ANG_XX"
    assert report.skipped == {"1040_ITH_SAD_X.mp4": reason}
    assert f"1040_ITH_SAD_X.mp4: {reason}" in printed(report)
    strict = profile(kind="cremad", labels=("sad", "happy"), max_skipped=0.0)
    assert check_corpus(strict, tmp_path).faults == (f"{root}/1040_ITH_SAD_X.mp4: {reason}",)


def bind(path: Path) -> None:
    with socket.socket(socket.AF_UNIX) as made, contextlib.chdir(path.parent):  # a long path is no address
        made.bind(path.name)


LATIN = os.fsdecode(b"caf\xe9")
# What stands beside the clips, and whether a run goes on.
TREES: dict[str, tuple[Callable[[Path], object], bool]] = {
    "nothing": (lambda root: None, True),
    "a linked clip": (lambda root: (root / "l.mp4").symlink_to(MEDIA / "no_audio.mp4"), True),
    "a linked folder": (lambda root: (root / "l").symlink_to(MEDIA / "clips"), True),
    "a folder in itself": (lambda root: (root / "clips/up").symlink_to(".."), True),
    "an empty folder": (lambda root: (root / LATIN).mkdir(), True),
    "odd names": (lambda root: [(root / name).touch() for name in ("a\nb", "a\\b", "\x01", "\u00e9", "e\u0301")], True),
    "hidden files": (lambda root: [(root / name).touch() for name in ("clips/._a.mp4", ".DS_Store", "dvc.yaml")], True),
    "a dangling link of Git": (
        lambda root: [(root / ".git").mkdir(), (root / ".git/l").symlink_to("x")], True
    ),
    "a dangling link": (lambda root: (root / "gone.txt").symlink_to("nowhere"), False),
    "a dangling clip": (lambda root: (root / "clips/gone.mp4").symlink_to("nowhere"), False),
    "a link to itself": (lambda root: (root / "l").symlink_to("l"), False),
    "a name in Latin-1": (lambda root: (root / LATIN).touch(), False),
    "a clip in Latin-1": (lambda root: (root / f"clips/{LATIN}.mp4").touch(), False),
    "a folder in Latin-1": (lambda root: [(root / LATIN).mkdir(), (root / LATIN / "a").touch()], False),
    "a socket": (lambda root: bind(root / "s"), False),
    "settings of DVC": (lambda root: (root / ".dvcignore").touch(), False),
    "a name twice": (lambda root: (root / "clips/no_audio.mov").touch(), False),
    "a label too many": (lambda root: (root / "labels.csv").write_text("name,discrete\nx,happy\n"), False),
    "a table in Latin-1": (lambda root: (root / "labels.csv").write_bytes(b"name,discrete\na,\xe9\n"), False),
    "a title": (lambda root: (root / "labels.csv").write_text("Mine\nname,discrete\na,happy\n"), False),
}  # fmt: skip


@pytest.mark.slow
@HERE
def test_what_is_called_ready_is_hashed_and_read_and_nothing_else(
    tmp_path: Path, corpus: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each bad tree that the tests know, by `mer check`, by DVC's hashing and by the stage `manifest` itself."""
    from dvc.repo import Repo
    from dvc_data.hashfile.build import IgnoreInCollectedDirError

    params = profile(labels=EMOTIONS, max_skipped=0.1)
    monkeypatch.chdir(tmp_path)
    Repo.init(str(tmp_path), no_scm=True)
    (tmp_path / "dvc.yaml").write_text("stages:\n  manifest:\n    cmd: none\n    deps: [data/corpus]\n")
    shutil.move(corpus, tmp_path / "good")
    for tree, (spoil, ready) in TREES.items():
        shutil.copytree(tmp_path / "good", corpus)
        spoil(corpus)
        report = check_corpus(params, tmp_path)
        assert (not report.faults) == ready, (tree, report.faults)
        printed(report).encode()
        assert all(fault.isprintable() for fault in report.faults), tree
        try:
            with Repo(str(tmp_path)) as repo:
                repo.stage.collect("manifest")[0].deps[0].save()
            read_corpus(params.corpus, Path("data/corpus"), params.seed)
            runs = True
        except (OSError, ValueError, IgnoreInCollectedDirError, InputError):
            runs = False
        assert runs == ready, tree
        shutil.rmtree(corpus)


@HERE
def test_of_a_sample_only_so_many_files_are_opened_and_it_says_so(tmp_path: Path, corpus: Path) -> None:
    done: list[int] = []
    asked = profile(labels=EMOTIONS, max_skipped=0.5)
    report = check_corpus(asked, tmp_path, done.append, sample=20)
    assert sum(done) == report.clips["seconds"].notna().sum() + len(report.skipped) == 20
    assert report.unseen == 7
    assert report.unmentioned == ()
    assert "The files of 7 clips were not opened, nor were videos without a label looked for." in printed(report)
    assert check_corpus(asked, tmp_path, sample=20).clips.equals(report.clips)
    whole = check_corpus(asked, tmp_path, sample=99)
    assert (whole.unseen, len(whole.skipped)) == (0, 2)


@HERE
def test_too_many_bad_clips_and_too_few_of_a_class_are_faults(tmp_path: Path, corpus: Path) -> None:
    report = check_corpus(profile(folds=3, labels=(*EMOTIONS, "bored"), max_skipped=0.05), tmp_path)
    text = "\n".join(report.faults)
    assert "2 of 27 clips will be skipped, more than corpus.max_skipped 0.05" in text
    assert "the emotion 'bored' has 0 training clip(s), fewer than the 3 folds" in text
    assert "fault(s) that would stop the run" in printed(report)


@HERE
def test_labels_may_come_from_the_clips_and_limits_hold(tmp_path: Path, corpus: Path) -> None:
    params = profile(labels=(), max_skipped=1.0)
    assert check_corpus(params, tmp_path).labels == tuple(sorted(EMOTIONS))
    strict = params.model_copy(update={"media": params.media.__class__(max_seconds=3.0)})
    skipped = check_corpus(strict, tmp_path).skipped
    assert len(skipped) > 10
    assert any("s, more than 3 s" in reason for reason in skipped.values())


def test_all_faults_of_the_labels_are_listed(tmp_path: Path) -> None:
    (tmp_path / "data/corpus").mkdir(parents=True)
    (tmp_path / "data/corpus/labels.csv").write_text("name,discrete\na,joy\nb,[red]joy\n")
    report = check_corpus(profile(), tmp_path)
    assert len(report.faults) == 2
    assert "[red]joy" in printed(report)  # no markup


@HERE
def test_ready_features_are_looked_for(tmp_path: Path) -> None:
    root = tmp_path / "data/ravdess/corpus"
    root.mkdir(parents=True)
    shutil.copyfile(RAVDESS / "labels.csv", root / "labels.csv")
    params = load_params(ROOT / "profiles/ravdess.yaml")
    assert len(check_corpus(params, tmp_path).faults) == len(params.imported)
    names = [line.split(",")[0] for line in (root / "labels.csv").read_text().splitlines()[1:]]
    for source in params.imported.values():
        (root / source).mkdir(parents=True)
        for name in names:
            (root / source / f"{name}.npy").touch()
    assert check_corpus(params, tmp_path).faults == ()
    (root / "features/mfcc" / f"{names[5]}.npy").unlink()
    (fault,) = check_corpus(params, tmp_path).faults
    assert fault.endswith(f"features/mfcc: {names[5]} is missing from the feature set mfcc")


@pytest.mark.parametrize(("row", "code"), [("a,happy,,s1,train", 2), ("", 0)])
def test_the_exit_code_says_whether_a_run_would_stop(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, mer: Callable[..., tuple[int, str, str]], row: str, code: int
) -> None:
    """Ready features, since these need no video; the wrong row names a clip twice."""
    document = (ROOT / "profiles/ravdess.yaml").read_text()
    (tmp_path / "params.yaml").write_text(document.replace("folds: 5", "folds: 2"))
    root = tmp_path / "data/ravdess/corpus"
    emotions = [f"{emotion},,s{speaker}" for emotion in EMOTIONS for speaker in (1, 2, 3)]
    rows = [f"{'abc'[i % 3]}{i},{text},{'test' if i % 3 == 2 else 'train'}" for i, text in enumerate(emotions)]
    for source in ("logmel", "mfcc", "prosody", "au_intensity", "au_presence"):
        (root / "features" / source).mkdir(parents=True)
        for line in rows:
            np.save(root / "features" / source / f"{line.split(',')[0]}.npy", np.ones(3, np.float32))
    again = [row, row] if row else []
    (root / "labels.csv").write_text("\n".join(["name,discrete,valence,speaker,split", *rows, *again]) + "\n")
    monkeypatch.chdir(tmp_path)
    said = mer("check")
    assert said[0] == code
    assert ("clip 'a' is listed twice" in said[1]) == bool(code)


@HERE
def test_what_extraction_would_refuse_is_said_before(tmp_path: Path, corpus: Path) -> None:
    own = profile(labels=EMOTIONS, max_skipped=0.1)
    noisy = CorruptionConfig(noise="data/corpus/noise", snr_low=5.0, snr_high=10.0, blur=(1,), seed=0)
    hub = replace(own.encoders["hubert"], checkpoint="data/hub/lab/voice@v1")
    wrong = own.model_copy(
        update={
            "synthesize": {},
            "corruption": {"noisy": noisy},
            "media": replace(own.media, detector="data/corpus/yunet.onnx"),
            "encoders": {**own.encoders, "hubert": hub, "words": EncoderConfig("text", "x", transcripts="said.csv")},
        }
    )
    faults = check_corpus(wrong, tmp_path).faults
    for part in (
        "noise holds no sound file",
        "yunet.onnx",
        "corpus/said.csv does not exist",
        "encoders.hubert: the checkpoint data/hub/lab/voice@v1 is missing; `mer fetch` puts it there",
        "encoders.manet: the checkpoint data/demo/encoders/manet.safetensors is missing",
    ):
        assert any(part in fault for fault in faults), faults
    with (corpus / "labels.csv").open("a") as file:
        file.write("nobody,happy,,,test_noisy\n")
    faults = check_corpus(wrong, tmp_path).faults
    assert any("the split 'test_noisy' is taken" in fault for fault in faults), faults


@HERE
def test_a_figure_goes_where_it_can(tmp_path: Path, corpus: Path) -> None:
    report = check_corpus(profile(labels=EMOTIONS), tmp_path)
    draw_report(report, tmp_path / "new/check.png")
    assert (tmp_path / "new/check.png").stat().st_size > 10_000
    with pytest.raises(InputError, match=r"must be a \.png file"):
        draw_report(report, tmp_path / "new")
    with pytest.raises(InputError, match="cannot be written"):
        draw_report(report, corpus / "labels.csv" / "check.png")


@HERE
def test_clips_that_will_be_skipped_do_not_count_and_twins_do(tmp_path: Path, corpus: Path) -> None:
    rows = list(csv.reader((corpus / "labels.csv").read_text().splitlines()))
    disgust = [row[0] for row in rows if row[1] == "disgust"]
    for name in disgust[:2]:
        (corpus / "clips" / f"{name}.mp4").write_text("not a video")
    own = profile(labels=EMOTIONS, max_skipped=0.5)
    noisy = CorruptionConfig(noise="speech", snr_low=5.0, snr_high=10.0, blur=(1,), seed=0)
    report = check_corpus(own.model_copy(update={"corruption": {"noisy": noisy}}), tmp_path)
    assert any("the emotion 'disgust' has" in fault for fault in report.faults)
    tests = report.clips["split"].value_counts()
    assert tests["test_noisy"] == tests["test"]


def ready(tmp_path: Path, rows: list[tuple[str, str, str, str]]) -> CorpusReport:
    """The report on ready features of the clips (emotion, speaker, valence, split)."""
    root = tmp_path / "data/ravdess/corpus"
    params = load_params(ROOT / "profiles/ravdess.yaml")
    for source in params.imported.values():
        (root / source).mkdir(parents=True)
        for number in range(len(rows)):
            (root / source / f"clip{number}.npy").touch()
    lines = [f"clip{number},{','.join(row)}" for number, row in enumerate(rows)]
    (root / "labels.csv").write_text("\n".join(["name,discrete,speaker,valence,split", *lines, ""]))
    params = params.model_copy(update={"folds": 3, "corpus": replace(params.corpus, labels=("sad", "happy"))})
    return check_corpus(params, tmp_path)


def test_a_class_of_one_speaker_is_a_fault(tmp_path: Path) -> None:
    rows = [("sad", who, "", "train") for who in "abcdef"] * 2 + [("happy", "a", "", "train")] * 3
    (fault,) = ready(tmp_path, [*rows, ("sad", "z", "", "test"), ("happy", "z", "", "test")]).faults
    assert fault.startswith(
        "the emotion 'happy' has training clips of one speaker only, 'a': the fold that holds them out"
    )


def test_valence_that_cannot_be_learnt_is_told_and_stops_nothing(tmp_path: Path) -> None:
    rows = [(emotion, who, "", "train") for who in "abcdef" for emotion in ("sad", "happy")]
    report = ready(tmp_path, [*rows, ("sad", "z", "0.5", "test"), ("happy", "z", "1", "test")])
    assert report.faults == ()
    text = " ".join(printed(report).split())
    assert "Note: not every fold trains on clips with a valence, so valence is not learnt, and there is no Dim." in text
    assert "The corpus is ready" in text
