import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from mer_pnao.features.mertools import import_vectors, missing_vectors
from mer_pnao.features.remarks import Remark, read_remarks, write_remarks
from mer_pnao.features.sets import load_sets, read_set, write_identity, write_shard
from mer_pnao.foundations.errors import InputError


@pytest.fixture
def vectors() -> np.ndarray:
    return np.random.default_rng(0).normal(size=(5, 4)).astype(np.float32)


def test_shards_come_back_in_order_to_the_last_bit(tmp_path, vectors):
    write_shard(tmp_path / "s" / "part-00001.parquet", ["d", "e"], vectors[3:])
    write_shard(tmp_path / "s" / "part-00000.parquet", ["c", "a", "b"], vectors[:3])
    write_shard(tmp_path / "s" / "part-00002.parquet", [], vectors[:0])  # a shard whose clips were all skipped
    result = read_set(tmp_path / "s")
    assert result.names == ("c", "a", "b", "d", "e")
    assert result.vectors.dtype == np.float32
    assert result.vectors.shape[1] == 4
    np.testing.assert_array_equal(result.vectors, vectors)


def test_a_shard_has_the_agreed_columns_and_nothing_is_left_beside_it(tmp_path, vectors):
    write_shard(tmp_path / "part-00000.parquet", list("abcde"), vectors)
    schema = pq.read_schema(tmp_path / "part-00000.parquet")
    assert schema.field("name").type == pa.string()
    assert schema.field("vector").type == pa.list_(pa.float32(), 4)
    assert [path.name for path in tmp_path.iterdir()] == ["part-00000.parquet"]


def test_names_must_match_vectors(tmp_path, vectors):
    with pytest.raises(ValueError, match="4 names do not match"):
        write_shard(tmp_path / "part-00000.parquet", list("abcd"), vectors)


def test_sets_are_found_in_whichever_encoder_made_them(tmp_path, vectors):
    write_shard(tmp_path / "voice" / "voice-1" / "part-00000.parquet", list("abcde"), vectors)
    write_shard(tmp_path / "face" / "face" / "part-00000.parquet", list("abcde"), vectors + 1)
    write_shard(tmp_path / ".face.partial" / "face" / "part-00000.parquet", list("ab"), vectors[:2])
    sets = load_sets(tmp_path, ["face", "voice-1"])
    assert list(sets) == ["face", "voice-1"]
    np.testing.assert_array_equal(sets["face"].vectors, vectors + 1)

    with pytest.raises(InputError, match="no encoder has the feature set voice-2"):
        load_sets(tmp_path, ["voice-2"])
    with pytest.raises(InputError, match="not the name of a feature set"):
        load_sets(tmp_path, ["../face"])
    write_shard(tmp_path / "other" / "face" / "part-00000.parquet", list("abcde"), vectors)
    with pytest.raises(InputError, match="feature set face is in both"):
        load_sets(tmp_path, ["face"])


@pytest.mark.parametrize(("value", "what"), [(np.nan, "NaN"), (np.inf, "infinity"), (-np.inf, "infinity")])
def test_values_that_are_not_finite_are_refused_by_clip_and_set(tmp_path, vectors, value, what):
    vectors[3, 2] = value
    write_shard(tmp_path / "voice" / "part-00000.parquet", list("abcde"), vectors)
    with pytest.raises(InputError, match=f"d in the feature set voice holds {what}"):
        read_set(tmp_path / "voice")


def test_another_width_is_refused_by_clip_and_set(tmp_path, vectors):
    write_shard(tmp_path / "voice" / "part-00000.parquet", list("abc"), vectors[:3])
    write_shard(tmp_path / "voice" / "part-00001.parquet", list("de"), vectors[3:, :2])
    with pytest.raises(InputError, match="d in the feature set voice has the width 2 and not 4"):
        read_set(tmp_path / "voice")


def test_a_clip_twice_is_refused(tmp_path, vectors):
    write_shard(tmp_path / "voice" / "part-00000.parquet", list("abc"), vectors[:3])
    write_shard(tmp_path / "voice" / "part-00001.parquet", list("db"), vectors[3:])
    with pytest.raises(InputError, match="b is twice in the feature set voice"):
        read_set(tmp_path / "voice")


