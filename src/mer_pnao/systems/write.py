"""What is written of a finished round or system: networks, curves, predictions, and last the record."""

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import pandas as pd

from mer_pnao.evaluation.fusion_effect import fusion_effect
from mer_pnao.evaluation.scores import Scores, mean_scores, score
from mer_pnao.foundations.files import write_json
from mer_pnao.network.blueprint import NetworkConfig
from mer_pnao.network.emotion_network import EmotionNetwork
from mer_pnao.outs.decisions import Decisions, branches_table, predictions_table
from mer_pnao.outs.names import BRANCHES, CURVES, ENCODERS, PREDICTIONS, TRAINVAL, WEIGHTS
from mer_pnao.outs.networks import RoundModel, average, decisions_of, write_curves, write_networks, write_weights
from mer_pnao.outs.record import Record, RoundOutcome, Settings, SingleNetworks
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.params.profile import Params
from mer_pnao.pruning.pnao import algorithm_version
from mer_pnao.pruning.rounds import Optimisation, Round
from mer_pnao.systems.cost import parameters
from mer_pnao.systems.dataset import Dataset
from mer_pnao.training.examples import Examples


def write_round(
    directory: Path,
    system: str,
    finished: Round,
    dataset: Dataset,
    params: Params,
    asked: Optimisation,
    trained_on: TrainedOn,
) -> Path:
    """Write one round's model, curves, weight distribution, predictions and record; the record comes last."""
    shutil.rmtree(directory, ignore_errors=True)
    dense = parameters(EmotionNetwork(finished.blueprint))
    networks = finished.networks()
    model = RoundModel(system, finished.number, finished.blueprint, dataset.labels, tuple(networks), trained_on)
    write_networks(directory, model)
    write_json(directory / ENCODERS, dataset.encoders)
    write_curves(directory / CURVES, [fold.curves for fold in finished.folds])
    write_weights(directory / WEIGHTS, networks)
    apart = {split: model.decide_apart(examples.tensors()) for split, examples in dataset.tests.items()}
    decisions = {TRAINVAL: decisions_of(finished.out_of_fold)}
    decisions |= {split: average(each) for split, each in apart.items()}
    count = float(np.mean([parameters(network) for network in networks]))
    layers = finished.blueprint.config
    pnao = asked.pnao
    left = [network.kept(pnao.scorers) for network in networks]
    kept = {name: (float(np.mean([len(each[name]) for each in left])), _dense_nodes(name, layers)) for name in left[0]}
    stated = {"rounds": pnao.rounds, **pnao.of_a_round()} if pnao.rounds else {"alpha": pnao.alpha}
    settings = Settings(
        profile=params.profile,
        algorithm=algorithm_version(),
        acoustic=params.features.acoustic,
        visual=params.features.visual,
        text=params.features.text,
        gathered=params.features.gathered,
        **dict.fromkeys(asdict(pnao)) | stated,
        fusion=finished.blueprint.fusion,
        seed=asked.seed,
        fold_seed=params.seed,
        folds=params.folds,
        network=asdict(params.network),
        training=asdict(params.training),
    )
    scores = write_decisions(directory, dataset, decisions, params.features.acoustic)
    outcome = RoundOutcome(
        round=finished.number,
        best=False,
        key=finished.key,
        kept=kept,
        pruned_nodes=finished.pruned,
        nothing_pruned=finished.number > 0 and finished.pruned == 0,
        single={split: _single(each, dataset.tests[split]) for split, each in apart.items() if split in scores},
    )
    Record(
        system=system,
        settings=settings,
        round=outcome,
        parameters=round(count),
        parameters_ratio=round(count / dense, 6),
        scores=scores,
        data_digest=dataset.digest,
    ).write(directory)
    return directory


def _single(apart: Sequence[Decisions], examples: Examples) -> SingleNetworks:
    labelled = examples.labelled
    branches = np.stack([each.branches[labelled] for each in apart])
    weights = np.stack([each.weights[labelled] for each in apart])
    effect = fusion_effect(branches, weights, examples.emotion[labelled])
    return SingleNetworks(scores=mean_scores([scored(each, examples) for each in apart]), fusion=effect)


def scored(decisions: Decisions, examples: Examples) -> Scores:
    """The scores of the labelled clips."""
    labelled = examples.labelled
    chosen, valence = decisions.posterior[labelled].argmax(axis=1), decisions.valence[labelled]
    return score(examples.emotion[labelled], chosen, examples.valence[labelled], valence)


def _dense_nodes(layer: str, config: NetworkConfig) -> int:
    return config.hidden if layer.endswith(".inner") else config.width


def write_decisions(
    directory: Path, dataset: Dataset, decided: Mapping[str, Decisions], branches: Sequence[str]
) -> dict[str, Scores]:
    """Write predictions.csv, and branches.csv where there are branches; returns the scores of each split.

    Takes decisions for every split; those for clips without a label are written and not scored.
    """
    directory.mkdir(parents=True, exist_ok=True)
    tables, branch_tables, scores = [], [], {}
    for split, examples in ((TRAINVAL, dataset.train), *dataset.tests.items()):
        decisions = decided[split]
        tables.append(predictions_table(examples.names, split, decisions, dataset.labels, branches))
        branch_tables.append(branches_table(examples.names, split, decisions, dataset.labels, branches))
        if examples.labelled.any():
            scores[split] = scored(decisions, examples)
    pd.concat(tables).to_csv(directory / PREDICTIONS, index=False)
    if branches:
        pd.concat(branch_tables).to_csv(directory / BRANCHES, index=False)
    return scores
