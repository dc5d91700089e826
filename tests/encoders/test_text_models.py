"""Text encoders against transformers run by hand, sentence by sentence, on small checkpoints of the real format."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import BertForMaskedLM, BertTokenizer, RobertaConfig, RobertaModel, ViTConfig, ViTModel

from mer_pnao.encoders.text_models import TextLayers
from mer_pnao.foundations.errors import InputError

WORDS = ["i", "am", "so", "happy", "sad", "to", "我", "很", "高", "兴", "!"]
SENTENCES = ["i am so happy today !", "我 很 高兴", "sad", "i am sadly sad , so so sad today", ""]
TINY = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 32}


@pytest.fixture(scope="module")
def roberta(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Its positions are counted from behind that of padding."""
    folder = tmp_path_factory.mktemp("roberta")
    entries = ["<s>", "<pad>", "</s>", "<unk>", *WORDS]
    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(entries)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    tokenizer.save(str(folder / "tokenizer.json"))
    names = {"bos_token": "<s>", "cls_token": "<s>", "eos_token": "</s>", "sep_token": "</s>", "pad_token": "<pad>"}
    settings = {**names, "unk_token": "<unk>", "tokenizer_class": "PreTrainedTokenizerFast"}
    (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    torch.manual_seed(1)
    config = RobertaConfig(vocab_size=len(entries), max_position_embeddings=10, pad_token_id=1, **TINY)
    RobertaModel(config).save_pretrained(folder)
    return folder


def by_hand(folder: Path, sentence: str, layers: tuple[int, ...]) -> np.ndarray:
    """One sentence alone, without padding: its tokens between the two marks."""
    tokenizer = BertTokenizer(str(folder / "vocab.txt"))
    network = BertForMaskedLM.from_pretrained(folder).eval()
    tokens = torch.tensor([[2, *tokenizer.convert_tokens_to_ids(tokenizer.tokenize(sentence)), 3]])
    with torch.inference_mode():
        hidden = network(tokens, output_hidden_states=True).hidden_states
    return torch.stack([hidden[layer][0, 1:-1] for layer in layers]).mean(dim=(0, 1)).numpy()


@pytest.mark.parametrize("layers", [(), (1, 2), (0,)])
def test_a_vector_is_the_mean_over_the_words_tokens(bert: Path, layers: tuple[int, ...]) -> None:
    vectors = TextLayers(bert, layers, "fp32")(SENTENCES[:3])
    for sentence, vector in zip(SENTENCES, vectors, strict=False):
        assert vector == pytest.approx(by_hand(bert, sentence, layers or (3,)), abs=1e-6)


@pytest.mark.parametrize("family", ["bert", "roberta"])
def test_a_sentence_has_one_vector_in_any_company(family: str, request: pytest.FixtureRequest) -> None:
    encode = TextLayers(request.getfixturevalue(family), precision="fp32")
    together = encode(SENTENCES * 3)
    assert together.shape == (15, encode.width)
    assert together.dtype == np.float32
    for place, sentence in enumerate(SENTENCES * 3):
        assert together[place] == pytest.approx(encode([sentence])[0], abs=1e-6)


def test_without_words_there_are_zeros(bert: Path) -> None:
    vectors = TextLayers(bert, precision="fp32")(["", "i am"])
    assert not vectors[0].any()
    assert vectors[1].any()


@pytest.mark.parametrize(("family", "longest"), [("bert", 10), ("roberta", 6)])
def test_more_tokens_than_the_model_takes_are_read_in_stretches(
    family: str, longest: int, request: pytest.FixtureRequest
) -> None:
    """The mean over all tokens; a RoBERTa of ten positions takes two marks and six tokens."""
    encode = TextLayers(request.getfixturevalue(family), precision="fp32")
    words = ["i", "am", "so", "happy", "sad", "to", "我", "很", "高", "!"] * 2
    first, second = words[:longest], words[longest : longest + 3]
    whole, parts = encode([" ".join([*first, *second])])[0], encode([" ".join(first), " ".join(second)])
    assert whole == pytest.approx((longest * parts[0] + 3 * parts[1]) / (longest + 3), abs=1e-6)


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda folder: (folder / "config.json").unlink(), "no such checkpoint"),
        (lambda folder: [(folder / name).unlink() for name in ("vocab.txt", "tokenizer.json")], "holds no tokenizer"),
        (lambda folder: edit(folder, num_hidden_layers=4), r"does not fit: the key \S*layer.3\S* is missing"),
        (lambda folder: edit(folder, num_hidden_layers=2), r"does not fit: the key \S*layer.2\S* is unexpected"),
        (lambda folder: edit(folder, model_type="t5"), "t5"),
        (lambda folder: edit(folder, vocab_size=10), "does not fit: the key .* is mismatched"),
    ],
)
def test_what_is_no_such_model_is_refused_in_a_sentence(
    bert: Path, tmp_path: Path, spoil: Callable[[Path], object], said: str
) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for file in bert.iterdir():
        (folder / file.name).write_bytes(file.read_bytes())
    spoil(folder)
    with pytest.raises(InputError, match=said) as refusal:
        TextLayers(folder)
    assert "\n" not in str(refusal.value)


def test_a_layer_that_is_not_there_and_a_model_of_images_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"layers must be distinct and in \[0, 3\], got \[4\]"):
        TextLayers(bert, (4,))
    ViTModel(ViTConfig(image_size=32, patch_size=16, **TINY)).save_pretrained(tmp_path)
    with pytest.raises(InputError, match="'vit' model is no encoder of text"):
        TextLayers(tmp_path)


def edit(folder: Path, **values: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **values}))