def test_what_is_no_shard_is_refused(tmp_path, vectors):
    with pytest.raises(InputError, match="feature set voice has no part"):
        read_set(tmp_path / "voice")
    (tmp_path / "voice").mkdir()
    part = tmp_path / "voice" / "part-00000.parquet"
    part.write_bytes(b"PAR1 not really")
    with pytest.raises(InputError, match=r"part-00000\.parquet is not a readable"):
        read_set(tmp_path / "voice")
    pq.write_table(pa.table({"name": ["a"]}), part)
    with pytest.raises(InputError, match="part-00000"):
        read_set(tmp_path / "voice")
    pq.write_table(pa.table({"name": ["a"], "vector": [[1.0, 2.0]]}), part)
    with pytest.raises(InputError, match="fixed-size list of float32"):
        read_set(tmp_path / "voice")
    fixed = pa.array([[1.0, 2.0]], pa.list_(pa.float32(), 2))
    pq.write_table(pa.table({"name": pa.array([None], pa.string()), "vector": fixed}), part)
    with pytest.raises(InputError, match="empty cells"):
        read_set(tmp_path / "voice")


class TestImport:
    @pytest.fixture
    def source(self, tmp_path, vectors):
        folder = tmp_path / "source" / "mfcc"
        folder.mkdir(parents=True)
        for name, vector in zip("abcde", vectors, strict=True):
            np.save(folder / f"{name}.npy", vector)
        return folder

    def test_vectors_are_copied_in_the_order_of_the_names(self, tmp_path, source, vectors):
        done = []
        made = import_vectors(source, list("dba"), tmp_path / "ready" / "mfcc", done.append)
        assert (made.width, made.averaged, made.remarks) == (4, 0, ())
        result = read_set(tmp_path / "ready" / "mfcc")
        assert result.names == ("d", "b", "a")
        np.testing.assert_array_equal(result.vectors, vectors[[3, 1, 0]])
        assert sum(done) == 3

    def test_more_clips_than_a_shard_holds(self, tmp_path, source, vectors, monkeypatch):
        monkeypatch.setattr("mer_pnao.features.mertools.SHARD_SIZE", 2)
        import_vectors(source, list("abcde"), tmp_path / "out")
        assert len(list((tmp_path / "out").glob("part-*.parquet"))) == 3
        np.testing.assert_array_equal(read_set(tmp_path / "out").vectors, vectors)

    @pytest.mark.parametrize(
        ("content", "message"),
        [
            (np.array([1, np.nan, 3, 4], np.float32), "c in the feature set mfcc holds NaN"),
            (np.array([1, 2, 1e300, 4]), "c in the feature set mfcc holds infinity"),
            (np.zeros(5, np.float32), "c in the feature set mfcc has the width 5 and not 4"),
            (np.zeros((7, 5), np.float32), "c in the feature set mfcc has the width 5 and not 4"),
            (np.zeros((2, 7, 4), np.float32), r"c in the feature set mfcc must be a vector or frames .*\(2, 7, 4\)"),
            (np.zeros((0, 4), np.float32), r"c in the feature set mfcc must be a vector or frames .*\(0, 4\)"),
            (np.zeros((), np.float32), r"c in the feature set mfcc must be a vector or frames .*\(\)"),
            (np.array([[1, 2, 3, 4], [1, 2, np.nan, 4.0]]), "c in the feature set mfcc holds NaN"),
            (np.zeros(4, np.int64), "c in the feature set mfcc must be a vector or frames of floats, not int64"),
            (np.zeros(0, np.float32), "c in the feature set mfcc must be a vector"),
            (np.array([{"a": 1}], dtype=object), "c in the feature set mfcc is not a plain array"),
        ],
    )
    def test_bad_vectors_are_refused_by_clip_and_set(self, tmp_path, source, content, message):
        np.save(source / "c.npy", content)
        with pytest.raises(InputError, match=message):
            import_vectors(source, list("abcde"), tmp_path / "mfcc")

    @pytest.mark.parametrize("content", [b"", b"text", b"\x93NUMPY\x01\x00"])
    def test_broken_files_are_refused(self, tmp_path, source, content):
        (source / "c.npy").write_bytes(content)
        with pytest.raises(InputError, match="c in the feature set mfcc is not a plain array"):
            import_vectors(source, list("abcde"), tmp_path / "mfcc")

    def test_a_missing_clip_is_refused(self, tmp_path, source):
        with pytest.raises(InputError, match="f is missing from the feature set mfcc"):
            import_vectors(source, ["a", "f"], tmp_path / "mfcc")

    def test_frames_are_averaged_whether_in_one_file_or_in_a_folder(self, tmp_path, source, vectors):
        rng = np.random.default_rng(1)
        for name, vector in zip("ab", vectors[:2], strict=True):
            noise = rng.normal(size=(9, 4)).astype(np.float32)
            frames = (np.concatenate([vector + noise, vector - noise])).astype(np.float32)
            (source / f"{name}.npy").unlink()
            if name == "a":
                np.save(source / "a.npy", frames)
            else:
                (source / "b").mkdir()
                for number, frame in enumerate(frames):
                    np.save(source / "b" / f"{number:04d}.npy", frame)
        made = import_vectors(source, list("abc"), tmp_path / "mfcc")
        assert (made.width, made.averaged) == (4, 2)
        np.testing.assert_allclose(read_set(tmp_path / "mfcc").vectors[:2], vectors[:2], rtol=1e-5, atol=1e-6)
        np.testing.assert_array_equal(read_set(tmp_path / "mfcc").vectors[2], vectors[2])

    def test_a_long_clip_is_averaged_in_double_precision(self, tmp_path, source):
        frames = np.full((200_001, 1), 0.1, np.float32)
        np.save(source / "c.npy", frames)
        import_vectors(source, ["c"], tmp_path / "mfcc")
        assert read_set(tmp_path / "mfcc").vectors[0, 0] == np.float32(0.1)

    def test_a_clip_of_zeros_is_taken_and_listed(self, tmp_path, source):
        np.save(source / "c.npy", np.zeros((1, 4), np.float32))
        made = import_vectors(source, list("abc"), tmp_path / "mfcc")
        assert [(entry.name, entry.encoder, entry.action) for entry in made.remarks] == [("c", "mfcc", "all_zero")]

    def test_folders_of_other_frames_are_refused(self, tmp_path, source):
        (source / "f").mkdir()
        with pytest.raises(InputError, match="f in the feature set mfcc has no frame"):
            import_vectors(source, ["f"], tmp_path / "mfcc")
        np.save(source / "f/0.npy", np.zeros(4, np.float32))
        np.save(source / "f/1.npy", np.zeros(3, np.float32))
        with pytest.raises(InputError, match="the frames of f in the feature set mfcc are no vectors alike"):
            import_vectors(source, ["f"], tmp_path / "mfcc")
        (source / "a").mkdir()
        with pytest.raises(InputError, match=r"a is in the feature set mfcc both as a\.npy and as a folder"):
            import_vectors(source, ["a"], tmp_path / "mfcc")

    def test_names_are_found_in_either_unicode_form(self, tmp_path, source, vectors):
        np.save(source / "u\u0308.npy", vectors[0])
        import_vectors(source, ["\u00fc"], tmp_path / "mfcc")
        np.testing.assert_array_equal(read_set(tmp_path / "mfcc").vectors[0], vectors[0])

    def test_missing_clips_are_named_before_an_import(self, source, tmp_path):
        (source / "g").mkdir()
        assert missing_vectors(source, list("afgh")) == ["f", "h"]
        with pytest.raises(InputError, match="nowhere is not a folder of features"):
            missing_vectors(tmp_path / "nowhere", ["a"])

    def test_a_name_never_leaves_the_folder(self, tmp_path, source):
        np.save(tmp_path / "secret.npy", np.zeros(4, np.float32))
        with pytest.raises(InputError, match="must not hold a path"):
            import_vectors(source, ["../../secret"], tmp_path / "mfcc")

    def test_no_clips_are_refused(self, tmp_path, source):
        with pytest.raises(InputError, match="no clips to import"):
            import_vectors(source, [], tmp_path / "mfcc")


def test_listed_clips_come_back(tmp_path):
    listed = (
        Remark("a", "hubert", "skipped", 'says "no", and more'),
        Remark("b", "manet", "whole_frame", "no face was found"),
    )
    write_identity(tmp_path / "out", {"kind": "hubert", "sets": {"hubert-1": 3}}, listed)
    assert read_remarks(tmp_path / "out" / "skipped.csv") == listed
    text = (tmp_path / "out" / "skipped.csv").read_text()
    assert text.splitlines()[0] == "name,encoder,action,reason"
    write_remarks(tmp_path / "none.csv", [])
    assert read_remarks(tmp_path / "none.csv") == ()


def test_a_table_of_another_form_is_refused(tmp_path):
    (tmp_path / "skipped.csv").write_text("clip,why\na,b\n")
    with pytest.raises(InputError, match=r"skipped\.csv is not a table"):
        read_remarks(tmp_path / "skipped.csv")
    with pytest.raises(InputError, match=r"absent\.csv is not a table"):
        read_remarks(tmp_path / "absent.csv")
