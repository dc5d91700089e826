"""`mer extract` as its users meet it: what is written when, and what is refused before any work."""

from collections.abc import Callable
from pathlib import Path

import pytest

from mer_pnao.extraction import clip_encoders
from mer_pnao.features.remarks import read_remarks

PROFILE = Path(__file__).parents[2] / "profiles/demo.yaml"
Mer = Callable[..., tuple[int, str, str]]


@pytest.fixture
def built(tmp_path, stub, write_clips, monkeypatch):
    """A project of 70 clips, two shards, where every encoder is a stub; returns the stubs in the order of building."""
    (tmp_path / "params.yaml").write_text(PROFILE.read_text())
    write_clips(["bad", "odd", *(f"text {number}" for number in range(68))])
    monkeypatch.chdir(tmp_path)
    stubs = []

    def build(name, *_):
        stubs.append(stub(name))
        return stubs[-1]

    monkeypatch.setattr(clip_encoders, "build_encoder", build)
    return stubs


def published(tmp_path: Path) -> list[str]:
    return sorted(path.name for path in (tmp_path / "features").iterdir() if path.name[0] != ".")


def test_the_last_of_several_machines_publishes(tmp_path, mer, built):
    command = ["extract", "clips", "--out", "features", "--encoder", "hubert", "--encoder", "manet"]
    ahead = mer("extract", "clips", "--out", "features", "--encoder", "manet", "--shard", "2/2")
    assert ahead[0] == 0
    assert "manet: this part is done; 1 shard(s) of other parts are not there yet" in ahead[1]
    assert len(built) == 1, "nothing is published, so nothing is loaded for it"
    code, said, _ = mer(*command, "--shard", "1/2")  # which ends manet's and not hubert's
    assert code == 0
    assert "hubert: this part is done; 1 shard(s)" in said
    assert "manet: all shards are there" in said
    assert published(tmp_path) == []
    code, said, _ = mer(*command, "--shard", "2/2")
    assert code == 0
    assert "manet: 69 of 70 clips -> features/manet" in said
    assert published(tmp_path) == ["hubert", "manet", "skipped_clips.csv"]
    remarks = read_remarks(tmp_path / "features/skipped_clips.csv")
    assert sorted((entry.name, entry.encoder) for entry in remarks) == [
        ("clip0", "hubert"),
        ("clip0", "manet"),
        ("clip1", "hubert"),
        ("clip1", "manet"),
    ]
    for name in ("hubert", "manet"):
        assert sum(len(encoder.decoded) for encoder in built if encoder.name == name) == 70, "none twice"


def test_a_folder_is_printed_as_it_is_called(mer, built):
    code, said, _ = mer("extract", "clips", "--out", "out[v2]", "--encoder", "manet")
    assert code == 0
    assert "69 of 70 clips -> out[v2]/manet" in said


@pytest.mark.parametrize("part", [[], ["--shard", "1/2"]])
def test_a_folder_of_other_things_is_refused_before_any_work(tmp_path, mer, built, part):
    foreign = tmp_path / "features/manet"
    foreign.mkdir(parents=True)
    (foreign / "thesis.txt").write_text("all of it")
    code, _, err = mer("extract", "clips", "--out", "features", *part)
    assert code == 2
    assert "features/manet holds something else than features, and would be replaced; name another folder" in err
    assert built == []
    assert (foreign / "thesis.txt").read_text() == "all of it"


def test_transcripts_and_encoders_of_text_go_together(tmp_path, mer, built):
    (tmp_path / "said.csv").write_text("name,text\nclip1,so happy\n")
    code, _, err = mer("extract", "clips", "--encoder", "manet", "--transcripts", "said.csv")
    assert (code, "none is asked for" in err) == (2, True)
    params = tmp_path / "params.yaml"
    words = "  words: {kind: text, checkpoint: x, transcripts: said.csv, column: text, layers: [], precision: fp32, "
    words += "frames: 4, frames_per_second: 0.0, batch: 8, batch_seconds: 0.0, window_seconds: 0.0, order: forward, "
    params.write_text(params.read_text().replace("  hubert:\n    kind", f"{words}pool: pooled}}\n  hubert:\n    kind"))
    code, _, err = mer("extract", "clips", "--encoder", "words")
    assert (code, "the encoder words reads words: give --transcripts" in err) == (2, True)
    (tmp_path / "said.csv").write_text("name,text\nsomebody,so happy\n")
    code, _, err = mer("extract", "clips", "--encoder", "words", "--transcripts", "said.csv")
    assert (code, "has no word of any of the clips" in err) == (2, True)
    assert sum(len(encoder.decoded) for encoder in built) == 0
