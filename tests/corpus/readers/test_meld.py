"""MELD's official clips: three tables, three folders, names that are the official baseline's."""

import shutil
from pathlib import Path

import pytest

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.corpus.manifest import CorpusError, read_manifest, write_manifest
from mer_pnao.corpus.readers.meld import read_meld
from mer_pnao.corpus.readers.sources import read_corpus
from mer_pnao.foundations.errors import InputError

LABELS = ("neutral", "joy", "surprise", "anger", "sadness", "disgust", "fear")
HEADER = "Sr No.,Utterance,Speaker,Emotion,Sentiment,Dialogue_ID,Utterance_ID,Season,Episode,StartTime,EndTime\n"
ROWS = {
    "train": ("Chandler,neutral,neutral,0,0", "The Interviewer,joy,positive,0,1", "Ross \x92,fear,negative,12,10"),
    "dev": ("Phoebe,sadness,negative,0,0", "Phoebe,neutral,neutral,110,7", "Ross,anger,negative,111,0"),
    "test": ("Joey,surprise,positive,0,0", "Chandler,disgust,negative,0,1"),
}
FOLDERS = {"train": "train_splits", "dev": "dev_splits_complete", "test": "output_repeated_splits_test"}


@pytest.fixture
def release(tmp_path: Path) -> Path:
    """A few rows of each part; the one clip that no download has is not there, one that no table has is."""
    root = tmp_path / "MELD.Raw"
    for part, rows in ROWS.items():
        (root / FOLDERS[part]).mkdir(parents=True)
        lines = [
            f'{i},"Oh, I\x92m ""fine"", really.",{row},8,21,"00:16:16,059","00:16:21,731"'
            for i, row in enumerate(rows, 1)
        ]
        (root / f"{part}_sent_emo.csv").write_text(HEADER + "\n".join(lines) + "\n", encoding="utf-8")
        for row in rows:
            dialogue, number = row.split(",")[-2:]
            if (part, dialogue) != ("dev", "110"):
                (root / FOLDERS[part] / f"dia{dialogue}_utt{number}.mp4").touch()
    (root / FOLDERS["test"] / "final_videos_testdia0_utt0.mp4").touch()
    (root / FOLDERS["test"] / "._dia0_utt0.mp4").touch()
    return root


def test_every_listed_clip_that_was_released_is_there(release: Path) -> None:
    table = read_meld(release, LABELS)
    assert table[["name", "path", "discrete", "speaker", "split"]].to_numpy().tolist() == [
        ["train_dia0_utt0", "train_splits/dia0_utt0.mp4", "neutral", "Chandler", "train"],
        ["train_dia0_utt1", "train_splits/dia0_utt1.mp4", "joy", "The Interviewer", "train"],
        ["train_dia12_utt10", "train_splits/dia12_utt10.mp4", "fear", "Ross", "train"],
        ["val_dia0_utt0", "dev_splits_complete/dia0_utt0.mp4", "sadness", "Phoebe", "dev"],
        ["val_dia111_utt0", "dev_splits_complete/dia111_utt0.mp4", "anger", "Ross", "dev"],
        ["test_dia0_utt0", "output_repeated_splits_test/dia0_utt0.mp4", "surprise", "Joey", "test"],
        ["test_dia0_utt1", "output_repeated_splits_test/dia0_utt1.mp4", "disgust", "Chandler", "test"],
    ]
    assert table["valence"].isna().all()


def test_friends_are_in_train_and_test_and_dev_may_be_trained_on(release: Path, tmp_path: Path) -> None:
    config = CorpusConfig(kind="meld", root="x", labels=LABELS, validation="train")
    table = read_corpus(config, release, 0)
    write_manifest(table, tmp_path / "manifest.csv", config.shares_speakers)
    assert read_manifest(tmp_path / "manifest.csv")["split"].tolist() == ["train"] * 5 + ["test"] * 2
    with pytest.raises(InputError, match="speaker 'Chandler' is in both splits, train and test"):
        write_manifest(table, tmp_path / "manifest.csv")


def test_parts_may_lie_as_their_archives_unpack(release: Path) -> None:
    before = read_meld(release, LABELS)
    for part, folder in FOLDERS.items():
        (release / part).mkdir()
        shutil.move(release / folder, release / part)
    shutil.move(release / "train_sent_emo.csv", release / "train")
    after = read_meld(release, LABELS)
    assert after["name"].tolist() == before["name"].tolist()
    assert after["path"].tolist()[0] == "train/train_splits/dia0_utt0.mp4"


def test_what_is_wrong_is_said_of_every_part(release: Path) -> None:
    (release / "train_splits/dia0_utt1.mp4").unlink()
    shutil.rmtree(release / "dev_splits_complete")
    table = release / "test_sent_emo.csv"
    table.write_text(table.read_text().replace("Speaker", "Who"))
    with pytest.raises(CorpusError) as raised:
        read_meld(release, LABELS)
    first, second, third = raised.value.faults
    assert first.endswith("train_sent_emo.csv, row 3: " + f"{release / 'train_splits'} holds no clip 'dia0_utt1'")
    assert second.endswith("dev_splits_complete is not a folder")
    assert "test_sent_emo.csv has no column 'Speaker', only 'Sr No.', 'Utterance', 'Who'" in third
    table.write_text(HEADER)
    with pytest.raises(CorpusError) as raised:
        read_meld(release, LABELS[:3])
    assert raised.value.faults[-1].endswith("test_sent_emo.csv lists no clip")
    assert "label 'fear' of clip 'dia12_utt10' is none of neutral, joy, surprise" in raised.value.faults[0]
