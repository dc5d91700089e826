"""The whole network: z-scoring, one AFG branch and joint decoder an acoustic set, and decision fusion.

Shapes: M branches, B clips, C classes, P fused positions of a branch.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

import torch
from torch import Tensor, nn

from mer_pnao.foundations.checks import at_least, between, one_of
from mer_pnao.network.decoding import JointDecoder
from mer_pnao.network.fusion import FUSIONS, weighted_decision
from mer_pnao.network.gathering import SCORERS, AttentionGathering
from mer_pnao.network.modality import OUTPUTS, ModalityMLP

GATHERED = ("own", "all")


@dataclass(frozen=True)
class NetworkConfig:
    """The dense network's size. Raises ValueError naming key, value and range."""

    hidden: int = 256  # the official baseline's inner width a modality
    width: int = 128  # D, the official baseline's fused width
    dropout: float = 0.3  # inside the modality MLPs; the corpora are small
    scorer: str = "tanh"  # tanh: additive attention, linear: softmax of a map, mlp: the official baseline's, mean: none
    temperature: float = 1.0  # divides the scores: above 1 attention stays softer, which small corpora need
    output: str = "relu"  # of the modality MLPs; linear: h_m keeps its sign, for features that a linear map reads best

    def __post_init__(self) -> None:
        between("hidden", self.hidden, 1, 65_536)
        between("width", self.width, 1, 65_536)
        between("dropout", self.dropout, 0, 0.95)
        one_of("scorer", self.scorer, SCORERS)
        between("temperature", self.temperature, 0.01, 1000)
        one_of("output", self.output, OUTPUTS)


@dataclass(frozen=True)
class Blueprint:
    """Everything but the weights that determines the dense network. Raises ValueError naming what does not fit."""

    widths: Mapping[str, int]  # feature set -> its width
    acoustic: tuple[str, ...]  # one branch each
    visual: tuple[str, ...]  # in every branch
    classes: int
    fusion: str  # entropy: eq. 5-7; attention: the former strategy
    config: NetworkConfig = field(default_factory=NetworkConfig)
    gathered: str = "own"  # own: a branch reads its acoustic set and the visual ones; all: every set, its own first

    def __post_init__(self) -> None:
        one_of("fusion", self.fusion, FUSIONS)
        one_of("gathered", self.gathered, GATHERED)
        at_least("classes", self.classes, 2)
        at_least("number of acoustic sets", len(self.acoustic), 1)
        for name in (*self.acoustic, *self.visual):
            if name not in self.widths:
                raise ValueError(f"feature set {name!r} has no width")
        taken = nn.ModuleDict()  # the networks keep a set's modules under its name
        for name, width in self.widths.items():
            if not name or "." in name or hasattr(taken, name):
                raise ValueError(f"feature set {name!r} bears a name that torch uses itself, an empty one or a dot")
            at_least(f"width of feature set {name}", width, 1)

    def branches(self) -> dict[str, tuple[str, ...]]:
        """The sets of each branch, its acoustic one first; a branch bears its acoustic set's name."""
        others = self.acoustic if self.gathered == "all" else ()
        return {own: (own, *(name for name in others if name != own), *self.visual) for own in self.acoustic}


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
        """Take the statistics of (N, width); a constant dimension is centred and not scaled."""
        self.mean.copy_(features.mean(dim=0))
        std = features.std(dim=0, correction=0)
        self.std.copy_(torch.where(std > 1e-8, std, 1.0))

    def forward(self, features: Tensor) -> Tensor:
        """(B, width) -> (B, width)."""
        return (features - self.mean) / self.std


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
            gathering = AttentionGathering(mlps, config.scorer, *sizes, config.temperature)
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

    def prunable(self) -> dict[str, nn.Linear]:
        """The hidden layers whose nodes may go, by name: inner and outer layer of each modality's MLP.

        Inputs, scorers, decoders and the decision fusion are never pruned; only their columns follow.
        """
        return {
            name: layer
            for name, layer in self.named_modules()
            if ".modalities." in name and isinstance(layer, nn.Linear)
        }

    def kept(self) -> dict[str, Tensor]:
        """The dense indices of the nodes that each prunable layer has left, (rows,) int64."""
        return kept_in_state(self.state_dict())

    def weight_matrices(self) -> list[nn.Parameter]:
        """All weight matrices (no biases): what the sparsity term and the weight decay act on."""
        return [parameter for parameter in self.parameters() if parameter.ndim == 2]

    def fit_zscore(self, features: Mapping[str, Tensor]) -> None:
        """Take every set's statistics from the training clips, each (N, width)."""
        for name, module in self.zscore.items():
            assert isinstance(module, ZScore)
            module.fit(features[name])


def kept_in_state(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The kept nodes recorded in a state dict, by prunable layer."""
    return {
        name.removesuffix("_kept"): nodes
        for name, nodes in state.items()
        if name.endswith(("inner_kept", "outer_kept"))
    }


def dtype_of(state: Mapping[str, Tensor]) -> torch.dtype:
    """The floating-point type of a state dict's weights."""
    return next(tensor.dtype for tensor in state.values() if tensor.is_floating_point())


def from_state(blueprint: Blueprint, state: Mapping[str, Tensor]) -> EmotionNetwork:
    """Rebuild a dense or compact network from its state dict, in eval mode.

    Raises RuntimeError (torch's, naming the key) when the state does not fit the blueprint.
    """
    network = EmotionNetwork(blueprint, kept_in_state(state)).to(dtype_of(state))
    network.load_state_dict(dict(state))
    return network.eval()
