"""Attention-guided feature gathering (AFG): the sets of one branch become one fused vector.

The paper names the block and points to its references without a formula; `docs/paper.md` gives the ruling.
Shapes: B clips, n modalities, H hidden width, D fused width, P fused positions that some modality still feeds.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn

from mer_pnao.network.modality import ModalityMLP, drop

SCORERS = ("tanh", "linear", "mlp", "mean")


class TanhScorer(nn.Module):
    """score_m = w^T tanh(W_F h_m), the same w and W_F for every modality."""

    def __init__(self, positions: int, attention: int) -> None:
        super().__init__()
        self.project = nn.Linear(positions, attention, bias=False)
        self.score = nn.Linear(attention, 1, bias=False)

    def forward(self, kept: Sequence[Tensor], spread: Tensor) -> Tensor:
        """Score the modalities (B, n) from their h_m spread over the fused positions, (B, n, P)."""
        return self.score(self.project(spread).tanh()).squeeze(-1)  # type: ignore[no-any-return]


class LinearScorer(nn.Module):
    """scores = W [h_1 .. h_n] + b."""

    def __init__(self, kept: int, modalities: int) -> None:
        super().__init__()
        self.score = nn.Linear(kept, modalities)

    def forward(self, kept: Sequence[Tensor], spread: Tensor) -> Tensor:
        """Score the modalities (B, n) from the concatenation of their kept nodes."""
        return self.score(torch.cat(list(kept), dim=-1))  # type: ignore[no-any-return]


class MLPScorer(nn.Module):
    """The official baseline's scorer: a two-layer perceptron on the concatenation, then a linear map."""

    def __init__(self, kept: int, modalities: int, hidden: int, width: int, dropout: float) -> None:
        super().__init__()
        self.inner = nn.Linear(kept, hidden)
        self.outer = nn.Linear(hidden, width)
        self.score = nn.Linear(width, modalities)
        self.dropout = dropout

    def forward(self, kept: Sequence[Tensor], spread: Tensor) -> Tensor:
        """Score the modalities (B, n) from the concatenation of their kept nodes."""
        dropout = self.dropout if self.training else 0.0
        inner = drop(self.inner(torch.cat(list(kept), dim=-1)).relu(), dropout)
        outer = drop(self.outer(inner).relu(), dropout)
        return self.score(outer)  # type: ignore[no-any-return]


class MeanScorer(nn.Module):
    """The same score for every modality: no attention, what the others are held against."""

    def forward(self, kept: Sequence[Tensor], spread: Tensor) -> Tensor:
        """Score the modalities (B, n) with zeros."""
        return spread.new_zeros(spread.shape[:2])


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
        self._places = [torch.searchsorted(self.fused_kept, nodes) for nodes in outer]
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
                self.scorer = MeanScorer()
            case _:
                raise ValueError(f"scorer must be one of {', '.join(SCORERS)}, got {scorer!r}")
        self._softmax = scorer != "mlp"
        self._temperature = temperature

    @property
    def fused_width(self) -> int:
        """P, the number of fused positions left."""
        return len(self.fused_kept)

    def mlp(self, name: str) -> ModalityMLP:
        """The perceptron of one set."""
        mlp = self.modalities[name]
        assert isinstance(mlp, ModalityMLP)
        return mlp

    def _spread(self, nodes: Tensor, places: Tensor) -> Tensor:
        """Put the kept nodes (B, D') at their fused positions (B, P), zeros elsewhere."""
        if len(places) == self.fused_width:
            return nodes
        return nodes.new_zeros(len(nodes), self.fused_width).index_copy(1, places.to(nodes.device), nodes)

    def forward(self, vectors: Sequence[Tensor]) -> Tensor:
        """Gather the sets' h_m, each (B, D') in the order of the sets, into the fused vector (B, P)."""
        spread = torch.stack([self._spread(h, places) for h, places in zip(vectors, self._places, strict=True)], dim=1)
        scores = self.scorer(vectors, spread)
        alpha = (scores / self._temperature).softmax(dim=-1) if self._softmax else scores
        fused: Tensor = (alpha.unsqueeze(1) @ spread).squeeze(1)
        return fused
