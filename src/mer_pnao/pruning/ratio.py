"""The k of equation 11 that takes a given share of the nodes or parameters, as Renda et al. (2020) prune."""

from bisect import bisect_left
from collections.abc import Callable, Mapping
from functools import cache

import torch
from torch import Tensor

from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.mask import node_masks, peaks_of
from mer_pnao.pruning.surgery import compact


def naor_of_round(network: EmotionNetwork, importances: Mapping[str, Tensor], pnao: PnaoConfig) -> float:
    """The k that a round prunes the network with: the configured one, or that of its `rule`."""
    if pnao.rule == "naor":
        return pnao.naor

    def left(masks: Mapping[str, Tensor]) -> int:
        if pnao.rule == "nodes":
            return sum(int(mask.sum()) for mask in masks.values())
        return sum(parameter.numel() for parameter in compact(network, masks).parameters())

    everything = {name: torch.ones_like(gamma, dtype=torch.bool) for name, gamma in importances.items()}
    return naor_leaving(importances, (1 - pnao.ratio) * left(everything), left, pnao.scope, pnao.min_nodes)


def naor_leaving(
    importances: Mapping[str, Tensor],
    goal: float,
    left: Callable[[Mapping[str, Tensor]], int],
    scope: str = "network",
    min_nodes: int = 1,
) -> float:
    """The k whose masks leave what is nearest to the goal, counted by `left`; of equal ones the smaller k.

    Found by bisection over the importances that occur, layer name -> (rows,), each relative to what equation 11 takes
    the maximum over.
    """
    peaks = peaks_of(importances, scope)
    levels = torch.cat([gamma / peaks[name].clamp_min(1e-30) for name, gamma in importances.items()]).unique()  # type: ignore[no-untyped-call]  # sorted

    @cache
    def at(level: int) -> int:
        return left(node_masks(importances, float(levels[level]), scope, min_nodes))

    last = len(levels) - 1
    below = bisect_left(range(len(levels)), -goal, key=lambda level: -at(level))
    return float(levels[min((max(below - 1, 0), min(below, last)), key=lambda level: abs(at(level) - goal))])
