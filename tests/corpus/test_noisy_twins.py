import pandas as pd
import pytest

from mer_pnao.corpus.manifest import read_manifest, write_manifest
from mer_pnao.corpus.noisy_twins import noisy_split, with_noisy_twins
from mer_pnao.foundations.errors import InputError


@pytest.fixture
def table() -> pd.DataFrame:
    rows = [("a", "a.mp4", "happy", 1.0, "s1", "train"), ("b", "b.mp4", "sad", -1.0, "s2", "test")]
    rows.append(("c", "sub/c.mp4", "happy", float("nan"), "", "test"))
    return pd.DataFrame(rows, columns=["name", "path", "discrete", "valence", "speaker", "split"])


def test_each_test_clip_has_a_twin_of_its_own_file_in_the_corruptions_split(table, tmp_path):
    write_manifest(with_noisy_twins(table, ["noisy", "loud"]), tmp_path / "manifest.csv")
    result = read_manifest(tmp_path / "manifest.csv")
    assert list(result["name"]) == ["a", "b", "c", "b_noisy", "c_noisy", "b_loud", "c_loud"]
    pd.testing.assert_frame_equal(result[:3], table)
    for corruption in ("noisy", "loud"):
        twins = result[result["split"] == noisy_split(corruption)].reset_index(drop=True)
        clean = table[1:].reset_index(drop=True)
        same = ["path", "discrete", "valence", "speaker"]
        pd.testing.assert_frame_equal(twins[same], clean[same])


def test_without_a_corruption_the_manifest_is_as_before(table):
    pd.testing.assert_frame_equal(with_noisy_twins(table, {}), table)


def test_names_that_are_taken_are_refused(table):
    with pytest.raises(
        InputError, match=r"clip 'b_noisy' has the name of a noisy twin; give corruption\.noisy another"
    ):
        with_noisy_twins(table.assign(name=["b_noisy", "b", "c"]), ["noisy"])
    with pytest.raises(InputError, match="the split 'test_noisy' is taken"):
        with_noisy_twins(table.assign(split=["test_noisy", "test", "test"]), ["noisy"])
