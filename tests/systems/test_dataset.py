"""Manifest and features joined: order, skipped clips, unknown speakers."""

import hashlib
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from mer_pnao.corpus.manifest import COLUMNS, write_manifest
from mer_pnao.features.sets import write_shard
from mer_pnao.foundations.errors import InputError
from mer_pnao.params.profile import FeatureParams, Params
from mer_pnao.systems.dataset import Dataset, dataset_of, load_dataset, remarks_on, whole_dataset_of
from mer_pnao.training.examples import UNLABELLED
from mer_pnao.training.folds import UNLEARNT

LABELS = ("calm", "loud")
ROWS = [
    ("c", "", "loud", 1.5, "s1", "train"),
    ("a", "", "calm", np.nan, "s1", "train"),
    ("NA", "", "loud", 0.0, "", "train"),
    ("d", "", "calm", 2.0, "s2", "test"),
]


def load(tmp_path: Path, rows: list[tuple[object, ...]] = ROWS, without: dict[str, str] | None = None) -> Dataset:
    write_manifest(pd.DataFrame(rows, columns=list(COLUMNS)), tmp_path / "manifest.csv")
    names = [str(row[0]) for row in rows]
    shutil.rmtree(tmp_path / "features", ignore_errors=True)
    for number, name in enumerate(("x", "y")):
        kept = [clip for clip in names if (without or {}).get(name) != clip]
        vectors = np.array([[names.index(clip), number] for clip in kept], dtype=np.float32)
        write_shard(tmp_path / "features" / f"encoder{number}" / name / "part-00000.parquet", kept, vectors)
    return load_dataset(tmp_path / "manifest.csv", tmp_path / "features", ("x", "y"), LABELS)


def test_rows_of_all_arrays_belong_to_one_clip(tmp_path: Path) -> None:
    train = load(tmp_path).train
    assert train.names == ("NA", "a", "c")
    assert train.features["x"].tolist() == [[2, 0], [1, 0], [0, 0]]
    assert train.emotion.tolist() == [1, 0, 1]
    assert train.valence.tolist()[::2] == [0.0, 1.5]
    assert np.isnan(train.valence[1])


def test_a_clip_of_an_unknown_speaker_leaves_the_others_grouped(tmp_path: Path) -> None:
    speakers = load(tmp_path).train.speakers
    assert speakers is not None
    assert speakers[1] == speakers[2] == "s1"
    assert speakers[0] not in ("", "s1")


def test_without_any_speaker_there_are_no_groups(tmp_path: Path) -> None:
    assert load(tmp_path, [(*row[:4], "", row[5]) for row in ROWS]).train.speakers is None


def test_a_clip_that_an_encoder_skipped_is_left_out(tmp_path: Path) -> None:
    assert load(tmp_path, without={"y": "a"}, rows=[*ROWS, ("e", "", "calm", 0.5, "s1", "train")]).train.names == (
        "NA",
        "c",
        "e",
    )


def test_a_split_or_a_class_without_clips_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no clip of the split 'test'"):
        load(tmp_path, without={"x": "d"})
    with pytest.raises(InputError, match="no training clip with the label 'calm'"):
        load(tmp_path, without={"x": "a"})


def test_the_digest_sees_every_part(tmp_path: Path) -> None:
    digests = {load(tmp_path).digest}
    for change in (
        ("c", "", "calm", 1.5, "s1", "train"),
        ("c", "", "loud", 1.25, "s1", "train"),
        ("c", "", "loud", 1.5, "s3", "train"),
    ):
        digests.add(load(tmp_path, [change, *ROWS[1:]]).digest)
    assert len(digests) == 4


FURTHER = [
    ("n2", "", "calm", 0.5, "", "noise"),
    ("u", "", "", np.nan, "s2", "wild"),
    ("n1", "", "", np.nan, "", "noise"),
]


def test_further_splits_come_in_the_order_of_the_manifest_with_unlabelled_clips(tmp_path: Path) -> None:
    dataset = load(tmp_path, [FURTHER[1], *ROWS, FURTHER[0], FURTHER[2]])
    assert list(dataset.tests) == ["test", "wild", "noise"]
    assert dataset.others["noise"].names == ("n1", "n2")
    assert dataset.others["noise"].emotion.tolist() == [UNLABELLED, 0]
    assert dataset.others["wild"].emotion.tolist() == [UNLABELLED]
    assert dataset.others["noise"].features["x"].tolist() == [[6, 0], [5, 0]]
    with pytest.raises(InputError, match="no clip of the split 'wild'"):
        load(tmp_path, [*ROWS, *FURTHER], without={"x": "u"})


