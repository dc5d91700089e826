"""The systems of Table 1: each is trained, measured and written to `models/<system>/`.

linear_probe; baseline (the former attention fusion) and enf (entropy fusion), dense; pnao and enf_pnao, the same two
shrunk by Algorithm 1; final, the last two weighted linearly.
"""

from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path

import numpy as np

from mer_pnao.foundations.files import read_json, write_json
from mer_pnao.outs.names import DENSE, FUSION, seed_folder
from mer_pnao.outs.networks import round_directories
from mer_pnao.params.profile import Params
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.pruning.pnao import Optimisation, optimise_in_step
from mer_pnao.pruning.rounds import RoundStore, RunTasks, best_round
from mer_pnao.systems.dataset import Dataset, load_dataset
from mer_pnao.systems.write import write_round
from mer_pnao.training.folds import make_folds


def dataset_of(params: Params) -> Dataset:
    """The profile's clips and features. Raises InputError for what `load_dataset` refuses."""
    features = params.data / "features"
    return load_dataset(params.data / "manifest.csv", features, params.features.sets, params.corpus.labels)


def pnao_of(system: str, params: Params) -> PnaoConfig:
    """The dense systems are trained without sparsity and not pruned."""
    return replace(params.pnao, alpha=0.0, rounds=0) if system in DENSE else params.pnao


def folds_of(dataset: Dataset, params: Params) -> np.ndarray:
    """The fold that holds each training clip out, (N,), the same for every system."""
    return make_folds(dataset.train.emotion, dataset.train.speakers, params.folds, params.seed)


def run_systems(
    outs: Mapping[str, Path], dataset: Dataset, params: Params, store: RoundStore, run: RunTasks = map
) -> Iterator[Path]:
    """Train systems with each seed and write `round-NN/` for each round as it is finished; yields that folder.

    `outs` maps a system to its folder. The first seed's rounds lie there, those of a further one in `seed-<s>` below.
    After the last round the records say which one is the best, of each system and seed, by Train&Val Com alone. Initial
    weights, shuffling and dropout depend on the seed; the folds do not.
    """
    folds = folds_of(dataset, params)
    jobs = [
        (system, seed_folder(out, seed) if place else out, seed)
        for system, out in outs.items()
        for place, seed in enumerate(params.training.seeds)
    ]
    optimisations = [
        Optimisation(
            params.blueprint(dataset.widths, FUSION[system], len(dataset.labels)),
            dataset.train,
            folds,
            params.training,
            pnao_of(system, params),
            seed,
        )
        for system, _, seed in jobs
    ]
    for place, finished in optimise_in_step(optimisations, store, run):
        system, out, seed = jobs[place]
        directory = out / f"round-{finished.number:02d}"
        yield write_round(directory, system, finished, dataset, params, optimisations[place].pnao, seed)
    for _, out, _ in jobs:
        _mark_best(out)


def _mark_best(out: Path) -> None:
    records = [read_json(directory / "record.json") for directory in round_directories(out)]
    best = best_round((record["scores"]["trainval"]["com"], record["parameters"]) for record in records)
    for record in records:
        record["best"] = record["round"] == best
        write_json(out / f"round-{record['round']:02d}" / "record.json", record)
