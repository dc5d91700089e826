"""The settings of Algorithm 1."""

from dataclasses import asdict, dataclass

from mer_pnao.foundations.checks import at_least, between, one_of

SCOPES = ("network", "layer")
REWINDS = ("learning_rate", "weights", "none")
RULES = ("naor", "nodes", "parameters")


@dataclass(frozen=True)
class PnaoConfig:
    """Algorithm 1's settings. Raises ValueError naming key, value and range."""

    naor: float = 0.05  # k of eq. 11, the paper's
    alpha: float = 1e-4  # weight of the L1 term of eq. 8; the paper gives none
    rounds: int = 10  # N of line 6, the paper's
    scope: str = "network"  # where eq. 11 takes its maximum
    rewind: str = "learning_rate"  # the paper's; "weights" and "none" are controls
    min_nodes: int = 4  # an emptied layer would kill its branch
    rule: str = "naor"  # eq. 11; "nodes" and "parameters": each round sets k so that the share `ratio` of these goes
    ratio: float = 0.2  # Renda et al.'s
    scorers: bool = False  # whether the hidden nodes of the gathering's scorers may go, too
    stop_early: bool = False  # whether `training.patience` ends rounds after the first, too, as often in their warm-up

    def __post_init__(self) -> None:
        between("naor", self.naor, 0, 1)
        at_least("alpha", self.alpha, 0)
        between("rounds", self.rounds, 0, 99)
        one_of("scope", self.scope, SCOPES)
        one_of("rewind", self.rewind, REWINDS)
        at_least("min_nodes", self.min_nodes, 1)
        one_of("rule", self.rule, RULES)
        between("ratio", self.ratio, 0, 1, ends="()")

    def of_a_round(self) -> dict[str, float | int | str | bool]:
        """What a pruned round is made with: not how many there are, and of NAOR and ratio what the rule reads."""
        unread = {"rounds", "ratio" if self.rule == "naor" else "naor"}
        return {name: value for name, value in asdict(self).items() if name not in unread}
