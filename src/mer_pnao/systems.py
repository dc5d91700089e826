"""The systems of Table 1: each is trained, measured and written to `models/<system>/`.

linear_probe; baseline (the former attention fusion) and enf (entropy fusion), dense; pnao and enf_pnao, the same two
shrunk by Algorithm 1; final, the last two weighted linearly.
"""

import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mer_pnao.dataset import UNLABELLED, Dataset, load_dataset
from mer_pnao.evaluation.cost import parameters
from mer_pnao.evaluation.scores import score
from mer_pnao.features.provenance import ENCODERS
from mer_pnao.latency_memory import remembered_latency_ms
from mer_pnao.layout import BRANCHES, PREDICTIONS, further_seeds, seed_folder
from mer_pnao.model_store import (
    Decisions,
    RoundModel,
    best_round_directory,
    branches_table,
    decisions_of,
    predictions_table,
    read_json,
    read_predictions,
    round_directories,
    write_curves,
    write_json,
    write_round,
    write_weights,
)
from mer_pnao.network.emotion_network import EmotionNetwork, NetworkConfig
from mer_pnao.params import Params
from mer_pnao.pruning.pnao import (
    Optimisation,
    PnaoConfig,
    Round,
    RoundStore,
    RunTasks,
    algorithm_version,
    best_round,
    optimise_in_step,
)
from mer_pnao.training.ensemble import choose_weight
from mer_pnao.training.examples import Examples
from mer_pnao.training.folds import make_folds
from mer_pnao.training.probe import fit_probe

FUSION = {"baseline": "attention", "enf": "entropy", "pnao": "attention", "enf_pnao": "entropy"}
DENSE = ("baseline", "enf")
MEMBERS = ("pnao", "enf_pnao")  # of the final system


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
        yield _write_round(directory, system, finished, dataset, params, optimisations[place].pnao, seed)
    for _, out, _ in jobs:
        _mark_best(out)


def _mark_best(out: Path) -> None:
    records = [read_json(directory / "record.json") for directory in round_directories(out)]
    best = best_round((record["scores"]["trainval"]["com"], record["parameters"]) for record in records)
    for record in records:
        record["best"] = record["round"] == best
        write_json(out / f"round-{record['round']:02d}" / "record.json", record)


def run_probe(dataset: Dataset, params: Params, out: Path) -> None:
    """Fit the linear probe out of fold and write its record and predictions.

    A test prediction averages the folds' probes, as it does for the networks.
    """
    folds = folds_of(dataset, params)
    classes = len(dataset.labels)
    trainval = _without_branches(np.zeros((len(folds), classes)), np.zeros(len(folds)))
    tests: dict[str, list[tuple[np.ndarray, np.ndarray]]] = {split: [] for split in dataset.tests}
    counts = []
    for fold in range(params.folds):
        probe = fit_probe(
            dataset.train.select(np.flatnonzero(folds != fold)),
            params.evaluation.probe_c,
            params.evaluation.probe_ridge,
        )
        rows = np.flatnonzero(folds == fold)
        trainval.posterior[rows], trainval.valence[rows] = probe.predict(dataset.train.select(rows))
        for split, examples in dataset.tests.items():
            tests[split].append(probe.predict(examples))
        counts.append(probe.parameters)
    means = {
        split: _without_branches(*(np.mean(values, axis=0) for values in zip(*each, strict=True)))
        for split, each in tests.items()
    }
    record = {
        "system": "linear_probe",
        "profile": params.profile,
        "parameters": counts[0],
        "parameters_ratio": None,
        "fold_seed": params.seed,
    }
    _write_decisions(out, record, dataset, {"trainval": trainval, **means}, ())


def _without_branches(posterior: np.ndarray, valence: np.ndarray) -> Decisions:
    clips, classes = posterior.shape
    return Decisions(posterior, valence, np.zeros((clips, 0)), np.zeros((clips, 0, classes)))


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
    _write_decisions(out, record, dataset, mixed, branches)


def _mix(first: Decisions, second: Decisions, weight: float) -> Decisions:
    """The first system's decisions by the weight, the second's by the rest.

    Branch by branch, too: the two systems' branches of one name read the same feature sets, so their mixture is one
    voter on these, as the average over the folds is.
    """
    pairs = zip(first.arrays, second.arrays, strict=True)
    return Decisions(*(weight * a + (1 - weight) * b for a, b in pairs))


