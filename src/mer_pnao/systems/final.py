"""The final system: pnao and enf_pnao, weighted linearly with one weight chosen out of fold."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from mer_pnao.foundations.files import read_json, write_json
from mer_pnao.outs.decisions import Decisions, read_predictions
from mer_pnao.outs.names import MEMBERS, PREDICTIONS, further_seeds, seed_folder
from mer_pnao.outs.networks import best_round_directory
from mer_pnao.systems.dataset import Dataset
from mer_pnao.systems.write import write_decisions
from mer_pnao.training.ensemble import choose_weight
from mer_pnao.training.examples import Examples


def combine_final(dataset: Dataset, branches: Sequence[str], models: Path, out: Path) -> None:
    """Weigh the best rounds of pnao and enf_pnao, and write `config.json`, record and predictions.

    Each seed has a final system of its own, with a weight chosen on its own out-of-fold predictions. Raises InputError
    when a member was not trained to its end with a seed that the other one was trained with.
    """
    _combine_seed(dataset, branches, {system: models / system for system in MEMBERS}, out)
    for seed in sorted(set().union(*(further_seeds(models / system) for system in MEMBERS))):
        members = {system: seed_folder(models / system, seed) for system in MEMBERS}
        _combine_seed(dataset, branches, members, seed_folder(out, seed))


def _combine_seed(dataset: Dataset, branches: Sequence[str], trained: Mapping[str, Path], out: Path) -> None:
    best = {system: best_round_directory(directory) for system, directory in trained.items()}
    records = {system: read_json(directory / "record.json") for system, directory in best.items()}
    splits = {"trainval": dataset.train, **dataset.tests}
    parts: dict[str, dict[str, Decisions]] = {split: {} for split in splits}
    for system, directory in best.items():
        table, decisions = read_predictions(directory / PREDICTIONS, dataset.labels)
        for split, examples in splits.items():
            parts[split][system] = _in_order(table, decisions, split, examples)
    first, second = (parts["trainval"][system] for system in MEMBERS)
    weight = choose_weight((first.posterior, first.valence), (second.posterior, second.valence), dataset.train)
    mixed = {split: _mix(of[MEMBERS[0]], of[MEMBERS[1]], weight) for split, of in parts.items()}
    # A weight of 0 or 1 leaves one of the two out: then nobody has to load it.
    shares = {system: share for system, share in zip(MEMBERS, (weight, 1 - weight), strict=True) if share > 0}
    members = [
        {"system": system, "round": records[system]["round"], "weight": share} for system, share in shares.items()
    ]
    used = [records[system] for system in shares]
    seed = used[0]["seed"]
    write_json(out / "config.json", {"members": members, "labels": list(dataset.labels), "seed": seed})
    dense = sum(record["parameters"] / record["parameters_ratio"] for record in used)
    total = sum(record["parameters"] for record in used)
    profile = used[0]["profile"]
    record = {"system": "final", "profile": profile, "members": members, "parameters": total, "seed": seed}
    record |= {"parameters_ratio": round(total / dense, 6)}
    write_decisions(out, record, dataset, mixed, branches)


def _mix(first: Decisions, second: Decisions, weight: float) -> Decisions:
    """The first system's decisions by the weight, the second's by the rest.

    Branch by branch, too: the two systems' branches of one name read the same feature sets, so their mixture is one
    voter on these, as the average over the folds is.
    """
    pairs = zip(first.arrays, second.arrays, strict=True)
    return Decisions(*(weight * a + (1 - weight) * b for a, b in pairs))


def _in_order(table: pd.DataFrame, decisions: Decisions, split: str, examples: Examples) -> Decisions:
    """The decisions of one split in the order of the examples."""
    rows = {name: i for i, (name, of) in enumerate(zip(table["name"], table["split"], strict=True)) if of == split}
    order = [rows[name] for name in examples.names]
    return Decisions(*(values[order] for values in decisions.arrays))
