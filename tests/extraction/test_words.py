"""Words as features: of the clips of a manifest, their noisy twins and clips that are named."""

from pathlib import Path

import numpy as np
import pytest

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.encoders.text_models import TextLayers
from mer_pnao.extraction.clip_encoders import build_encoder
from mer_pnao.extraction.corpus_clips import clips_of_manifest
from mer_pnao.extraction.extract import extract
from mer_pnao.features.remarks import Remark
from mer_pnao.features.sets import load_sets
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import CorruptionConfig

HEAD = "name,path,discrete,valence,speaker,split\n"
MANIFEST = (
    f"{HEAD}a,a.mp4,happy,,s1,train\nb,b.mp4,sad,,s2,train\nc,c.mp4,sad,,s3,test\nc_loud,c.mp4,sad,,s3,test_loud\n"
)


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    (tmp_path / "manifest.csv").write_text(MANIFEST)
    (tmp_path / "transcripts.csv").write_text("name,text\nc,i am sad\na,so happy\nx,to\n")
    return tmp_path


def words_of(bert: Path) -> EncoderConfig:
    return EncoderConfig("text", str(bert), precision="fp32", transcripts="transcripts.csv")


def test_a_clip_has_the_vector_of_its_words_and_without_any_zeros_and_a_line(corpus: Path, bert: Path) -> None:
    """No clip is opened; a twin in noise says what its clip says."""
    config = words_of(bert)
    clips = clips_of_manifest(corpus / "manifest.csv", corpus, {"loud": CorruptionConfig()}, config)
    report = extract(clips, build_encoder("words", config, corpus), corpus / "features/words", corpus / "work")
    found = load_sets(corpus / "features", ["words"])["words"]
    happy, sad = TextLayers(bert, precision="fp32")(["so happy", "i am sad"])
    assert found.names == ("a", "b", "c", "c_loud")
    np.testing.assert_allclose(found.vectors, [happy, np.zeros(16), sad, sad], atol=1e-6)
    assert report.remarks == (Remark("b", "words", "all_zero", "it has no words"),)


def test_other_words_are_encoded_anew_and_the_same_are_not(corpus: Path, bert: Path) -> None:
    config = words_of(bert)

    def shards() -> set[Path]:
        clips = clips_of_manifest(corpus / "manifest.csv", corpus, {}, config)
        extract(clips, build_encoder("words", config, corpus), corpus / "features/words", corpus / "work")
        return set((corpus / "work/features").glob("*/part-*"))

    first = shards()
    assert shards() == first
    (corpus / "transcripts.csv").write_text("name,text\nc,i am sad\na,so so happy\n")
    assert len(shards() - first) == 1


def test_a_table_of_other_clips_is_refused(corpus: Path, bert: Path) -> None:
    (corpus / "transcripts.csv").write_text("name,text\nx,to\n")
    with pytest.raises(InputError, match=r"transcripts\.csv has no word of any of the clips in its column 'text'"):
        clips_of_manifest(corpus / "manifest.csv", corpus, {}, words_of(bert))
