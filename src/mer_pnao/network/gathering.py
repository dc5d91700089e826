"""Attention-guided feature gathering (AFG): the sets of one branch become one fused vector.

The paper names the block and points to its references without a formula; `docs/paper.md` gives the ruling.
A scorer is a class here, its entry in SCORERS and its name in network/blueprint.py.

Shapes: B clips, n modalities, D' nodes that an h_m has left, D fused width, P fused positions that some modality feeds.
"""

from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import ClassVar, NamedTuple, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from mer_pnao.network.modality import ModalityMLP


class Sizes(NamedTuple):
    """What a scorer is built for."""

    modalities: int  # n
    nodes: int  # of all h_m side by side, the sum of the D'
    positions: int  # P
    hidden: int  # the dense network's inner width
    width: int  # D
    dropout: float
    kept: Mapping[str, Tensor]  # a scorer's hidden layer -> the dense indices of the nodes it has left (default: all)

    def rows(self, layer: str, dense: int) -> Tensor:
        """The dense indices of the nodes that a scorer's hidden layer has left, (rows,)."""
        return self.kept.get(layer, torch.arange(dense)).clone()


class Scorer(Protocol):
    """A module that scores a branch's modalities by their h_m."""

    softmax: ClassVar[bool]  # whether the scores become weights by a softmax, or are weights as they are
    readers: ClassVar[Mapping[str, str]]  # hidden layers whose nodes may go, as `<layer>_kept` says -> who reads them

    def __call__(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        """Score (B, n) from the h_m, n tensors (B, D'), and the same spread over the fused positions (B, n, P)."""
        ...

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """What pruning leaves of which weight's columns, boolean (columns,) by the weight's name.

        Stay do the given nodes of all h_m, boolean (sum of the D',), and positions, boolean (P,).
        """
        ...


class TanhScorer(nn.Module):
    """score_m = w^T tanh(W_F h_m), the same w and W_F for every modality."""

    softmax: ClassVar[bool] = True
    readers: ClassVar[Mapping[str, str]] = {"project": "score"}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        rows = sizes.rows("project", sizes.width)
        self.project = nn.Linear(sizes.positions, len(rows), bias=False)
        self.score = nn.Linear(len(rows), 1, bias=False)
        self.register_buffer("project_kept", rows)

    def forward(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        """See `Scorer`."""
        return self.score(self.project(spread).tanh()).squeeze(-1)  # type: ignore[no-any-return]

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """See `Scorer`."""
        return {"project.weight": positions}


class LinearScorer(nn.Module):
    """scores = W [h_1 .. h_n] + b."""

    softmax: ClassVar[bool] = True
    readers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        self.score = nn.Linear(sizes.nodes, sizes.modalities)

    def forward(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        """See `Scorer`."""
        return self.score(torch.cat(list(vectors), dim=-1))  # type: ignore[no-any-return]

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """See `Scorer`."""
        return {"score.weight": nodes}


class MLPScorer(nn.Module):
    """The official baseline's scorer: a two-layer perceptron on the concatenation, then a linear map, no softmax."""

    softmax: ClassVar[bool] = False
    readers: ClassVar[Mapping[str, str]] = {"inner": "outer", "outer": "score"}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()
        inner, outer = sizes.rows("inner", sizes.hidden), sizes.rows("outer", sizes.width)
        self.inner = nn.Linear(sizes.nodes, len(inner))
        self.outer = nn.Linear(len(inner), len(outer))
        self.score = nn.Linear(len(outer), sizes.modalities)
        self.dropout = nn.Dropout(sizes.dropout)
        self.register_buffer("inner_kept", inner)
        self.register_buffer("outer_kept", outer)

    def forward(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        """See `Scorer`."""
        inner = self.dropout(self.inner(torch.cat(list(vectors), dim=-1)).relu())
        return self.score(self.dropout(self.outer(inner).relu()))  # type: ignore[no-any-return]

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """See `Scorer`."""
        return {"inner.weight": nodes}


class MeanScorer(nn.Module):
    """The same score for every modality: no attention, what the others are held against."""

    softmax: ClassVar[bool] = True
    readers: ClassVar[Mapping[str, str]] = {}

    def __init__(self, sizes: Sizes) -> None:
        super().__init__()

    def forward(self, vectors: Sequence[Tensor], spread: Tensor) -> Tensor:
        """See `Scorer`."""
        return spread.new_zeros(spread.shape[:2])

    def columns(self, nodes: Tensor, positions: Tensor) -> dict[str, Tensor]:
        """See `Scorer`."""
        return {}


SCORERS: dict[str, Callable[[Sizes], Scorer]] = {
    "tanh": TanhScorer,
    "linear": LinearScorer,
    "mlp": MLPScorer,
    "mean": MeanScorer,
}


class AttentionGathering(nn.Module):
    """fused = sum_m alpha_m h_m, with alpha from the modalities' scores.

    alpha is a softmax over the modalities, softened by a temperature; the official baseline's code (`mlp`) uses the
    scores as they are, and so does this.
    """

    fused_kept: Tensor

    def __init__(
        self,
        modalities: Mapping[str, ModalityMLP],
        scorer: str,
        hidden: int,
        width: int,
        dropout: float,
        temperature: float,
        kept: Mapping[str, Tensor] = MappingProxyType({}),
    ) -> None:
        """Build over the sets' perceptrons, set -> perceptron; `kept` is of the scorer, see `Sizes`."""
        super().__init__()
        self.modalities = nn.ModuleDict(modalities)
        outer = [mlp.outer_kept for mlp in modalities.values()]
        nodes = torch.cat(outer)
        self.register_buffer("fused_kept", torch.unique(nodes))  # sorted; a position that nobody feeds is gone
        self.sources = [self._sources(kept) for kept in outer]
        sizes = Sizes(len(outer), len(nodes), self.fused_width, hidden, width, dropout, kept)
        self.scorer = SCORERS[scorer](sizes)
        if unknown := kept.keys() - self.scorer.readers.keys():
            raise ValueError(f"scorer.{min(unknown)} is not a prunable layer of this network")
        self.temperature = temperature

    @property
    def fused_width(self) -> int:
        """P, the number of fused positions left."""
        return len(self.fused_kept)

    def forward(self, features: Mapping[str, Tensor]) -> Tensor:
        """Gather the branch's sets, (B, width) each, into its fused vectors (B, P)."""
        vectors = [mlp(features[name]) for name, mlp in self.modalities.items()]
        spread = torch.stack([self._spread(*each) for each in zip(vectors, self.sources, strict=True)], dim=1)
        scores = self.scorer(vectors, spread)
        alpha = (scores / self.temperature).softmax(dim=-1) if self.scorer.softmax else scores
        return (alpha.unsqueeze(-1) * spread).sum(dim=1)

    def _sources(self, kept: Tensor) -> Tensor:
        """Which of an h_m's nodes each fused position has, (P,); D', one past the last, where it has none."""
        sources = torch.full((self.fused_width,), len(kept))
        sources[torch.searchsorted(self.fused_kept, kept)] = torch.arange(len(kept))
        return sources

    def _spread(self, vector: Tensor, sources: Tensor) -> Tensor:
        """Put an h_m's nodes (B, D') into their fused positions (B, P), zeros elsewhere."""
        if vector.shape[1] == self.fused_width:
            return vector
        return F.pad(vector, (0, 1)).index_select(1, sources.to(vector.device))
