"""From a profile to the run of Algorithm 1 that makes a system."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mer_pnao.foundations.errors import as_input_error
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.outs.names import FUSION, PRUNED
from mer_pnao.params.profile import Params
from mer_pnao.pruning.rounds import Optimisation
from mer_pnao.training.examples import Examples
from mer_pnao.training.folds import make_folds


def optimisation_of(system: str, examples: Examples, params: Params, seed: int | None = None) -> Optimisation:
    """The run that makes a system from N training clips, with a seed of `params.seeds` (default: the first).

    Whoever asks for the same run, a stage, a search or the controls, finds its rounds in the store.
    """
    features = params.features
    blueprint = Blueprint(
        {name: examples.features[name].shape[1] for name in features.sets},
        features.acoustic,
        features.visual,
        examples.classes,
        FUSION[system],
        params.network,
        gathered=features.gathered,
        text=features.text,
    )
    # The dense systems are trained without sparsity and not pruned.
    pnao = params.pnao if system in PRUNED else replace(params.pnao, alpha=0.0, rounds=0)
    seed = params.seeds[0] if seed is None else seed
    return Optimisation(blueprint, examples, folds_of(examples, params), params.training, pnao, seed)


def folds_of(examples: Examples, params: Params, labels: Sequence[str] = ()) -> NDArray[np.int64]:
    """The fold that holds each training clip out, (N,), the same for every system and seed.

    Raises InputError, with the label where they are given, when the clips allow no such folds.
    """
    with as_input_error(ValueError):
        return make_folds(examples.emotion, examples.speakers, params.folds, params.seed, labels)
