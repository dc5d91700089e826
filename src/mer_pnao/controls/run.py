"""PNAO and its controls on a profile, with every seed: decisions for both splits, ready to be compared."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from mer_pnao.controls.comparison import Contender, Trial, compare_methods, segments
from mer_pnao.controls.selection import nonzero_parameters
from mer_pnao.evaluation.bootstrap import Predicted
from mer_pnao.foundations.errors import as_input_error
from mer_pnao.outs.networks import RoundModel
from mer_pnao.params.profile import Params
from mer_pnao.pruning.rounds import MapFolds, RoundStore
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.optimisation import optimisation_of
from mer_pnao.training.fit import DivergenceError


@dataclass(frozen=True)
class Outcome:
    """One method at one size, trained with one seed."""

    method: str
    size: int  # PNAO's round that it was brought to
    seed: int
    epochs: int  # of each network's training, from the initial weights on
    parameters: float  # that are not zero, mean over the folds
    trainval: Predicted  # out of fold
    test: Predicted  # by the mean of the fold networks


def total_segments(params: Params) -> int:
    """How many trainings `run_controls` reports as done."""
    return len(params.seeds) * segments(params.controls.rounds)


def run_controls(
    dataset: Dataset,
    params: Params,
    store: RoundStore,
    run: MapFolds = map,
    done: Callable[[int], None] = lambda _: None,
) -> Iterator[Outcome]:
    """Train entropy fusion in every way, at every size of `controls.rounds` and with every one of `seeds`.

    The folds are the systems', the same for all methods and seeds. Raises InputError when a training diverges.
    """
    for seed in params.seeds:
        optimisation = optimisation_of("enf_pnao", dataset.train, params, seed)
        trial = Trial(optimisation, params.controls.rounds, params.controls.group_norm, store, run, done)
        with as_input_error(DivergenceError):
            for contender in compare_methods(trial):
                yield _outcome(contender, seed, dataset)


def _outcome(contender: Contender, seed: int, dataset: Dataset) -> Outcome:
    result = contender.result
    networks = result.networks()
    model = RoundModel(contender.method, result.number, result.blueprint, dataset.labels, tuple(networks))
    test = model.decide(dataset.test.tensors())
    return Outcome(
        contender.method,
        contender.size,
        seed,
        contender.epochs,
        float(np.mean([nonzero_parameters(network) for network in networks])),
        Predicted(result.out_of_fold.posterior.argmax(dim=-1).numpy(), result.out_of_fold.valence.numpy()),
        Predicted(test.posterior.argmax(axis=1), test.valence),
    )
