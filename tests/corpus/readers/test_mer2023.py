"""The release of MER 2023: a tree of its exact size and class counts, and each part that may be absent."""

import itertools
import shutil
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import CorpusError, read_manifest, write_manifest
from mer_pnao.corpus.readers.mer2023 import read_release
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import check_clip

LABELS = ("neutral", "angry", "happy", "sad", "worried", "surprise")
COUNTS = {  # of the published label files, in the order of LABELS
    "train": (871, 822, 689, 383, 462, 146),
    "test1": (88, 105, 93, 50, 57, 18),
    "test2": (123, 98, 87, 40, 52, 12),
    "test3": (166, 183, 169, 257, 45, 14),
}
SPLITS = {"train": "train", "test1": "test", "test2": "noise", "test3": "semi"}
REAL = Path(__file__).parents[4] / "shared/data/media/clips"


def write_part(root: Path, part: str, counts: Sequence[int], valence: str = "-1.25") -> None:
    """Touched files, .mp4 and .avi by turns, and the label CSV of a part; `valence` "absent": no such column."""
    (root / part).mkdir(parents=True)
    emotions = [label for label, count in zip(LABELS, counts, strict=True) for _ in range(count)]
    lines = ["name,discrete" + ("" if valence == "absent" else ",valence")]
    for number, emotion in enumerate(emotions):
        (root / part / f"{part}_{number:05d}{'.avi' if number % 2 else '.mp4'}").touch()
        lines.append(f"{part}_{number:05d},{emotion}" + ("" if valence == "absent" else f",{valence}"))
    (root / f"{part}-label.csv").write_text("\n".join(lines) + "\n")


@pytest.fixture
def small(tmp_path: Path) -> Path:
    for part in COUNTS:
        write_part(tmp_path / "mer", part, (2, 2, 2, 2, 2, 2))
    return tmp_path / "mer"


def test_a_release_of_full_size(tmp_path: Path) -> None:
    for part, counts in COUNTS.items():
        write_part(tmp_path, part, counts, "-10" if part == "test3" else "0.25")
    for number in range(50):
        (tmp_path / "test3" / f"unlabelled_{number}.mp4").touch()
    write_manifest(read_release(tmp_path, LABELS), tmp_path / "out/manifest.csv")
    table = read_manifest(tmp_path / "out/manifest.csv")
    assert table["split"].value_counts(sort=False).to_dict() == {"train": 3373, "test": 411, "noise": 412, "semi": 834}
    for part, split in SPLITS.items():
        clips = table[table["split"] == split]
        assert tuple((clips["discrete"] == label).sum() for label in LABELS) == COUNTS[part]
        assert all((tmp_path / path).is_file() for path in clips["path"])
        assert clips["path"].str.startswith(f"{part}/").all()
        assert clips["valence"].isna().all() == (split == "semi")


def test_a_test_set_without_labels_is_there_to_be_predicted(small: Path) -> None:
    (small / "test2-label.csv").unlink()
    (small / "test3-label.csv").write_text("name,discrete,valence\ntest3_00001,,\ntest3_00002,sad,-10\n")
    table = read_release(small, LABELS)
    noise, semi = (table[table["split"] == split] for split in ("noise", "semi"))
    assert len(noise) == 12
    assert set(noise["discrete"]) == {""}
    assert noise["valence"].isna().all()
    assert semi["name"].tolist() == ["test3_00001", "test3_00002"]
    assert semi["discrete"].tolist() == ["", "sad"]
    write_manifest(table, small / "manifest.csv")


def test_further_test_sets_may_be_absent_but_not_train_or_multi(small: Path) -> None:
    for part in ("test2", "test3"):
        shutil.rmtree(small / part)
        (small / f"{part}-label.csv").unlink()
    assert set(read_release(small, LABELS)["split"]) == {"train", "test"}
    shutil.rmtree(small / "test1")
    (small / "train-label.csv").unlink()
    with pytest.raises(CorpusError) as raised:
        read_release(small, LABELS)
    first, second = raised.value.faults
    assert first.endswith("train-label.csv does not exist")
    assert second.endswith("test1 is not a folder")


def test_without_labels_of_multi_a_part_of_train_is_the_test_split(small: Path) -> None:
    (small / "test1-label.csv").unlink()
    table = read_corpus(CorpusConfig(kind="mer2023", root="x", labels=LABELS, test_share=0.5), small, 0)
    assert table["split"].value_counts().to_dict() == {"train": 6, "test": 6, "multi": 12, "noise": 12, "semi": 12}
    for split in ("train", "test"):  # of two clips each one is drawn
        assert table.loc[table["split"] == split, "discrete"].value_counts().to_dict() == dict.fromkeys(LABELS, 1)
    assert set(table.loc[table["split"] == "multi", "discrete"]) == {""}


def test_a_valence_may_be_absent_as_a_column(tmp_path: Path) -> None:
    for part in ("train", "test1", "test3"):
        write_part(tmp_path, part, (1, 1, 1, 1, 1, 1), "absent" if part == "test3" else "2")
    assert np.isnan(read_release(tmp_path, LABELS)["valence"]).sum() == 6


def test_faults_of_all_parts_are_kept(small: Path) -> None:
    (small / "train/train_00003.avi").unlink()
    (small / "test2/test2_00000.mp4").unlink()
    (small / "test1-label.csv").write_text("name,discrete\ntest1_00000,joyful\n")
    with pytest.raises(CorpusError) as raised:
        read_release(small, LABELS)
    places = [fault.split(str(small))[1].split(":")[0] for fault in raised.value.faults]
    assert places == ["/train-label.csv, row 5", "/test1-label.csv, row 2", "/test2-label.csv, row 2"]


def test_a_name_in_two_parts_is_refused(small: Path) -> None:
    (small / "test1/train_00000.mp4").touch()
    with (small / "test1-label.csv").open("a") as file:
        file.write("train_00000,sad,1\n")
    with pytest.raises(
        InputError, match=r"clip 'train_00000' twice: train/train_00000\.mp4 and test1/train_00000\.mp4"
    ):
        read_release(small, LABELS)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real clips in ../shared/data are not here")
def test_a_release_of_real_clips(tmp_path: Path) -> None:
    """24 real videos dealt to the four parts; each is found, and its header can be read."""
    clips = sorted(REAL.glob("*.mp4"))
    lines: dict[str, list[str]] = {part: ["name,discrete,valence"] for part in COUNTS}
    for clip, part, label in zip(clips, itertools.cycle(COUNTS), itertools.cycle(LABELS), strict=False):
        (tmp_path / part).mkdir(exist_ok=True)
        (tmp_path / part / clip.name).symlink_to(clip.resolve())
        lines[part].append(f"{clip.stem},{label},{'-10' if part == 'test3' else '0.5'}")
    for part, rows in lines.items():
        (tmp_path / f"{part}-label.csv").write_text("\n".join(rows) + "\n")
    table = read_release(tmp_path, LABELS)
    assert table["split"].value_counts(sort=False).to_dict() == {"train": 6, "test": 6, "noise": 6, "semi": 6}
    for path in table["path"]:
        check_clip(tmp_path / path, MediaLimits())
