"""The systems of Table 1: each is trained, measured and written to `models/<system>/`.

linear_probe; baseline (the former attention fusion) and enf (entropy fusion), dense; pnao and enf_pnao, the same two
shrunk by Algorithm 1; final, the last two weighted linearly.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from mer_pnao.foundations.errors import as_input_error
from mer_pnao.outs.names import seed_folder
from mer_pnao.outs.record import Record, round_directories
from mer_pnao.params.profile import Params
from mer_pnao.pruning.pnao import optimise_in_step
from mer_pnao.pruning.rounds import MapFolds, RoundStore, best_round
from mer_pnao.systems.dataset import Dataset, trained_on_of
from mer_pnao.systems.optimisation import optimisation_of
from mer_pnao.systems.write import write_round
from mer_pnao.training.fit import DivergenceError


def run_systems(
    outs: Mapping[str, Path], dataset: Dataset, params: Params, store: RoundStore, run: MapFolds = map
) -> Iterator[Path]:
    """Train systems with each seed and write `round-NN/` for each round as it is finished; yields that folder.

    `outs` maps a system to its folder. The first seed's rounds lie there, those of a further one in `seed-<s>` below.
    After the last round the records say which one is the best, of each system and seed, by Train&Val Com alone. Initial
    weights, shuffling and dropout depend on the seed; the folds do not. Raises InputError when a training diverges.
    """
    jobs = [
        (system, seed_folder(out, seed) if place else out, seed)
        for system, out in outs.items()
        for place, seed in enumerate(params.seeds)
    ]
    optimisations = [optimisation_of(system, dataset.train, params, seed) for system, _, seed in jobs]
    trained_on = trained_on_of(dataset, params)
    with as_input_error(DivergenceError):
        for place, finished in optimise_in_step(optimisations, store, run):
            system, out, _ = jobs[place]
            directory = out / f"round-{finished.number:02d}"
            yield write_round(directory, system, finished, dataset, params, optimisations[place], trained_on)
    for _, out, _ in jobs:
        _mark_best(out)


def _mark_best(out: Path) -> None:
    records = {directory: Record.read(directory) for directory in round_directories(out)}
    best = best_round((record.com, record.parameters) for record in records.values())
    for directory, record in records.items():
        record.marked(record.number == best).write(directory)
