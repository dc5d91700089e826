"""What the controls are run with, and what they are called."""

from dataclasses import dataclass

from mer_pnao.checks import at_least, between

PNAO, DENSE = "pnao", "dense"
GRADUAL = ("weight_rewinding", "fine_tuning", "random", "unstructured")  # shrink in every round, as PNAO does
AT_ONCE = ("scratch", "one_shot_l1", "group_norm")  # have their final size from the first or second segment on
METHODS = (PNAO, DENSE, *GRADUAL, *AT_ONCE)
TITLES = {
    PNAO: "PNAO",
    "dense": "Dense, trained on",
    "weight_rewinding": "Weight rewinding",
    "fine_tuning": "Fine-tuning",
    "random": "Random nodes",
    "unstructured": "Unstructured",
    "scratch": "From scratch",
    "one_shot_l1": "One-shot L1",
    "group_norm": "GroupNormPruner",
}


@dataclass(frozen=True)
class ControlsConfig:
    """The sizes of the comparison. Raises ValueError naming key, value and range."""

    rounds: tuple[int, ...] = (1, 3, 5)  # PNAO's rounds whose sizes every method is brought to
    group_norm: float = 1e-4  # strength of Torch-Pruning's group regulariser, that library's default

    def __post_init__(self) -> None:
        if not self.rounds:
            raise ValueError("rounds must name at least one round, got none")
        for number in self.rounds:
            between("rounds", number, 1, 99)
        if sorted(set(self.rounds)) != list(self.rounds):
            raise ValueError(f"rounds must rise, got {list(self.rounds)}")
        at_least("group_norm", self.group_norm, 0)
