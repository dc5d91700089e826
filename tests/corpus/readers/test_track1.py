"""MER 2024 to 2026 as they are released: only the clips that a list names, whatever else the folder holds."""

from pathlib import Path

import pytest

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import CorpusError, write_manifest
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.corpus.readers.track1 import read_track1
from mer_pnao.foundations.errors import InputError

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
YEARS = {  # train's table, its folder, candidates, their folder, labels afterwards
    "mer2024": (
        "label-disdim.csv",
        "video-labeled",
        "candidate_20000.csv",
        "video-unlabeled-with-test2noise",
        "reference-semi.csv",
    ),
    "mer2025": ("track1_train_disdim.csv", "video", "track_all_candidates.csv", "video", "track1_test_dis.csv"),
    "mer2026": ("track1_train.csv", "video", "track1_track2_candidate.csv", "video", "track1_test.csv"),
}


def release(root: Path, year: str) -> Path:
    """60 training clips, 12 candidates, 200 videos that no list names; sound, crops and subtitles as released."""
    table, trained, candidates, videos, _ = YEARS[year]
    for folder in {trained, videos, "audio", "openface_face/sample_000"}:
        (root / folder).mkdir(parents=True, exist_ok=True)
    names = [f"sample_{i:03d}" for i in range(272)]
    for i, name in enumerate(names):
        (root / (trained if i < 60 else videos) / f"{name}.mp4").touch()
        (root / "audio" / f"{name}.wav").touch()
    valence = "" if year == "mer2026" else ",valence"
    rows = [f"{name},{LABELS[i % 6]}{valence and ',0.5'}" for i, name in enumerate(names[:60])]
    (root / table).write_text("\n".join([f"name,discrete{valence}", *rows]) + "\n")
    (root / candidates).write_text("\n".join(["name", *names[60:72]]) + "\n")
    (root / "subtitle_chieng.csv").write_text("name,chinese,english\n")
    return root


def config(year: str, **changes: object) -> CorpusConfig:
    return CorpusConfig(kind=year, root="x", labels=LABELS, **changes)  # type: ignore[arg-type]


@pytest.mark.parametrize("year", YEARS)
def test_before_the_labels_are_out_a_share_of_train_is_held_out(tmp_path: Path, year: str) -> None:
    table = read_corpus(config(year), release(tmp_path, year), 0)
    assert table["split"].value_counts().to_dict() == {"train": 48, "test": 12, "candidates": 12}
    assert table.loc[table["split"] == "test", "discrete"].value_counts().to_dict() == dict.fromkeys(LABELS, 2)
    candidates = table[table["split"] == "candidates"]
    assert candidates["name"].tolist() == [f"sample_{i:03d}" for i in range(60, 72)]  # as listed
    assert set(candidates["discrete"]) == {""}
    assert table["path"].tolist()[0] == f"{YEARS[year][1]}/sample_000.mp4"
    assert candidates["path"].tolist()[0] == f"{YEARS[year][3]}/sample_060.mp4"
    assert table["valence"].notna().sum() == (0 if year == "mer2026" else 60)
    write_manifest(table, tmp_path / "manifest.csv")


@pytest.mark.parametrize("year", YEARS)
def test_labels_that_came_out_are_the_test_split(tmp_path: Path, year: str) -> None:
    root = release(tmp_path, year)
    (root / YEARS[year][4]).write_text("name,discrete\nsample_070,sad\nsample_065,angry\n")
    table = read_corpus(config(year), root, 0)
    assert table["split"].value_counts().to_dict() == {"train": 60, "test": 2, "candidates": 10}
    test = table[table["split"] == "test"]
    assert test[["name", "discrete"]].to_numpy().tolist() == [["sample_070", "sad"], ["sample_065", "angry"]]
    assert test["valence"].isna().all()
    (root / YEARS[year][2]).unlink()
    assert read_corpus(config(year), root, 0)["split"].value_counts().to_dict() == {"train": 60, "test": 2}


def test_the_noisy_labels_of_2024_are_a_further_split(tmp_path: Path) -> None:
    root = release(tmp_path, "mer2024")
    (root / "reference-noise.csv").write_text("name,discrete\nsample_061,happy\n")
    table = read_corpus(config("mer2024"), root, 0)
    assert table["split"].value_counts().to_dict() == {"train": 48, "test": 12, "candidates": 11, "noise": 1}


def test_videos_may_lie_in_folders_below_and_columns_of_stand_ins_are_left_alone(tmp_path: Path) -> None:
    root = release(tmp_path, "mer2026")
    inner = root / "video/video_track1_track2_candidate/video"
    inner.mkdir(parents=True)
    (root / "video/sample_060.mp4").rename(inner / "sample_060.mp4")
    (root / "track1_track2_candidate.csv").write_text("name,discrete\nsample_060,unknown\n")
    table = read_track1(root, LABELS, "mer2026")
    last = table.iloc[-1]
    assert last[["path", "discrete"]].tolist() == [f"{inner.relative_to(root)}/sample_060.mp4", ""]


def test_faults_of_all_lists_are_named(tmp_path: Path) -> None:
    root = release(tmp_path, "mer2025")
    (root / "video/sample_003.mp4").unlink()
    (root / "track1_test_dis.csv").write_text("name,discrete\nsample_060,joyful\n")
    (root / "track_all_candidates.csv").write_text("clip\nsample_060\n")
    with pytest.raises(CorpusError) as raised:
        read_track1(root, LABELS, "mer2025")
    first, second, third = (fault.replace(f"{root}/", "") for fault in raised.value.faults)
    assert first == "track1_train_disdim.csv, row 5: video holds no clip 'sample_003'"
    assert second.startswith("track1_test_dis.csv, row 2: label 'joyful' of clip 'sample_060' is none of neutral")
    assert third == "track_all_candidates.csv has no column 'name', only 'clip'"


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("name\nsample_000\n", r"names clip 'sample_000' in two of its lists"),
        ("name\nsample_060\nsample_060\n", r"candidates\.csv, row 3: clip 'sample_060' is listed twice"),
        ("name\n", r"track_all_candidates\.csv lists no clip"),
        ("name\nnowhere\n", r"track_all_candidates\.csv, row 2: .*video holds no clip 'nowhere'"),
    ],
)
def test_wrong_candidates_are_refused(tmp_path: Path, names: str, message: str) -> None:
    root = release(tmp_path, "mer2025")
    (root / "track_all_candidates.csv").write_text(names)
    with pytest.raises(InputError, match=message):
        read_track1(root, LABELS, "mer2025")


def test_a_release_without_its_table_is_refused(tmp_path: Path) -> None:
    root = release(tmp_path, "mer2026")
    (root / "track1_train.csv").unlink()
    with pytest.raises(InputError, match=r"track1_train\.csv does not exist"):
        read_track1(root, LABELS, "mer2026")
