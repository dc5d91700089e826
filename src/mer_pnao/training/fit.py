"""Training one network on one fold.

Shapes: B clips, N training clips.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from mer_pnao.evaluation.scores import Scores, score
from mer_pnao.foundations.placement import number_type
from mer_pnao.network.blueprint import Blueprint
from mer_pnao.network.emotion_network import EmotionNetwork, Prediction
from mer_pnao.training.batches import Batch, batches, drop_sets, exchange, mixup, standardized
from mer_pnao.training.config import TrainingConfig
from mer_pnao.training.examples import Examples
from mer_pnao.training.objective import (
    UncertaintyWeights,
    add_sparsity_gradient,
    emotion_loss,
    uncertainty_weighted,
    valence_loss,
)
from mer_pnao.training.schedule import learning_rate


class Epoch(NamedTuple):
    """One row of the training curves; dis, dim and com are the validation fold's."""

    epoch: int
    learning_rate: float
    train_loss: float
    emotion_loss: float
    valence_loss: float
    delta1: float
    delta2: float
    dis: float
    dim: float | None
    com: float


@dataclass(frozen=True)
class Fitted:
    """The network at its best epoch, and every epoch's figures."""

    state: dict[str, Tensor]
    curves: tuple[Epoch, ...]


class DivergenceError(ArithmeticError):
    """The losses or predictions of a training are no numbers any more."""

    def __init__(self, epoch: int, rate: float) -> None:
        super().__init__(epoch, rate)  # the arguments, by which an exception travels between processes

    def __str__(self) -> str:
        epoch, rate = self.args
        return f"training diverged in epoch {epoch}: learning_rate {rate} is too high"


EpochCallback = Callable[[Epoch], None]
BeforeStep = Callable[[EmotionNetwork], None]
Schedule = Callable[[int, int, TrainingConfig], float]


def warm_cosine(step: int, steps: int, config: TrainingConfig) -> float:
    """The schedule from its start: what a first training and a learning-rate rewind use."""
    return learning_rate(step, steps, config.learning_rate, config.warmup, config.floor)


def constant_floor(step: int, steps: int, config: TrainingConfig) -> float:
    """The last learning rate of the schedule, for fine-tuning without a rewind."""
    return config.learning_rate * config.floor


def fit(
    network: EmotionNetwork,
    train: Examples,
    validation: Examples,
    config: TrainingConfig,
    alpha: float,
    seed: int,
    schedule: Schedule = warm_cosine,
    callbacks: Sequence[EpochCallback] = (),
    before_step: Sequence[BeforeStep] = (),
) -> Fitted:
    """Train to the early-stop point: the epoch of the best validation Com (Algorithm 1, lines 1 and 5).

    `alpha` weighs the L1 term of equation 8. `before_step` is called with the network between the backward pass and
    the optimiser's step, when it may change the gradients. The network is trained in place. The same arguments on the
    same machine with the same thread count give the same numbers. Raises DivergenceError.
    """
    uncertainty, matrices = UncertaintyWeights(train.has_valence), network.weight_matrices()
    optimiser = _adamw(network, uncertainty, config.weight_decay)
    steps_per_epoch = _steps(train, config)
    best, state, curves = -1, dict[str, Tensor](), list[Epoch]()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        shuffle, partners = np.random.default_rng(seed), np.random.default_rng((seed, 1))
        number = number_type(config.precision, torch.device("cpu"))
        clips, held_out = (standardized(network, of, config.label_smoothing, number) for of in (train, validation))
        for epoch in range(config.epochs):
            network.train()
            sums = torch.zeros(3)
            of_epoch = _batches(clips, train, network.blueprint, config, shuffle, partners)
            for step, batch in enumerate(of_epoch, start=epoch * steps_per_epoch):
                prediction = network.decide(batch.features)
                of_emotion = emotion_loss(prediction, batch.emotion)
                of_valence = valence_loss(prediction, batch.valence)
                loss = uncertainty_weighted(of_emotion, of_valence, *uncertainty())
                optimiser.zero_grad()
                loss.backward()  # type: ignore[no-untyped-call]
                add_sparsity_gradient(matrices, alpha)
                for change in before_step:
                    change(network)
                rate = schedule(step, config.epochs * steps_per_epoch, config)
                for group in optimiser.param_groups:
                    group["lr"] = rate
                optimiser.step()
                sums += torch.stack([loss.detach(), of_emotion.detach(), of_valence.detach()])
            losses: tuple[float, float, float] = tuple((sums / steps_per_epoch).tolist())
            scores = _validated(network, held_out, validation, losses)
            if scores is None:
                raise DivergenceError(epoch, config.learning_rate)
            curves.append(Epoch(epoch, rate, *losses, *uncertainty.values(), **asdict(scores)))
            for callback in callbacks:
                callback(curves[-1])
            if best < 0 or scores.com > curves[best].com:
                best, state = epoch, {name: value.detach().clone() for name, value in network.state_dict().items()}
            elif epoch - best >= config.patience:
                break
    return Fitted(state, tuple(curves))


def _steps(train: Examples, config: TrainingConfig) -> int:
    """The updates of an epoch: no clip is left out, so a batch may be larger than `config.batch`."""
    return max(1, len(train) // config.batch)


def _adamw(network: EmotionNetwork, uncertainty: UncertaintyWeights, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter 2019), whose decay acts on the weight matrices alone; each step sets the rate."""
    matrices = network.weight_matrices()
    decayed = {id(matrix) for matrix in matrices}
    others = [p for p in (*network.parameters(), *uncertainty.parameters()) if id(p) not in decayed]
    groups = [{"params": matrices, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, fused=True)


def _batches(
    clips: Batch,
    train: Examples,
    blueprint: Blueprint,
    config: TrainingConfig,
    shuffle: np.random.Generator,
    partners: np.random.Generator,
) -> Iterator[Batch]:
    """An epoch's batches, shuffled, and with what the configuration does to the clips."""
    order = shuffle.permutation(len(train))
    # Without words nothing is drawn for them, and a seed gives the numbers that it always gave.
    kinds = (blueprint.acoustic, blueprint.visual, *([blueprint.text] if blueprint.text else []))
    features_of = exchange(order, train.emotion, kinds, config.exchange, partners)
    for batch in batches(clips, torch.from_numpy(order), features_of, _steps(train, config)):
        yield drop_sets(mixup(batch, config.mixup, partners), config.modality_dropout)


def _validated(
    network: EmotionNetwork, held_out: Batch, validation: Examples, losses: Sequence[float]
) -> Scores | None:
    """The scores of the validation clips; None where the epoch's losses or these predictions are no numbers."""
    network.eval()
    with torch.inference_mode():
        decided = network.decide(held_out.features)
    # The last step may have spoilt the weights after its loss was taken.
    finite = decided.posterior.isfinite().all() and decided.valence.isfinite().all()
    return score_of(decided, validation) if np.isfinite(losses[0]) and finite else None


def predict(network: EmotionNetwork, features: Mapping[str, Tensor]) -> Prediction:
    """The network's prediction in eval mode, without gradients, for features (B, width of the set) a set."""
    network.eval()
    with torch.inference_mode():
        return network(features)  # type: ignore[no-any-return]


def score_of(prediction: Prediction, examples: Examples) -> Scores:
    """Score the joint decision against the examples' labels."""
    chosen = prediction.posterior.argmax(dim=-1).numpy()
    return score(examples.emotion, chosen, examples.valence, prediction.valence.numpy())
