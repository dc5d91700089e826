import json
import os
from concurrent.futures import Future
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
import torch

from mer_pnao.extraction.engine import on_this_machine
from mer_pnao.extraction.extract import extract
from mer_pnao.extraction.shards import Clip, grouped, shard_folders
from mer_pnao.features.remarks import read_remarks
from mer_pnao.features.sets import load_sets, read_set
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import digest


def tree(folder: Path) -> dict[str, bytes]:
    return {str(p.relative_to(folder)): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


TEXTS = ["one", "odd two", "three", "bad four", "five", "six", "seven"]


def test_each_clip_has_its_own_vector_in_every_set(tmp_path, stub, write_clips, expected_vector):
    clips = write_clips(TEXTS)
    done = []
    report = extract(
        clips,
        stub(),
        tmp_path / "features" / "stub",
        tmp_path / "work",
        3,
        max_skipped=0.2,
        progress=done.append,
    )
    sets = load_sets(tmp_path / "features", ["stub-a", "stub-b"])
    for name, sign in (("stub-a", 1), ("stub-b", -1)):
        assert sorted(sets[name].names) == [f"clip{number}" for number in range(7) if number != 3]
        expected = [sign * expected_vector(TEXTS[int(clip[-1])].encode()) for clip in sets[name].names]
        np.testing.assert_array_equal(sets[name].vectors, expected)
    assert sum(done) == 7
    assert (report.clips, report.skipped, dict(report.sets)) == (7, 1, {"stub-a": 3, "stub-b": 3})


def test_clips_that_are_skipped_or_lack_a_face_are_listed_with_the_reason(tmp_path, stub, write_clips):
    report = extract(write_clips(TEXTS), stub(), tmp_path / "out", tmp_path / "work", 3, max_skipped=0.2)
    listed = read_remarks(tmp_path / "out" / "skipped.csv")
    assert listed == report.remarks
    assert [(entry.name, entry.encoder, entry.action, entry.reason) for entry in listed] == [
        ("clip1", "stub", "whole_frame", "no face was found"),
        ("clip3", "stub", "skipped", "is damaged"),
    ]
    assert json.loads((tmp_path / "out" / "identity.json").read_text()) == stub().identity


def test_a_clip_of_which_a_part_was_used_is_listed_with_what_was_used(tmp_path, stub, write_clips):
    extract(write_clips(["text", "two"]), stub(), tmp_path / "out", tmp_path / "work")
    assert read_remarks(tmp_path / "out" / "skipped.csv") == (("clip1", "stub", "part_used", "it has two"),)


def test_shards_of_other_libraries_or_another_device_are_not_taken(tmp_path, stub, write_clips, monkeypatch):
    clips = write_clips(TEXTS)
    folders = [set(shard_folders(clips, stub(), tmp_path))]
    assert folders[0] == set(shard_folders(clips, stub(), tmp_path))
    monkeypatch.setattr(stub, "device", torch.device("cuda"))
    folders.append(set(shard_folders(clips, stub(), tmp_path)))
    monkeypatch.setattr("mer_pnao.extraction.shards.version", lambda name: "0" if name == "av" else version(name))
    folders.append(set(shard_folders(clips, stub(), tmp_path)))
    assert len(set.union(*folders)) == sum(map(len, folders)), "no folder in common"


def test_no_more_than_a_batch_of_a_shard_is_encoded_together(tmp_path, stub, write_clips, monkeypatch):
    sizes, encode = [], stub.encode
    monkeypatch.setattr(stub, "encode", lambda self, clips: sizes.append(len(clips)) or encode(self, clips))
    clips = write_clips([f"text {n}" for n in range(9)])
    extract(clips, stub(batch=3), tmp_path / "out", tmp_path / "work", 5)
    assert sorted(map(len, grouped(clips, 5))) == [4, 5]
    assert sorted(sizes) == [1, 2, 3, 3]


def test_other_users_may_read_finished_shards(tmp_path, stub, write_clips):
    before = os.umask(0o022)
    try:
        extract(write_clips(TEXTS), stub(), tmp_path / "out", tmp_path / "work", 3, max_skipped=0.2)
    finally:
        os.umask(before)
    made = [path for path in tmp_path.rglob("*") if "clips" not in path.parts and path.suffix != ".lock"]
    assert len(made) > 10
    assert {path.stat().st_mode & 0o777 for path in made} == {0o755, 0o644}


@pytest.mark.parametrize("dies_after", [0, 2, 3, 5])
def test_a_killed_extraction_goes_on_at_its_shard_with_the_same_bytes(
    tmp_path, stub, write_clips, dies_after, monkeypatch
):
    monkeypatch.setenv("MER_WORKERS", "1")  # one after another, so that it is known which clips it dies over
    clips = write_clips(TEXTS)
    extract(clips, stub(), tmp_path / "undisturbed", tmp_path / "work1", 2, max_skipped=0.2)

    with pytest.raises(KeyboardInterrupt):
        extract(clips, stub(dies_after=dies_after), tmp_path / "out", tmp_path / "work2", 2, max_skipped=0.2)
    assert not (tmp_path / "out").exists()
    shards = shard_folders(clips, stub(), tmp_path / "work2", 2)
    finished = {clip.name for folder, members in shards.items() if folder.is_dir() for clip in members}
    second, done = stub(), []
    extract(clips, second, tmp_path / "out", tmp_path / "work2", 2, max_skipped=0.2, progress=done.append)

    assert tree(tmp_path / "out") == tree(tmp_path / "undisturbed")
    # It dies in the batch that goes beyond dies_after, and a shard is no more than a batch.
    assert dies_after - 2 < len(finished - {"clip3"}) <= dies_after
    assert sorted(second.decoded) == sorted({clip.name for clip in clips} - finished)
    assert sum(done) == 7


def test_finished_shards_serve_only_the_same_clips_encoder_and_settings(tmp_path, stub, write_clips):
    clips = write_clips(TEXTS[:3])
    work = tmp_path / "work"

    def decoded(clips: list[Clip], encoder, shard_size: int = 2) -> int:
        extract(clips, encoder, tmp_path / "out", work, shard_size)
        return len(encoder.decoded)

    assert decoded(clips, stub()) == 3
    assert decoded(clips, stub()) == 0
    assert decoded(clips, stub(version=2)) == 3
    assert decoded(clips, stub(name="other")) == 3
    assert decoded(clips, stub(batch=1)) == 3
    pair = max(grouped(clips, 2), key=len)
    assert len(pair) == 2
    assert decoded(clips, stub(), shard_size=1) == 2  # the third was alone before
    assert decoded(clips[::-1], stub()) == 2
    pair[1].path.write_text("another content")
    assert decoded(clips, stub()) == 2


def test_one_clip_more_costs_its_own_shard_and_one_less_too(tmp_path, stub, write_clips):
    clips = write_clips([f"text {n}" for n in range(300)])
    first = list(grouped(clips[:299], 16))
    assert sorted(clip.name for shard in first for clip in shard) == sorted(clip.name for clip in clips[:299])
    assert all(shard for shard in first)
    assert max(map(len, first)) <= 16
    own = next(shard for shard in grouped(clips, 16) if clips[299] in shard)

    extract(clips[:299], stub(), tmp_path / "out", tmp_path / "work", 16)
    more = stub()
    extract(clips, more, tmp_path / "out", tmp_path / "work", 16)
    assert sorted(more.decoded) == sorted(clip.name for clip in own)
    assert len(read_set(tmp_path / "out" / "stub-a").names) == 300
    less = stub()
    extract(clips[:299], less, tmp_path / "out", tmp_path / "work", 16)
    assert less.decoded == []
    extract(clips, stub(), tmp_path / "fresh", tmp_path / "elsewhere", 16)
    extract(clips, stub(), tmp_path / "out", tmp_path / "work", 16)
    assert tree(tmp_path / "out") == tree(tmp_path / "fresh")


def test_results_do_not_depend_on_batches_and_shards(tmp_path, stub, write_clips):
    clips = write_clips(TEXTS)
    results = []
    for batch, shard in ((1, 1), (2, 3), (7, 64), (3, 4)):
        out = tmp_path / f"out{batch}-{shard}"
        extract(clips, stub(batch=batch), out, tmp_path / "work", shard, max_skipped=0.2)
        vectors = read_set(out / "stub-a")
        results.append({name: vector.tolist() for name, vector in zip(vectors.names, vectors.vectors, strict=True)})
    assert all(result == results[0] for result in results)


def test_decoding_runs_ahead_only_so_far(tmp_path, stub, write_clips, monkeypatch):
    class Eager:
        """Decodes whatever it is given at once, which a pool of threads may do or not."""

        def __init__(self, workers: int, initializer, initargs) -> None: ...

        def submit(self, function, item) -> Future:
            future: Future = Future()
            future.set_result(function(item))
            return future

        def shutdown(self, cancel_futures: bool) -> None: ...

    monkeypatch.setattr("mer_pnao.extraction.engine.ThreadPoolExecutor", Eager)
    encoder, clips = stub(batch=2), write_clips([f"text {n}" for n in range(50)])
    shards = on_this_machine(encoder, 3)({tmp_path / str(n): clips[n : n + 2] for n in range(0, 50, 2)}, lambda _: None)
    next(shards)
    assert len(encoder.decoded) == 2 + 3 * 2  # the first batch, and one a thread ahead


def test_a_file_that_may_not_be_read_is_left_to_decoding(tmp_path, stub, write_clips, monkeypatch):
    def refuses(path: Path) -> str:
        if path.stem == "clip3":
            raise PermissionError(13, "Permission denied", str(path))
        return digest(path)

    monkeypatch.setattr("mer_pnao.extraction.shards.digest", refuses)
    extract(write_clips(TEXTS), stub(), tmp_path / "out", tmp_path / "work", 3, max_skipped=0.2)
    assert [entry.name for entry in read_remarks(tmp_path / "out" / "skipped.csv")] == ["clip1", "clip3"]


def test_too_many_skipped_clips_fail_and_are_listed(tmp_path, stub, write_clips):
    clips = write_clips(TEXTS)
    with pytest.raises(InputError, match=r"skipped\.csv: stub skipped 1 of 7 clips, more than .*0\.14") as refusal:
        extract(clips, stub(), tmp_path / "out", tmp_path / "work", 2, max_skipped=0.14)
    table = Path(str(refusal.value).split(": ")[0])
    assert table.is_relative_to(tmp_path / "work")
    assert [entry.name for entry in read_remarks(table)] == ["clip1", "clip3"]
    assert not (tmp_path / "out").exists()

    repaired = stub()
    extract(clips, repaired, tmp_path / "out", tmp_path / "work", 2, max_skipped=0.15)
    assert repaired.decoded == []  # a laxer limit costs nothing


def test_no_usable_clip_fails_whatever_the_limit(tmp_path, stub, write_clips):
    with pytest.raises(InputError, match="skipped 2 of 2"):
        extract(write_clips(["bad", "bad too"]), stub(), tmp_path / "out", tmp_path / "work", max_skipped=1.0)


def test_a_shard_without_usable_clips_is_no_obstacle(tmp_path, stub, write_clips):
    extract(write_clips(["bad", "good"]), stub(), tmp_path / "out", tmp_path / "work", 1, max_skipped=0.5)
    assert read_set(tmp_path / "out" / "stub-a").names == ("clip1",)


def test_vectors_that_are_not_finite_are_refused_by_clip_and_set(tmp_path, stub, write_clips):
    with pytest.raises(InputError, match="clip2: its vector of stub-a is not finite"):
        extract(write_clips(["one", "two", "nan"]), stub(), tmp_path / "out", tmp_path / "work")


def test_earlier_output_is_replaced_as_a_whole(tmp_path, stub, write_clips):
    out = tmp_path / "out"
    extract(write_clips(["one", "two"]), stub(), out, tmp_path / "work", 1)
    (out / "stale").write_text("x")
    extract(write_clips(["three"]), stub(), out, tmp_path / "work", 1)
    assert sorted(tree(out)) == [
        "identity.json",
        "skipped.csv",
        "stub-a/part-00000.parquet",
        "stub-b/part-00000.parquet",
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["clips", "out", "work"]


def test_what_no_extraction_made_is_not_replaced(tmp_path, stub, write_clips):
    """As of `mer extract --out` with the folder of the checkpoints, which are called like the encoders."""
    (tmp_path / "hubert").mkdir()
    (tmp_path / "hubert/model.safetensors").write_text("weights")
    clips = write_clips(TEXTS)
    with pytest.raises(InputError, match="hubert holds something else than features, and would be replaced"):
        extract(clips, stub(), tmp_path / "hubert", tmp_path / "work", max_skipped=0.2)
    assert (tmp_path / "hubert/model.safetensors").read_text() == "weights"
    with pytest.raises(InputError, match=r"model\.safetensors/stub cannot be made: "):
        extract(clips, stub(), tmp_path / "hubert/model.safetensors/stub", tmp_path / "work", max_skipped=0.2)
    (tmp_path / "empty").mkdir()
    extract(clips, stub(), tmp_path / "empty", tmp_path / "work", max_skipped=0.2)
    extract(clips, stub(), tmp_path / "empty", tmp_path / "work", max_skipped=0.2)


def test_bad_lists_of_clips_are_refused(tmp_path, stub, write_clips):
    clips = write_clips(["one", "two"])

    def run(clips: list[Clip]) -> None:
        extract(clips, stub(), tmp_path / "out", tmp_path / "work")

    with pytest.raises(InputError, match="no clips"):
        run([])
    with pytest.raises(InputError, match="the clip clip0 is listed twice"):
        run([clips[0], clips[1], clips[0]])
    with pytest.raises(InputError, match=r"absent\.mp4: the file of the clip x is missing"):
        run([*clips, Clip("x", tmp_path / "absent.mp4")])
