"""Removing masked nodes for good: their rows, their biases and the next layers' columns."""

from collections.abc import Mapping

import torch
from torch import Tensor

from mer_pnao.network.emotion_network import EmotionNetwork, from_state, kept_in_state


def compact(network: EmotionNetwork, masks: Mapping[str, Tensor]) -> EmotionNetwork:
    """The masked network, physically smaller, with the same outputs to rounding, in eval mode.

    A node of `inner` takes its row and bias and its column of `outer` along; a node of `outer` its row and bias and
    its column of the concatenating scorers; a hidden node of a scorer the column that reads it. A fused position that
    no modality feeds any more is zero in every fused vector, so its columns of the tanh scorer, of the decoders and of
    the attention fusion go too; scorers and fusions say themselves what their columns read. What stays is remembered
    by its index in the dense network, so compacting again composes.

    Raises ValueError for a mask of an unknown layer, of another length, or that empties a layer.
    """
    masks = _checked(network, masks)
    prunable = network.prunable(scorers=True)
    masks = {name: torch.ones(layer.out_features, dtype=torch.bool) for name, layer in prunable.items()} | masks
    state = {key: value.clone() for key, value in network.state_dict().items()}
    fused_kept = []  # what each branch's fused vector keeps of its present positions, for the decision fusion
    for branch, sets in network.blueprint.branches().items():
        gathering = f"branches.{branch}.gathering"
        inner = {name: masks[f"{gathering}.modalities.{name}.inner"] for name in sets}
        outer = {name: masks[f"{gathering}.modalities.{name}.outer"] for name in sets}
        for name in sets:
            mlp = f"{gathering}.modalities.{name}"
            _keep_rows(state, inner[name], f"{mlp}.inner.weight", f"{mlp}.inner.bias", f"{mlp}.inner_kept")
            _keep_columns(state, inner[name], f"{mlp}.outer.weight")
            _keep_rows(state, outer[name], f"{mlp}.outer.weight", f"{mlp}.outer.bias", f"{mlp}.outer_kept")
        fused = state[f"{gathering}.fused_kept"]
        fed = torch.isin(fused, torch.cat([state[f"{gathering}.modalities.{name}.outer_kept"] for name in sets]))
        fused_kept.append(fed)
        _keep_rows(state, fed, f"{gathering}.fused_kept")
        decoder = f"branches.{branch}.decoder"
        _keep_columns(state, fed, f"{decoder}.emotion.weight", f"{decoder}.valence_of_fused.weight")
        scorer, of = network.branch(branch).gathering.scorer, f"{gathering}.scorer"
        for weight, columns in scorer.columns(torch.cat([*outer.values()]), fed).items():
            _keep_columns(state, columns, f"{of}.{weight}")
        for layer, reader in scorer.readers.items():
            rows = (f"{of}.{layer}.weight", f"{of}.{layer}.bias", f"{of}.{layer}_kept")
            _keep_rows(state, masks[f"{of}.{layer}"], *(key for key in rows if key in state))
            _keep_columns(state, masks[f"{of}.{layer}"], f"{of}.{reader}.weight")
    for weight, columns in network.fusion.columns(torch.cat(fused_kept)).items():
        _keep_columns(state, columns, f"fusion.{weight}")
    return from_state(network.blueprint, state)


def keep_only(network: EmotionNetwork, kept: Mapping[str, Tensor]) -> EmotionNetwork:
    """Compact a network to those of its nodes that another's `kept()` names: layer name -> dense indices (rows',)."""
    present = kept_in_state(network.state_dict())
    return compact(network, {name: torch.isin(present[name], nodes) for name, nodes in kept.items()})


def _checked(network: EmotionNetwork, masks: Mapping[str, Tensor]) -> dict[str, Tensor]:
    layers = network.prunable(scorers=True)
    for name, mask in masks.items():
        if name not in layers:
            raise ValueError(f"{name} is not a prunable layer of this network")
        if mask.dtype != torch.bool or mask.shape != (layers[name].out_features,):
            raise ValueError(
                f"the mask of {name} must be boolean ({layers[name].out_features},), "
                f"got {mask.dtype} {tuple(mask.shape)}"
            )
        if not bool(mask.any()):
            raise ValueError(f"the mask of {name} removes every node")
    return dict(masks)


def _keep_rows(state: dict[str, Tensor], mask: Tensor, *keys: str) -> None:
    for key in keys:
        state[key] = state[key][mask]


def _keep_columns(state: dict[str, Tensor], mask: Tensor, *keys: str) -> None:
    for key in keys:
        state[key] = state[key][:, mask]
