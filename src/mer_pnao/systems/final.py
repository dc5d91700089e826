"""The final system: pnao and enf_pnao, weighted linearly with one weight chosen out of fold; the probe if asked."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from mer_pnao.foundations.files import write_json
from mer_pnao.outs.decisions import Decisions, read_predictions
from mer_pnao.outs.names import CONFIG, FINAL, MEMBERS, PREDICTIONS, PROBE, TRAINVAL, further_seeds, seed_folder
from mer_pnao.outs.record import Member, Record, Settings, best_round_directory
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.write import write_decisions
from mer_pnao.training.config import FinalConfig
from mer_pnao.training.ensemble import choose_weight

_NETWORKS_ALONE = FinalConfig()


def combine_final(
    dataset: Dataset, branches: Sequence[str], models: Path, out: Path, config: FinalConfig = _NETWORKS_ALONE
) -> None:
    """Weigh the best rounds of pnao and enf_pnao, and write `config.json`, record and predictions.

    Each seed has a final system of its own, with a weight chosen on its own out-of-fold predictions. With the probe as
    a member, the decision is the plain mean of the weighted networks' and the probe's. Raises InputError when a member
    was not trained to its end with a seed that the other one was trained with.
    """
    probe = models / PROBE if config.probe else None
    _combine_seed(dataset, branches, {system: models / system for system in MEMBERS}, probe, out)
    for seed in sorted(set().union(*(further_seeds(models / system) for system in MEMBERS))):
        members = {system: seed_folder(models / system, seed) for system in MEMBERS}
        _combine_seed(dataset, branches, members, probe, seed_folder(out, seed))


def _combine_seed(
    dataset: Dataset, branches: Sequence[str], trained: Mapping[str, Path], probe: Path | None, out: Path
) -> None:
    best = {system: best_round_directory(directory) for system, directory in trained.items()}
    predicted = {system: read_predictions(folder / PREDICTIONS, dataset.labels) for system, folder in best.items()}
    splits = {TRAINVAL: dataset.train, **dataset.tests}
    parts = {
        split: [predicted[system].decisions(split, examples.names) for system in MEMBERS]
        for split, examples in splits.items()
    }
    first, second = parts[TRAINVAL]
    weight = choose_weight((first.posterior, first.valence), (second.posterior, second.valence), dataset.train)
    # A weight of 0 or 1 leaves one of the two out: then nobody has to load it.
    shares = {system: share for system, share in zip(MEMBERS, (weight, 1 - weight), strict=True) if share > 0}
    used = {system: Record.read(best[system]) for system in shares}
    decided = {split: _mix(weight, *each) for split, each in parts.items()}
    one = next(iter(used.values())).settings
    if probe:
        linear = read_predictions(probe / PREDICTIONS, dataset.labels)
        decided = {
            split: _averaged(each, linear.decisions(split, splits[split].names)) for split, each in decided.items()
        }
        shares = {system: share / 2 for system, share in shares.items()} | {PROBE: 0.5}
        used[PROBE] = Record.read(probe)
    members = tuple(
        Member(system=system, round=record.round.number if record.round else None, weight=shares[system])
        for system, record in used.items()
    )
    total = sum(record.parameters for record in used.values())
    dense = sum(record.parameters / (record.parameters_ratio or 1) for record in used.values())
    shared = {name: getattr(one, name) for name in one.model_fields_set - {"fusion"}}  # what both members were asked
    record = Record(
        system=FINAL,
        settings=Settings(**shared, members=members),
        parameters=total,
        parameters_ratio=round(total / dense, 6),
        scores=write_decisions(out, dataset, decided, branches),
        data_digest=dataset.digest,
    )
    stated = record.settings.stated()
    write_json(out / CONFIG, {"members": stated["members"], "labels": list(dataset.labels), "seed": stated["seed"]})
    record.write(out)


def _mix(weight: float, first: Decisions, second: Decisions) -> Decisions:
    """The first system's decisions by the weight, the second's by the rest.

    Branch by branch, too: the two systems' branches of one name read the same feature sets, so their mixture is one
    voter on these, as the average over the folds is.
    """
    pairs = zip(first.arrays, second.arrays, strict=True)
    return Decisions(*(weight * a + (1 - weight) * b for a, b in pairs))


def _averaged(networks: Decisions, probe: Decisions) -> Decisions:
    """The plain mean of both decisions; the branches and their weights stay the networks'."""
    posterior, valence = (networks.posterior + probe.posterior) / 2, (networks.valence + probe.valence) / 2
    return replace(networks, posterior=posterior, valence=valence)