def _write_round(
    directory: Path,
    system: str,
    finished: Round,
    dataset: Dataset,
    params: Params,
    pnao: PnaoConfig,
    seed: int,
) -> Path:
    """Write one round's model, curves, weight distribution, predictions and record; the record comes last."""
    shutil.rmtree(directory, ignore_errors=True)
    dense = parameters(EmotionNetwork(finished.blueprint))
    networks = finished.networks()
    model = RoundModel(system, finished.number, finished.blueprint, dataset.labels, tuple(networks))
    write_round(directory, model)
    write_json(directory / ENCODERS, dataset.encoders)
    write_curves(directory / "curves.csv", [fold.curves for fold in finished.folds])
    write_weights(directory / "weights.csv", networks)
    decisions = {"trainval": decisions_of(finished.out_of_fold)}
    decisions |= {split: model.decide(examples.tensors()) for split, examples in dataset.tests.items()}
    count = float(np.mean([parameters(network) for network in networks]))
    first_clip = {name: torch.tensor(values[:1]) for name, values in dataset.test.features.items()}
    layers = finished.blueprint.config
    kept = {
        name: [
            float(np.mean([len(network.kept()[name]) for network in networks])),
            _dense_nodes(name, layers),
        ]
        for name in networks[0].kept()
    }
    record = {
        "system": system,
        "profile": params.profile,
        "algorithm": algorithm_version(),
        "acoustic": list(params.features.acoustic),
        "visual": list(params.features.visual),
        "round": finished.number,
        "best": False,
        "key": finished.key,
        "parameters": round(count),
        "parameters_ratio": round(count / dense, 6),
        "latency_ms": remembered_latency_ms(model, first_clip),
        "naor": pnao.naor if pnao.rounds else None,
        "alpha": pnao.alpha,
        "rewind": pnao.rewind if pnao.rounds else None,
        "scope": pnao.scope if pnao.rounds else None,
        "min_nodes": pnao.min_nodes if pnao.rounds else None,
        "fusion": finished.blueprint.fusion,
        "seed": seed,
        "fold_seed": params.seed,
        "folds": params.folds,
        "network": asdict(params.network),
        "training": {name: value for name, value in asdict(params.training).items() if name != "seeds"},
        "kept": kept,
        "pruned_nodes": finished.pruned,
        "nothing_pruned": finished.number > 0 and finished.pruned == 0,
    }
    _write_decisions(directory, record, dataset, decisions, params.features.acoustic)
    return directory


def _dense_nodes(layer: str, config: NetworkConfig) -> int:
    return config.hidden if layer.endswith(".inner") else config.width


def _write_decisions(
    directory: Path,
    record: dict[str, Any],
    dataset: Dataset,
    decided: Mapping[str, Decisions],
    branches: Sequence[str],
) -> None:
    """Write predictions.csv, branches.csv where there are branches, and the record with the scores of each split.

    Takes decisions for every split; those for clips without a label are written and not scored.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables, branch_tables, scores = [], [], {}
    for split, examples in (("trainval", dataset.train), *dataset.tests.items()):
        decisions = decided[split]
        tables.append(predictions_table(examples.names, split, decisions, dataset.labels, branches))
        branch_tables.append(branches_table(examples.names, split, decisions, dataset.labels, branches))
        labelled = examples.emotion != UNLABELLED
        if labelled.any():
            chosen, valence = decisions.posterior[labelled].argmax(axis=1), decisions.valence[labelled]
            scores[split] = asdict(score(examples.emotion[labelled], chosen, examples.valence[labelled], valence))
    pd.concat(tables).to_csv(directory / PREDICTIONS, index=False)
    if branches:
        pd.concat(branch_tables).to_csv(directory / BRANCHES, index=False)
    write_json(directory / "record.json", {**record, "scores": scores, "data_digest": dataset.digest})


def _in_order(table: pd.DataFrame, decisions: Decisions, split: str, examples: Examples) -> Decisions:
    """The decisions of one split in the order of the examples."""
    rows = {name: i for i, (name, of) in enumerate(zip(table["name"], table["split"], strict=True)) if of == split}
    order = [rows[name] for name in examples.names]
    return Decisions(*(values[order] for values in decisions.arrays))
