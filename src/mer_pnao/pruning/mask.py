"""Which nodes stay (equation 11)."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mer_pnao.foundations.checks import at_least, between, one_of
from mer_pnao.pruning.config import SCOPES


def node_masks(
    importances: Mapping[str, Tensor], naor: float, scope: str = "network", min_nodes: int = 1
) -> dict[str, Tensor]:
    """Keep the nodes whose importance reaches the share NAOR of the largest one.

    Equation 11: m(l, j) = U(gamma(l, j) - k max(gamma)) with U(0) = 1. The maximum runs over all given layers
    (`scope="network"`) or over each by itself (`"layer"`). Give prunable hidden layers only: a tiny head would own
    the maximum. Where fewer than `min_nodes` would stay in a layer, its most important ones do.

    Takes layer name -> importances (rows,), returns layer name -> boolean mask (rows,).
    Raises ValueError for a NAOR outside [0, 1], an unknown scope or importances that are not finite.
    """
    between("naor", naor, 0, 1)
    one_of("scope", scope, SCOPES)
    at_least("min_nodes", min_nodes, 1)
    for name, gamma in importances.items():
        if not bool(torch.isfinite(gamma).all()):
            raise ValueError(f"the importances of {name} are not finite")
    peaks = peaks_of(importances, scope)
    return {name: _keep(gamma, naor * peaks[name], min_nodes) for name, gamma in importances.items()}


def peaks_of(importances: Mapping[str, Tensor], scope: str) -> dict[str, Tensor]:
    """The maximum that equation 11 holds each layer's importances against, a scalar a layer."""
    peaks = {name: gamma.max() for name, gamma in importances.items()}
    if scope == "network" and peaks:
        peaks = dict.fromkeys(peaks, torch.stack(list(peaks.values())).max())
    return peaks


def _keep(gamma: Tensor, threshold: Tensor, min_nodes: int) -> Tensor:
    """The mask of one layer (rows,): at or above the threshold, and never fewer than min_nodes."""
    mask = gamma >= threshold
    if int(mask.sum()) >= min(min_nodes, len(gamma)):
        return mask
    # A stable sort keeps ties in node order, so the same importances always give the same mask.
    best = gamma.argsort(descending=True, stable=True)[:min_nodes]
    return torch.zeros_like(mask).index_fill(0, best, True)
