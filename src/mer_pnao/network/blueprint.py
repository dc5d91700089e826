"""What determines the dense network, as plain values that need no torch to be read and checked."""

from collections.abc import Mapping
from dataclasses import dataclass, field

from mer_pnao.foundations.checks import at_least, between, one_of

SCORER_NAMES = ("tanh", "linear", "mlp", "mean")  # of network/gathering.py's
OUTPUTS = ("relu", "linear")
GATHERED = ("own", "all")
# The networks keep a set's modules under its name in a ModuleDict: its attributes, but for those that start with _.
_OF_MODULE_DICT = """
    T_destination add_module apply bfloat16 buffers call_super_init children clear compile cpu cuda double
    dump_patches eval extra_repr float forward get_buffer get_extra_state get_parameter get_submodule half ipu
    items keys load_state_dict modules mtia named_buffers named_children named_modules named_parameters
    parameters pop register_backward_hook register_buffer register_forward_hook register_forward_pre_hook
    register_full_backward_hook register_full_backward_pre_hook register_load_state_dict_post_hook
    register_load_state_dict_pre_hook register_module register_parameter register_state_dict_post_hook
    register_state_dict_pre_hook requires_grad_ set_extra_state set_submodule share_memory state_dict to
    to_empty train training type update values xpu zero_grad
    """
TAKEN = frozenset(_OF_MODULE_DICT.split())


@dataclass(frozen=True)
class NetworkConfig:
    """The dense network's size. Raises ValueError naming key, value and range."""

    hidden: int = 256  # the official baseline's inner width a modality
    width: int = 128  # D, the official baseline's fused width
    dropout: float = 0.3  # inside the modality MLPs; the corpora are small
    scorer: str = "tanh"  # tanh: additive attention, linear: softmax of a map, mlp: the official baseline's, mean: none
    temperature: float = 1.0  # divides the scores: above 1 attention stays softer, which small corpora need
    output: str = "relu"  # of the modality MLPs; linear: h_m keeps its sign, for features that a linear map reads best

    def __post_init__(self) -> None:
        between("hidden", self.hidden, 1, 65_536)
        between("width", self.width, 1, 65_536)
        between("dropout", self.dropout, 0, 0.95)
        one_of("scorer", self.scorer, SCORER_NAMES)
        between("temperature", self.temperature, 0.01, 1000)
        one_of("output", self.output, OUTPUTS)


@dataclass(frozen=True)
class Blueprint:
    """Everything but the weights that determines the dense network. Raises ValueError naming what does not fit."""

    widths: Mapping[str, int]  # feature set -> its width
    acoustic: tuple[str, ...]  # one branch each
    visual: tuple[str, ...]  # in every branch
    classes: int
    fusion: str  # of network/fusion.py's table; entropy: eq. 5-7; attention: the former strategy
    config: NetworkConfig = field(default_factory=NetworkConfig)
    # own: a branch reads its acoustic set, the visual ones and those of words; all: every set, its own first
    gathered: str = "own"
    text: tuple[str, ...] = ()  # in every branch, as the visual ones

    def __post_init__(self) -> None:
        one_of("gathered", self.gathered, GATHERED)
        at_least("classes", self.classes, 2)
        at_least("number of acoustic sets", len(self.acoustic), 1)
        for name in self.sets:
            if name not in self.widths:
                raise ValueError(f"feature set {name!r} has no width")
        for name, width in self.widths.items():
            if not name or "." in name or name.startswith("_") or name in TAKEN:
                raise ValueError(f"feature set {name!r} bears a name that torch uses itself, an empty one or a dot")
            at_least(f"width of feature set {name}", width, 1)

    def branches(self) -> dict[str, tuple[str, ...]]:
        """The sets of each branch, its acoustic one first; a branch bears its acoustic set's name."""
        others = self.acoustic if self.gathered == "all" else ()
        shared = (*self.visual, *self.text)
        return {own: (own, *(name for name in others if name != own), *shared) for own in self.acoustic}

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets, acoustic first, then visual."""
        return (*self.acoustic, *self.visual, *self.text)
