"""Attention-guided feature gathering (AFG): the sets of one branch become one fused vector.

The paper names the block and points to its references without a formula; `docs/paper.md` gives the ruling.
Shapes: B clips, n modalities, H hidden width, D fused width, P fused positions that some modality still feeds.
"""

import math
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mer_pnao.network.modality import ModalityMLP, drop
from mer_pnao.network.stacking import weights

SCORERS = ("tanh", "linear", "mlp", "mean")


class TanhScorer(nn.Module):
    """score_m = w^T tanh(W_F h_m), the same w and W_F for every modality."""

    def __init__(self, positions: int, attention: int) -> None:
        super().__init__()
        self.project = nn.Linear(positions, attention, bias=False)
        self.score = nn.Linear(attention, 1, bias=False)


def tanh_scores(scorers: Sequence[TanhScorer], spread: Tensor) -> Tensor:
    """Score each branch's modalities (M, B, n) from their h_m spread over the fused positions, (M, B, n, P)."""
    branches, clips, modalities, positions = spread.shape
    project = weights([scorer.project for scorer in scorers], positions, branches)
    projected = (spread.reshape(branches, -1, positions) @ project.transpose(1, 2)).tanh()
    score = weights([scorer.score for scorer in scorers], projected.shape[2], branches)
    return (projected @ score.transpose(1, 2)).view(branches, clips, modalities)


class LinearScorer(nn.Module):
    """scores = W [h_1 .. h_n] + b."""

    def __init__(self, kept: int, modalities: int) -> None:
        super().__init__()
        self.score = nn.Linear(kept, modalities)

    def forward(self, kept: Tensor) -> Tensor:
        """Score the modalities (B, n) from their kept nodes side by side, (B, sum of D')."""
        return self.score(kept)  # type: ignore[no-any-return]


class MLPScorer(nn.Module):
    """The official baseline's scorer: a two-layer perceptron on the concatenation, then a linear map."""

    def __init__(self, kept: int, modalities: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(kept, hidden)
        self.outer = nn.Linear(hidden, width)
        self.score = nn.Linear(width, modalities)
        self.dropout = dropout

    def forward(self, kept: Tensor) -> Tensor:
        """Score the modalities (B, n) from their kept nodes side by side, (B, sum of D')."""
        dropout = self.dropout if self.training else 0.0
        inner = drop(self.inner(kept).relu(), dropout)
        outer = drop(self.outer(inner).relu(), dropout)
        return self.score(outer)  # type: ignore[no-any-return]


class MeanScorer(nn.Module):
    """The same score for every modality: no attention, what the others are held against."""

    def __init__(self, modalities: int) -> None:
        super().__init__()
        self.modalities = modalities

    def forward(self, kept: Tensor) -> Tensor:
        """Score the modalities (B, n) with zeros."""
        return kept.new_zeros(len(kept), self.modalities)


class AttentionGathering(nn.Module):
    """fused = sum_m alpha_m h_m, with alpha from the modalities' scores.

    alpha is a softmax over the modalities, softened by a temperature, for the scorers `tanh`, `linear` and `mean`; the
    official baseline's code (`mlp`) uses the scores as they are, and so does this.
    """

    fused_kept: Tensor

    def __init__(
        self,
        widths: Mapping[str, int],
        kept: Mapping[str, tuple[Tensor, Tensor]],
        hidden: int,
        width: int,
        dropout: float,
        scorer: str,
        temperature: float,
    ) -> None:
        """Build for sets of the given widths, each with the (inner, outer) nodes it keeps."""
        super().__init__()
        self.modalities = nn.ModuleDict({name: ModalityMLP(inputs, *kept[name]) for name, inputs in widths.items()})
        outer = [kept[name][1] for name in widths]
        self.register_buffer("fused_kept", torch.unique(torch.cat(outer)))  # sorted; a position nobody feeds is gone
        self.places = [torch.searchsorted(self.fused_kept, nodes) for nodes in outer]
        total = sum(len(nodes) for nodes in outer)
        self.scorer: nn.Module
        match scorer:
            case "tanh":
                self.scorer = TanhScorer(len(self.fused_kept), width)
            case "linear":
                self.scorer = LinearScorer(total, len(widths))
            case "mlp":
                self.scorer = MLPScorer(total, len(widths), hidden, width, dropout)
            case "mean":
                self.scorer = MeanScorer(len(widths))
            case _:
                raise ValueError(f"scorer must be one of {', '.join(SCORERS)}, got {scorer!r}")
        self.temperature = temperature if scorer != "mlp" else None  # None: no softmax

    @property
    def fused_width(self) -> int:
        """P, the number of fused positions left."""
        return len(self.fused_kept)

    def mlp(self, name: str) -> ModalityMLP:
        """The perceptron of one set."""
        mlp = self.modalities[name]
        assert isinstance(mlp, ModalityMLP)
        return mlp

    def forward(self, vectors: Tensor) -> Tensor:
        """Gather the sets' h_m, side by side in their order (B, sum of D'), into the fused vectors (B, P)."""
        return Gather([self])(vectors)[0]


class Gather:
    """AFG of all branches of a network at once (see `stacking`); they have one kind of scorer and as many sets each."""

    def __init__(self, gatherings: Sequence[AttentionGathering]) -> None:
        self._scorers = [gathering.scorer for gathering in gatherings]
        self._temperature = gatherings[0].temperature
        self._totals = [sum(len(places) for places in gathering.places) for gathering in gatherings]
        rows = [places for gathering in gatherings for places in gathering.places]
        positions = max(gathering.fused_width for gathering in gatherings)
        self._shape = (len(gatherings), len(rows) // len(gatherings), positions)
        self._places = torch.cat([row * positions + places for row, places in enumerate(rows)])

    def __call__(self, vectors: Tensor) -> Tensor:
        """Gather every branch's h_m, side by side in the branches' order (B, sum of D'), into (M, B, P).

        P is the largest branch's; the vectors of the others end in zeros.
        """
        places = math.prod(self._shape)
        if len(self._places) < places:  # each kept node to its fused position, zeros elsewhere
            at_places = vectors.new_zeros(len(vectors), places).index_copy(1, self._places.to(vectors.device), vectors)
        else:
            at_places = vectors
        spread = at_places.view(-1, *self._shape).transpose(0, 1)
        tanh = [scorer for scorer in self._scorers if isinstance(scorer, TanhScorer)]
        if tanh:
            scores = tanh_scores(tanh, spread)
        else:
            own = torch.split(vectors, self._totals, dim=1)
            scores = torch.stack([scorer(kept) for scorer, kept in zip(self._scorers, own, strict=True)])
        alpha = scores if self._temperature is None else (scores / self._temperature).softmax(dim=-1)
        return (alpha.unsqueeze(2) @ spread).squeeze(2)
