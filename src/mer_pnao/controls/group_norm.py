"""Torch-Pruning's GroupNormPruner (Fang et al. 2023, DepGraph) on this project's network: the one adapter to it."""

from collections.abc import Mapping
from importlib.metadata import version

import torch
import torch_pruning as tp
from torch import Tensor, nn

from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.training.fit import Epoch

VERSION = version("torch-pruning")


class GroupNorm:
    """The pruner of one dense network: it regularises groups of coupled nodes, and says how important each one is.

    Coupled are the nodes of one inner layer with the columns that read them, and the nodes at one fused position of
    all modalities of a branch. Heads and scorers are never pruned, as in PNAO.
    """

    def __init__(self, network: EmotionNetwork, strength: float) -> None:
        layers = network.prunable()
        kept = {id(layer) for layer in layers.values()}
        ignored = [m for m in network.modules() if isinstance(m, nn.Linear) and id(m) not in kept]
        example = {name: torch.zeros(2, width) for name, width in network.blueprint.widths.items()}
        self._names = {id(layer): name for name, layer in layers.items()}
        self.pruner = tp.pruner.GroupNormPruner(
            network.eval(),
            example,
            importance=tp.importance.GroupMagnitudeImportance(p=2),
            reg=strength,
            global_pruning=True,
            ignored_layers=ignored,
            forward_fn=_forward,
        )

    def regularise(self, network: EmotionNetwork) -> None:
        """Add the group penalty's gradient, between the backward pass and the optimiser's step."""
        self.pruner.regularize(network)

    def epoch_ended(self, epoch: Epoch) -> None:
        """Let the pruner take stock of the groups anew."""
        self.pruner.update_regularizer()

    def importances(self) -> dict[str, Tensor]:
        """The pruner's group importance of each node, prunable layer -> (rows,), relative to its group's mean.

        Coupled nodes have the same one, so that a threshold keeps or removes all of them.
        """
        found = {}
        for group in self.pruner.DG.get_all_groups(
            ignored_layers=self.pruner.ignored_layers, root_module_types=self.pruner.root_module_types
        ):
            importance = self.pruner.estimate_importance(group)
            for item in group.items:
                name = self._names.get(id(item.dep.target.module))
                if name is not None and item.dep.handler == tp.prune_linear_out_channels:
                    nodes, roots = torch.tensor(item.idxs), torch.tensor(item.root_idxs)
                    found[name] = torch.empty_like(importance).index_copy(0, nodes, importance[roots])
        return found


def _forward(network: EmotionNetwork, features: Mapping[str, Tensor]) -> list[Tensor]:
    """The network's own forward pass, whose attention weights multiply the h_m as constants.

    Torch-Pruning takes the factors of a product for coupled node by node; a weight is of no node, but of a modality.
    What the scorers read is coupled with the h_m all the same: their scores are outputs of their own.
    """
    scores = []

    def cut(scorer: nn.Module, inputs: tuple[Tensor, ...], output: Tensor) -> Tensor:
        scores.append(output)
        return output.detach()

    scorers = [module for name, module in network.named_modules() if name.endswith(".scorer")]
    hooks = [scorer.register_forward_hook(cut) for scorer in scorers]
    outputs = [*network(features), *scores]
    for hook in hooks:
        hook.remove()
    return outputs
