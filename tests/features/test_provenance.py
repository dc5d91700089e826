"""The record of who made a feature set."""

import numpy as np
import pytest

from mer_pnao.features.provenance import read_provenance, write_settings
from mer_pnao.features.sets import write_identity, write_shard
from mer_pnao.foundations.errors import InputError


def make_set(encoder, name):
    write_shard(encoder / name / "part-00000.parquet", ["a"], np.zeros((1, 2), np.float32))


def test_each_encoder_is_named_once_with_the_sets_that_are_read_of_it(tmp_path):
    for name in ("voice-1", "voice-2", "voice-3"):
        make_set(tmp_path / "voice", name)
    write_identity(tmp_path / "voice", {"kind": "hubert", "corrupted": {"a": {"snr": 5.0}}})
    write_settings(tmp_path / "voice", {"layers": (1, 2, 3)}, {"max_seconds": 60.0})
    make_set(tmp_path / "ready", "units")
    write_identity(tmp_path / "ready", {"kind": "mertools", "source": "features/units"})
    make_set(tmp_path / "bare", "bare")
    assert read_provenance(tmp_path, ["voice-1", "units", "voice-3", "bare"]) == {
        "voice": {
            "sets": ["voice-1", "voice-3"],
            "identity": {"kind": "hubert"},  # the noise of single clips is no part of how further ones are read
            "config": {"layers": [1, 2, 3]},
            "media": {"max_seconds": 60.0},
        },
        "ready": {"sets": ["units"], "identity": {"kind": "mertools", "source": "features/units"}},
        "bare": {"sets": ["bare"]},
    }


@pytest.mark.parametrize("text", ["[1]", "{", "\xff"])
def test_a_damaged_record_is_refused_by_its_name(tmp_path, text):
    make_set(tmp_path / "voice", "voice-1")
    (tmp_path / "voice" / "encoder.json").write_text(text, encoding="latin-1")
    with pytest.raises(InputError, match=r"voice/encoder\.json is not"):
        read_provenance(tmp_path, ["voice-1"])
