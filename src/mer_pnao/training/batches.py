"""The training clips as tensors, batch by batch, and what is done to a batch before the network sees it.

Shapes: N training clips, B clips of a batch, C classes.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F

from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.training.examples import Examples


class Batch(NamedTuple):
    """Clips with z-scored features."""

    features: dict[str, Tensor]  # (B, width of the set) a set
    emotion: Tensor  # (B, C), a distribution over the classes each
    valence: Tensor  # (B,), NaN where a clip has none


def standardized(network: EmotionNetwork, train: Examples, label_smoothing: float, number: torch.dtype) -> Batch:
    """All training clips: z-scored once, for the statistics stay as they are while a network is trained."""
    features = {name: values.to(number) for name, values in network.scale(train.tensors()).items()}
    certain = F.one_hot(torch.tensor(train.emotion), train.classes).float()
    smooth = certain * (1 - label_smoothing) + label_smoothing / train.classes
    return Batch(features, smooth, torch.tensor(train.valence))


def batches(clips: Batch, order: Tensor, features_of: Mapping[str, Tensor], count: int) -> Iterator[Batch]:
    """The clips in the given order (N,), in `count` batches that differ by one clip at most.

    `features_of` (N,) a set says which clip each one takes the set's features from; see `exchange`. Gathered once an
    epoch: a batch is then a view.
    """
    names = list(clips.features)
    columns = [values[features_of[name]] for name, values in clips.features.items()]
    columns += [clips.emotion[order], clips.valence[order]]
    for *features, emotion, valence in zip(*(column.tensor_split(count) for column in columns), strict=True):
        yield Batch(dict(zip(names, features, strict=True)), emotion, valence)


def exchange(
    order: NDArray[np.int64],
    emotion: NDArray[np.int64],
    modalities: Sequence[Sequence[str]],
    share: float,
    random: np.random.Generator,
) -> dict[str, Tensor]:
    """Give a clip the voice, face or words of another clip with the same emotion, each with the probability `share`.

    Takes the order (N,) of the clips, their classes (N,) and the sets of each modality, which stay together. Returns
    set -> (N,), the clip that the set's features come from; with share 0 the clips themselves. The clip keeps its own
    valence.
    """
    features_of: dict[str, Tensor] = {}
    for sets in modalities:
        rows = order
        if share > 0:
            other = np.empty_like(order)
            for label in np.unique(emotion):
                alike = np.flatnonzero(emotion == label)
                other[alike] = random.permutation(alike)
            rows = np.where(random.random(len(order)) < share, other[order], order)
        features_of |= dict.fromkeys(sets, torch.from_numpy(rows))
    return features_of


def mixup(batch: Batch, strength: float, random: np.random.Generator) -> Batch:
    """Mix each clip with another one of the batch, features and labels alike (Zhang et al. 2018).

    The clip's own share is max(l, 1 - l) with l from Beta(strength, strength); strength 0 mixes nothing. A valence is
    known only where both are.
    """
    if strength == 0:
        return batch
    share = torch.from_numpy(random.beta(strength, strength, len(batch.valence)).astype(np.float32))
    share = torch.maximum(share, 1 - share)
    other = torch.from_numpy(random.permutation(len(share)))

    def mixed(values: Tensor) -> Tensor:
        of_clip = share.to(values.dtype).view(-1, *[1] * (values.ndim - 1))
        return values * of_clip + values[other] * (1 - of_clip)

    return Batch({name: mixed(v) for name, v in batch.features.items()}, mixed(batch.emotion), mixed(batch.valence))


def drop_sets(batch: Batch, share: float) -> Batch:
    """Modality dropout: leave whole sets out of a clip, each with the probability `share`.

    A set that is left out is its mean, which is zero; the others are scaled by 1 / (1 - share), as dropout does.
    """
    if share == 0:
        return batch
    kept = torch.rand(len(batch.features), len(batch.valence), 1).ge(share).div(1 - share)
    features = {
        name: values * of_set.to(values.dtype)
        for (name, values), of_set in zip(batch.features.items(), kept, strict=True)
    }
    return batch._replace(features=features)
