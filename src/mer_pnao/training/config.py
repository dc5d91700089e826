"""The settings of one training and of the final system, as plain values that need no torch to be read."""

from dataclasses import dataclass
from typing import get_args

from mer_pnao.foundations.checks import above, at_least, between, one_of
from mer_pnao.foundations.precision import Precision


@dataclass(frozen=True)
class TrainingConfig:
    """How one network is trained. Raises ValueError naming key, value and range."""

    epochs: int = 60  # the schedule's length; the early stop usually ends it sooner
    batch: int = 32  # the official baseline's
    learning_rate: float = 1e-3  # the peak
    warmup: float = 0.1  # share of the steps; a rewound network starts from trained weights
    floor: float = 0.01  # last learning rate as a share of the peak
    weight_decay: float = 1e-2  # decoupled (AdamW), on weight matrices only
    patience: int = 15  # epochs without a better validation Com before the stop
    label_smoothing: float = 0.0  # share of the label spread over all classes: against overconfidence
    mixup: float = 0.0  # strength of mixing clips with each other: small corpora are learnt by heart without it
    exchange: float = 0.0  # probability to take voice or face from another clip with the same emotion
    modality_dropout: float = 0.0  # probability to hide a set: no set, and no speaker's way in it, decides alone
    precision: Precision = "fp32"  # bf16: the first layers multiply in it, which pays for inputs as wide as HuBERT's

    def __post_init__(self) -> None:
        between("epochs", self.epochs, 1, 100_000)
        between("batch", self.batch, 2, 100_000)
        above("learning_rate", self.learning_rate, 0)
        between("warmup", self.warmup, 0, 0.9)
        between("floor", self.floor, 0, 1)
        at_least("weight_decay", self.weight_decay, 0)
        between("patience", self.patience, 1, 100_000)
        between("label_smoothing", self.label_smoothing, 0, 0.9)
        between("mixup", self.mixup, 0, 100)
        between("exchange", self.exchange, 0, 1)
        between("modality_dropout", self.modality_dropout, 0, 0.9)
        one_of("precision", self.precision, get_args(Precision))


@dataclass(frozen=True)
class FinalConfig:
    """What the final system mixes beside the two pruned networks."""

    probe: bool = False  # whether the linear probe is a member, by plain mean
