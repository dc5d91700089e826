"""How much a node matters (equation 10)."""

from collections.abc import Mapping

from torch import Tensor, nn


def node_importance(weight: Tensor) -> Tensor:
    """Mean absolute incoming weight of each node: weight (rows, columns) -> (rows,).

    Equation 10: gamma(l, j) = (1 / N_l) sum_n |Theta_l(j, n)|. The paper calls it an L1 norm, but divides by the number
    of columns. That does not make layers of different fan-in comparable: initial weights, and so these means, shrink
    with its square root, and under one threshold for all layers the widest fall first (docs/findings_log.md). A row is
    a node (`nn.Linear` keeps one a row).

    Raises ValueError for a weight that is not a matrix or has no columns.
    """
    if weight.ndim != 2 or weight.shape[1] == 0:
        raise ValueError(f"node_importance takes a matrix (rows, columns), got shape {tuple(weight.shape)}")
    return weight.abs().mean(dim=1)


def importances(layers: Mapping[str, nn.Linear]) -> dict[str, Tensor]:
    """`node_importance` of every prunable layer, detached: name -> (rows,)."""
    return {name: node_importance(layer.weight.detach()) for name, layer in layers.items()}
