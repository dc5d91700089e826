"""The whole network: z-scoring, one AFG branch and joint decoder an acoustic set, and decision fusion.

Shapes: M branches, B clips, C classes, P fused positions of a branch.
"""

from collections.abc import Mapping
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mer_pnao.foundations.checks import one_of
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.decoding import JointDecoder
from mer_pnao.network.fusion import FUSIONS, weighted_decision
from mer_pnao.network.gathering import AttentionGathering
from mer_pnao.network.modality import ModalityMLP

# Standard deviations. None of N values lies farther from their mean than sqrt(N - 1) of them (Samuelson 1968), so no
# clip of 10,000 that a network was trained on is touched; one in other units or with a broken feature is.
FARTHEST = 100.0
_ROUNDING = 1e-6  # relative, some ulps of float32


class Prediction(NamedTuple):
    """What the network returns for B clips."""

    log_posteriors: Tensor  # (M, B, C) of the branches
    valences: Tensor  # (M, B) of the branches
    weights: Tensor  # (M, B) of the decision fusion, summing to one
    posterior: Tensor  # (B, C) of the joint decision
    valence: Tensor  # (B,) of the joint decision


class ZScore(nn.Module):
    """(x - mean) / std with the statistics of the fold's training clips, part of the saved model."""

    mean: Tensor
    std: Tensor

    def __init__(self, width: int) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(width))
        self.register_buffer("std", torch.ones(width))

    def fit(self, features: Tensor) -> None:
        """Take the statistics of (N, width).

        A dimension that varies by no more than float32 rounds its values is taken for constant: it has taught nothing,
        so it is zero for every clip, whatever its value there.
        """
        exact = features.double()
        mean, std = exact.mean(dim=0), exact.std(dim=0, correction=0)
        self.mean.copy_(mean)
        self.std.copy_(torch.where(std > _ROUNDING * mean.abs(), std, torch.inf))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, width), within FARTHEST."""
        return ((features - self.mean) / self.std).clamp(-FARTHEST, FARTHEST)


class Branch(nn.Module):
    """One acoustic set and the visual sets: AFG, then the joint decoder."""

    def __init__(self, gathering: AttentionGathering, classes: int) -> None:
        super().__init__()
        self.gathering = gathering
        self.decoder = JointDecoder(gathering.fused_width, classes)

    def forward(self, scaled: Mapping[str, Tensor]) -> tuple[Tensor, Tensor, Tensor]:
        """From z-scored features to the fused vectors (B, P), log-posteriors (B, C) and valences (B,)."""
        fused = self.gathering(scaled)
        return fused, *self.decoder(fused)


class EmotionNetwork(nn.Module):
    """The network of Figure 1, dense or with the nodes that pruning has kept."""

    def __init__(self, blueprint: Blueprint, kept: Mapping[str, Tensor] | None = None) -> None:
        """Build with random weights; `kept` maps a prunable layer to its nodes' dense indices (default: all)."""
        super().__init__()
        self.blueprint = blueprint
        one_of("fusion", blueprint.fusion, FUSIONS)
        config = blueprint.config
        nodes = dict(kept or {})

        def mlp_of(branch: str, name: str) -> ModalityMLP:
            layers = f"branches.{branch}.gathering.modalities.{name}"
            inner = nodes.pop(f"{layers}.inner", torch.arange(config.hidden))
            outer = nodes.pop(f"{layers}.outer", torch.arange(config.width))
            return ModalityMLP(blueprint.widths[name], inner, outer, config.dropout, config.output)

        def branch_of(branch: str, sets: tuple[str, ...]) -> Branch:
            mlps = {name: mlp_of(branch, name) for name in sets}
            sizes = (config.hidden, config.width, config.dropout)
            own = f"branches.{branch}.gathering.scorer."
            of_scorer = {name.removeprefix(own): nodes.pop(name) for name in [*nodes] if name.startswith(own)}
            gathering = AttentionGathering(mlps, config.scorer, *sizes, config.temperature, of_scorer)
            return Branch(gathering, blueprint.classes)

        self.zscore = nn.ModuleDict({name: ZScore(width) for name, width in blueprint.widths.items()})
        branches = {name: branch_of(name, sets) for name, sets in blueprint.branches().items()}
        if nodes:
            raise ValueError(f"{next(iter(nodes))} is not a prunable layer of this network")
        self.branches = nn.ModuleDict(branches)
        self.fusion = FUSIONS[blueprint.fusion]([branch.gathering.fused_width for branch in branches.values()])

    def forward(self, features: Mapping[str, Tensor]) -> Prediction:
        """Predict for features (B, width of the set) a set."""
        return self.decide(self.scale(features))

    def scale(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The z-scored features, (B, width of the set) a set."""
        return {name: zscore(features[name]) for name, zscore in self.zscore.items()}

    def decide(self, scaled: Mapping[str, Tensor]) -> Prediction:
        """Predict for z-scored features: what training calls, whose statistics stay as they are."""
        fused, of_emotion, of_valence = zip(*(branch(scaled) for branch in self.branches.values()), strict=True)
        log_posteriors, valences = torch.stack(of_emotion), torch.stack(of_valence)
        weights = self.fusion(fused, log_posteriors)
        posterior, valence = weighted_decision(log_posteriors.exp(), valences, weights)
        return Prediction(log_posteriors, valences, weights, posterior, valence)

    def branch(self, name: str) -> Branch:
        """One branch by its name."""
        branch = self.branches[name]
        assert isinstance(branch, Branch)
        return branch

    def prunable(self, scorers: bool = False) -> dict[str, nn.Linear]:
        """The hidden layers whose nodes may go, by name: inner and outer layer of each modality's MLP.

        And, asked for, the hidden layers of the gathering's scorers. Inputs, decoders and the decision fusion are never
        pruned; only their columns follow.
        """
        asked = {
            f"branches.{branch}.gathering.scorer.{layer}"
            for branch in (self.branches if scorers else ())
            for layer in self.branch(branch).gathering.scorer.readers
        }
        return {
            name: layer
            for name, layer in self.named_modules()
            if isinstance(layer, nn.Linear) and (".modalities." in name or name in asked)
        }

    def kept(self, scorers: bool = False) -> dict[str, Tensor]:
        """The dense indices of the nodes that each `prunable` layer has left, (rows,) int64."""
        nodes = kept_in_state(self.state_dict())
        return {name: nodes[name] for name in self.prunable(scorers)}

    def weight_matrices(self) -> list[nn.Parameter]:
        """All weight matrices (no biases): what the sparsity term and the weight decay act on."""
        return [parameter for parameter in self.parameters() if parameter.ndim == 2]

    def fit_zscore(self, features: Mapping[str, Tensor]) -> None:
        """Take every set's statistics from the training clips, each (N, width)."""
        for name, module in self.zscore.items():
            assert isinstance(module, ZScore)
            module.fit(features[name])


def kept_in_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kept nodes recorded in a state dict, by prunable layer, those of scorers among them."""
    return {
        name.removesuffix("_kept"): nodes
        for name, nodes in state.items()
        if name.endswith("_kept") and not name.endswith("fused_kept")
    }


def dtype_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """The floating-point type of a state dict's weights."""
    return next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())


def from_state(blueprint: Blueprint, state: Mapping[str, Tensor]) -> EmotionNetwork:
    """Rebuild a dense or compact network from its state dict, in eval mode.

    Raises RuntimeError (torch's, naming the key) when the state does not fit the blueprint.
    """
    network = EmotionNetwork(blueprint, kept_in_state(state)).to(dtype_of(state))
    of_scorers = {f"{name}_kept": nodes for name, nodes in network.kept(scorers=True).items() if ".scorer." in name}
    network.load_state_dict(of_scorers | dict(state))  # earlier versions did not record them
    return network.eval()
