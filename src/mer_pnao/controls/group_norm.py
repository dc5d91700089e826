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
            forward_fn=_coupling,
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


def _coupling(network: EmotionNetwork, features: Mapping[str, Tensor]) -> list[Tensor]:
    """What depends on which node, in operations that Torch-Pruning can trace.

    The dense network's own forward pass lays the nodes of all layers side by side and takes them apart again, through
    which no trace leads. Whether a modality's h_m is weighted before it is added changes no dependency.
    """
    layers = dict(network.named_modules())
    outputs = []
    for branch, sets in network.blueprint.branches().items():
        gathering, vectors = f"branches.{branch}.gathering", []
        for name in sets:
            mlp = f"{gathering}.modalities.{name}"
            vectors.append(layers[f"{mlp}.outer"](layers[f"{mlp}.inner"](features[name]).relu()).relu())
        fused = sum(vectors[1:], start=vectors[0])
        scorer = f"{gathering}.scorer"
        match network.blueprint.config.scorer:
            case "tanh":
                outputs.append(layers[f"{scorer}.project"](fused))
            case "linear":
                outputs.append(layers[f"{scorer}.score"](torch.cat(vectors, dim=-1)))
            case "mlp":
                outputs.append(layers[f"{scorer}.inner"](torch.cat(vectors, dim=-1)))
        decoder = f"branches.{branch}.decoder"
        outputs += [layers[f"{decoder}.emotion"](fused), layers[f"{decoder}.valence_of_fused"](fused)]
    return outputs
