"""Any text encoder of transformers by its checkpoint: BERT, RoBERTa, MacBERT, XLM-R and their like.

Legend of shapes: N sentences, T tokens of the longest of a batch, D the width of the model.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from huggingface_hub.errors import StrictDataclassError
from numpy.typing import NDArray
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoTokenizer

from mer_pnao.encoders.batching import by_length
from mer_pnao.encoders.library import with_weights, without_scipy
from mer_pnao.encoders.model_folder import VOCABULARIES, one_line, read_config, read_weights
from mer_pnao.encoders.speech_models import refuse_wrong_layers
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.placement import placement
from mer_pnao.foundations.precision import Precision

# What tasks put on top of a model, and tables of positions that old files hold.
_NEEDLESS = ("cls.", "lm_head.", "classifier.", "pooler.", "discriminator_predictions.", "position_ids")
_TOKENS = 4096  # of a pass, padding included, so that memory does not grow with the sentences
_LONGEST = 512  # tokens of a stretch where neither model nor tokenizer sets a limit


class TextLayers:
    """Sentences to vectors: the mean over their tokens of the mean of some layers (by default the last one).

    Tokens are those of the words: not the marks that the tokenizer adds at the ends, nor padding, which the attention
    does not see either. A sentence of more tokens than the model takes is read in stretches. The official baseline of
    MER 2023 takes the sum of the last four layers, which is their mean four times.
    """

    def __init__(self, folder: Path, layers: Sequence[int] = (), precision: Precision = "auto") -> None:
        """Loads a checkpoint in the layout of transformers, with its tokenizer.

        Raises InputError for one that is no such model, does not fit, naming the first key, or lacks a layer.
        """
        content = read_config(folder)
        kind = content["model_type"]
        try:
            config = CONFIG_MAPPING[kind].from_dict(dict(content))
            with without_scipy():
                model: Any = MODEL_MAPPING[type(config)]
        except (StrictDataclassError, ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(f"{folder}: {kind!r} is no model of text that fits: {one_line(error)}") from error
        if model.main_input_name != "input_ids" or getattr(config, "is_encoder_decoder", False):
            raise InputError(f"{folder}: a {kind!r} model is no encoder of text")
        network, report = with_weights(model, config, read_weights(folder), folder)
        for what in ("missing", "unexpected", "mismatched"):
            for entry in sorted(report[f"{what}_keys"], key=str):
                key = entry[0] if isinstance(entry, tuple) else entry
                if what == "mismatched" or not any(part in key for part in _NEEDLESS):
                    raise InputError(f"{folder} does not fit: the key {key} is {what}")
        self._layers = tuple(layers) or (config.num_hidden_layers,)
        refuse_wrong_layers(folder, self._layers, config.num_hidden_layers)
        self._tokenizer = _tokenizer(folder)
        self.device, self.dtype = placement(precision)
        self._network = network.to(self.device, self.dtype)
        self.width = int(config.hidden_size)
        # RoBERTa counts its positions from behind that of padding.
        ahead = getattr(getattr(network, "embeddings", None), "padding_idx", None)
        positions = getattr(config, "max_position_embeddings", None) or _LONGEST
        self._longest = min(positions - (0 if ahead is None else ahead + 1), self._tokenizer.model_max_length)
        if max(self._tokenizer.get_vocab().values()) >= config.vocab_size:
            raise InputError(f"{folder}: its tokenizer has tokens that its model does not know")

    def __call__(self, sentences: Sequence[str]) -> NDArray[np.float32]:
        """The vectors (N, D) of N sentences; zeros for one that has no token. None depends on the others."""
        cut = self._tokenizer(
            list(sentences),
            truncation=True,
            max_length=self._longest,
            return_overflowing_tokens=True,
            return_special_tokens_mask=True,
        )
        stretches, owners = cut["input_ids"], cut["overflow_to_sample_mapping"]
        total = np.zeros((len(sentences), self.width), np.float64)
        tokens = np.zeros(len(sentences), np.int64)
        for rows in by_length([len(stretch) for stretch in stretches], _TOKENS):
            padded = self._tokenizer.pad({"input_ids": [stretches[row] for row in rows]}, return_tensors="pt")
            seen = padded["attention_mask"].bool()
            words = torch.zeros_like(seen)
            for place, row in enumerate(rows):
                own = [not mark for mark in cut["special_tokens_mask"][row]]
                words[place, seen[place]] = torch.tensor(own)
            sums = self._sums(padded, words)
            for place, row in enumerate(rows):
                total[owners[row]] += sums[place]
                tokens[owners[row]] += int(words[place].sum())
        return np.asarray(total / np.maximum(tokens, 1)[:, None], np.float32)

    def _sums(self, padded: Any, words: torch.Tensor) -> NDArray[np.float64]:
        """The sums (n, D) over the words, (n, T) true, of the mean of the layers."""
        with torch.inference_mode():
            hidden = self._network(
                input_ids=padded["input_ids"].to(self.device),
                attention_mask=padded["attention_mask"].to(self.device),
                output_hidden_states=True,
            ).hidden_states
            mean = torch.stack([hidden[layer].double() for layer in self._layers]).mean(dim=0)
            return (mean * words.to(self.device).unsqueeze(-1)).sum(dim=1).cpu().numpy()


def _tokenizer(folder: Path) -> Any:
    # The library makes a tokenizer that knows no word where there is no vocabulary.
    if not any((folder / name).is_file() for name in VOCABULARIES):
        raise InputError(f"{folder} holds no tokenizer: none of {', '.join(VOCABULARIES)}")
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError, ImportError, AttributeError) as error:
        raise InputError(f"{folder} holds no tokenizer that can be read: {one_line(error)}") from error
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise InputError(f"{folder} holds no tokenizer that can be used: one with padding that counts its tokens")
    return tokenizer
