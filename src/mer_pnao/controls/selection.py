"""Which nodes or weights a control gives up, so that it has PNAO's size.

Masks are prunable layer -> boolean (rows,).
"""

from collections.abc import Mapping
from copy import deepcopy

import torch
from torch import Tensor, nn
from torch.nn.utils import prune

from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, from_state
from mer_pnao.pruning.mask import node_masks
from mer_pnao.pruning.ratio import naor_leaving
from mer_pnao.pruning.surgery import compact


def nonzero_parameters(network: EmotionNetwork) -> int:
    """The number of parameters without the weights that are exactly zero."""
    matrices = network.weight_matrices()
    zeros = sum(int((matrix == 0).sum()) for matrix in matrices)
    return sum(parameter.numel() for parameter in network.parameters()) - zeros


def most_important(importances: Mapping[str, Tensor], counts: Mapping[str, int]) -> dict[str, Tensor]:
    """Keep the given number of nodes a layer, the most important ones; at a tie the first."""
    kept = {}
    for name, gamma in importances.items():
        first = gamma.argsort(descending=True, stable=True)[: counts[name]]
        kept[name] = torch.zeros_like(gamma, dtype=torch.bool).index_fill(0, first, True)
    return kept


def drawn_at_random(blueprint: Blueprint, kept: Mapping[str, Tensor], seed: int) -> dict[str, Tensor]:
    """As many nodes a layer as in `kept` (dense indices), every choice of them equally likely.

    A random renumbering of the dense nodes, the same for all modalities of a branch where they meet in the fused
    vector: so the shapes are exactly those of `kept`, and for a subset of `kept` the same seed draws a
    subset.
    """
    generator = torch.Generator().manual_seed(seed)
    config, numbers, drawn = blueprint.config, {}, {}
    for name in sorted(each for each in kept if ".modalities." in each):  # scorers keep theirs
        outer = name.endswith(".outer")
        met, rows = (name.split(".modalities.")[0], config.width) if outer else (name, config.hidden)
        if met not in numbers:
            numbers[met] = torch.randperm(rows, generator=generator)
        drawn[name] = numbers[met][kept[name]].sort().values
    return drawn


def masks_of_size(
    network: EmotionNetwork, importances: Mapping[str, Tensor], goal: int, min_nodes: int
) -> dict[str, Tensor]:
    """Keep the nodes above one threshold over all layers, set so that `goal` parameters are left, or nearly so."""

    def left(masks: Mapping[str, Tensor]) -> int:
        return nonzero_parameters(compact(network, masks))

    return node_masks(importances, naor_leaving(importances, goal, left, min_nodes=min_nodes), min_nodes=min_nodes)


def smallest_zeroed(network: EmotionNetwork, goal: int) -> EmotionNetwork:
    """A copy in which the smallest weights of all matrices are zero, so many that `goal` parameters are not.

    Global magnitude pruning over the very matrices whose rows and columns PNAO removes: scorers and decoders lose
    columns there, too. Weights that are zero already are the smallest, so repeating it with smaller goals is nested.
    """
    copy = deepcopy(network)
    weights = [(module, "weight") for module in copy.modules() if isinstance(module, nn.Linear)]
    prunable = sum(module.weight.numel() for module, _ in weights)
    dense = sum(parameter.numel() for parameter in network.parameters())
    prune.global_unstructured(weights, prune.L1Unstructured, amount=min(dense - goal, prunable))
    for module, name in weights:
        prune.remove(module, name)  # type: ignore[no-untyped-call]
    return from_state(network.blueprint, copy.state_dict())