def test_without_further_splits_the_digest_is_that_of_two_splits_and_with_them_it_sees_each(tmp_path: Path) -> None:
    """Recorded runs keep their identity."""
    plain = load(tmp_path)
    text = "\0".join([plain.train.digest(), plain.test.digest(), *LABELS])
    assert plain.digest == hashlib.sha256(text.encode()).hexdigest()
    renamed = [(*row[:5], "other" if row[5] == "noise" else row[5]) for row in FURTHER]
    relabelled = [(*FURTHER[0][:2], "loud", *FURTHER[0][3:]), *FURTHER[1:]]
    tables = [ROWS, [*ROWS, *FURTHER], [*ROWS, FURTHER[0]], [*ROWS, *renamed], [*ROWS, *relabelled]]
    assert len({load(tmp_path, table).digest for table in tables}) == len(tables)


def test_labels_come_from_the_training_clips_where_none_are_named(tmp_path: Path) -> None:
    load(tmp_path, [*ROWS, *FURTHER])
    places = tmp_path / "manifest.csv", tmp_path / "features"
    assert load_dataset(*places, ("x", "y"), ()).labels == LABELS
    assert load_dataset(*places, ("x", "y"), ()).digest == load_dataset(*places, ("x", "y"), LABELS).digest
    with pytest.raises(InputError, match=r"manifest\.csv: label 'shrill' of clip 'z' is none of calm, loud"):
        load(tmp_path, [*ROWS, ("z", "", "shrill", 0.0, "", "noise")])
    with pytest.raises(InputError, match="label 'shrill' of clip 'z' is none of calm, loud"):
        load_dataset(*places, ("x", "y"), ())
    text = places[0].read_text()
    places[0].write_text(text.replace(",calm,2.0,", ",,,"))
    with pytest.raises(InputError, match="clip 'd' has no label, as only clips of further test splits may"):
        load_dataset(*places, ("x", "y"), LABELS)


def of_speakers(valences: list[float]) -> list[tuple[object, ...]]:
    """Two training clips of each of as many speakers, one an emotion, and two test clips."""
    train = [
        (f"{label}{who}", "", label, valence, f"s{who}", "train")
        for who, valence in enumerate(valences)
        for label in LABELS
    ]
    return [*train, ("t0", "", "calm", 1.0, "t", "test"), ("t1", "", "loud", -1.0, "t", "test")]


@pytest.mark.parametrize(
    ("valences", "learnt"),
    [([np.nan] * 4, False), ([1.0, np.nan, np.nan, np.nan], False), ([1.0, np.nan, -1.0, np.nan], True)],
)
def test_valence_that_some_fold_could_not_learn_is_left_out_and_it_is_said(
    valences: list[float],
    learnt: bool,
    small_profile: Params,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """On test clips only, or known to one speaker only, whom a fold holds out: an untrained head is not scored."""
    params = of_profile(of_speakers(valences), small_profile, tmp_path, monkeypatch)
    dataset = dataset_of(params)
    assert (dataset.train.has_valence, dataset.test.has_valence) == (learnt, learnt)
    remarks = list(remarks_on(whole_dataset_of(params), params))
    assert (UNLEARNT in remarks) is not learnt  # the test clips have one


def of_profile(
    rows: list[tuple[object, ...]], profile: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Params:
    """A profile with these rows, below the working directory."""
    tmp_path.mkdir(exist_ok=True)
    monkeypatch.chdir(tmp_path)
    params = profile.model_copy(
        update={
            "folds": 4,
            "corpus": replace(profile.corpus, labels=LABELS),
            "features": FeatureParams(("x",), ("y",), (), "own"),
        }
    )
    params.data.mkdir(parents=True)
    load(params.data, rows)
    return params


def test_values_that_are_cut_are_counted(
    small_profile: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Far values of the set x, whose first dimension varies; of y, where it does too, and the second is constant."""
    rows = of_speakers([1.0, 2.0, 3.0, 4.0])
    near = of_profile(rows, small_profile, tmp_path / "near", monkeypatch)
    assert list(remarks_on(whole_dataset_of(near), near)) == []
    far = [*rows[:-1], *((f"far{i}", "", "calm", 1.0, "t", "further") for i in range(2000)), rows[-1]]
    params = of_profile(far, small_profile, tmp_path / "far", monkeypatch)
    remarks = list(remarks_on(whole_dataset_of(params), params))
    (beyond,) = [
        each for each in remarks if "values of the set 'x' in the split 'further' lie farther than 100" in each
    ]
    assert 0 < int(beyond.split()[0]) < 2000
    shard = params.data / "features/encoder0/x/part-00000.parquet"
    names = [str(row[0]) for row in far]
    write_shard(shard, names, np.array([[0, 1e6 if name == "far7" else 5] for name in names], np.float32))
    (odd,) = [each for each in remarks_on(whole_dataset_of(params), params) if "set 'x'" in each]
    assert odd.startswith("1 values")  # one differs where the training clips do not
