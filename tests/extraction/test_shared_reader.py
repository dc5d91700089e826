"""Encoders that take a clip alike share a pass over it, and get what each would get alone."""

from pathlib import Path

import numpy as np
import pytest

from mer_pnao.demo.plan import SyntheticConfig, plan_corpus
from mer_pnao.demo.render import render_clip
from mer_pnao.extraction.clip_reader import ClipReader, DecodingPlan, SharedReader
from mer_pnao.media import face_reader
from mer_pnao.media.config import MediaLimits

PLANS = {
    "manet": DecodingPlan("faces", MediaLimits(), frames=3, crop_side=32),
    "hubert": DecodingPlan("sound", MediaLimits()),
    "resnet": DecodingPlan("faces", MediaLimits(), frames=3, crop_side=24),
    "clip": DecodingPlan("faces", MediaLimits(), frames=2, crop_side=24),
}


def test_each_gets_what_it_gets_alone_and_those_alike_share_the_pass(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    clip = render_clip(
        plan_corpus(SyntheticConfig(train_clips=4, test_clips=1, speakers=4, test_speakers=1))[0], tmp_path
    )
    alone = {name: ClipReader(plan)(clip) for name, plan in PLANS.items()}
    passes, searches = [], []
    read, follow = face_reader.read_frames, face_reader.follow_face
    monkeypatch.setattr(face_reader, "read_frames", lambda *given: passes.append(given) or read(*given))
    monkeypatch.setattr(face_reader, "follow_face", lambda *given: searches.append(given) or follow(*given))
    together = SharedReader(PLANS)(clip)
    assert list(together) == list(PLANS)
    for name, content in together.items():
        np.testing.assert_array_equal(content.content, alone[name].content)
        assert (content.face_share, content.remarks) == (alone[name].face_share, alone[name].remarks)
    assert len(passes) == len(searches) == 2  # three frames for manet and resnet, and two for clip
