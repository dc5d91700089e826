"""`params.yaml` as frozen models: whatever does not fit is refused before anything runs.

Each section is a dataclass that checks its own values, most of them the science's; this file gathers them into one
document, with the sections that no science takes and what has to hold between sections.
"""

import difflib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError, model_validator

from mer_pnao.corpus.config import CorpusConfig
from mer_pnao.demo.plan import SyntheticConfig
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.foundations.checks import above, at_least, bare_name, between, lower_name, sub_path
from mer_pnao.foundations.errors import InputError
from mer_pnao.media.config import SPEECH, CorruptionConfig, MediaLimits
from mer_pnao.network.blueprint import Blueprint, NetworkConfig
from mer_pnao.params.document import read_mapping
from mer_pnao.params.search_space import SearchConfig
from mer_pnao.pruning.config import PnaoConfig
from mer_pnao.training.config import FinalConfig, TrainingConfig

_SYNTHESIZED = ("clips", "checkpoints")
_LAST_SEED = 2**32 - 1  # of NumPy and scikit-learn


@dataclass(frozen=True)
class FeatureParams:
    """Which feature sets the network sees."""

    acoustic: tuple[str, ...]  # one branch each
    visual: tuple[str, ...]  # in every branch
    text: tuple[str, ...]  # of what is said, in every branch, too
    gathered: Literal["own", "all"]  # what a branch reads: its own acoustic set with the visual and text ones, or all

    def __post_init__(self) -> None:
        if not self.acoustic:
            raise ValueError("acoustic must name at least one set, got none")

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets, acoustic first, then visual."""
        return (*self.acoustic, *self.visual, *self.text)


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


@dataclass(frozen=True)
class OuterConfig:
    """The outer folds of the nested cross-validation. Raises ValueError naming key, value and range."""

    folds: int = 6  # each leaves its speakers out

    def __post_init__(self) -> None:
        between("folds", self.folds, 2, 50)


@dataclass(frozen=True)
class EvaluationParams:
    """How results are compared."""

    resamples: int = 2000  # of the paired bootstrap; P is exact to about .01
    # Inverse L2 strengths of the linear probe's logistic regression; that of the best Train&Val Com is taken.
    probe_c: tuple[float, ...] = (0.01, 0.05, 0.2)
    probe_ridge: float = 100.0  # L2 strength of its ridge regression of valence
    # Columns of reports/submission/: of MER 2024 to 2026 emotions alone; none: with valence where it is learnt.
    submission: Literal["name,discrete", "name,discrete,valence"] | None = None

    def __post_init__(self) -> None:
        between("resamples", self.resamples, 100, 100_000)
        if not self.probe_c:
            raise ValueError("probe_c must name at least one strength, got none")
        for strength in self.probe_c:
            above("probe_c", strength, 0)
        above("probe_ridge", self.probe_ridge, 0)


@dataclass(frozen=True)
class PromotionParams:
    """What a registered version must show before it becomes the champion."""

    probability: float = 0.95  # P to be better than the champion, as Table 1's verdicts
    # P to be better than the linear probe, for the first champion. It takes nobody's place, so that a wrong choice
    # costs less than having none: more likely than not is enough.
    probe_probability: float = 0.5
    margin: float = 0.01  # Com that a smaller network may lose; a seed moves it by more
    smaller: float = 0.1  # share of the champion's parameters that it must do without then
    slower: float = 0.1  # share of the champion's latency that may come on top
    # The test split that judges. Each promotion looks at it once more; a further split that is kept for them leaves
    # the test split to the report.
    split: str = "test"

    def __post_init__(self) -> None:
        between("probability", self.probability, 0.5, 1, ends="[)")
        between("probe_probability", self.probe_probability, 0.5, 1, ends="[)")
        between("margin", self.margin, 0, 0.1)
        between("smaller", self.smaller, 0, 1, ends="()")
        at_least("slower", self.slower, 0)
        lower_name("split", self.split)


class Params(BaseModel):
    """A whole profile."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    profile: str  # names data/<profile>/
    seed: int
    corpus: CorpusConfig
    synthesize: dict[str, str]  # what the demo makes for itself: clips and checkpoints, and where to below data/
    synthetic: SyntheticConfig = SyntheticConfig()  # of the clips that the demo makes
    media: MediaLimits = MediaLimits()  # for profiles with encoders
    corruption: dict[str, CorruptionConfig]  # noisy twins of the test clips, as further test splits: name -> how
    encoders: dict[str, EncoderConfig]  # one extraction stage each
    imported: dict[str, str]  # ready feature sets: name -> folder below the corpus root
    features: FeatureParams
    folds: int
    seeds: tuple[int, ...]  # each trains every system; the first one's networks are the models of record
    network: NetworkConfig
    training: TrainingConfig
    pnao: PnaoConfig
    final: FinalConfig
    controls: ControlsConfig
    outer: OuterConfig
    search: SearchConfig
    evaluation: EvaluationParams
    promotion: PromotionParams

    @model_validator(mode="after")
    def _hold_together(self) -> Self:
        for fit in (self._numbers_fit, self._names_fit, self._sets_exist, self._places_stay_apart, self._media_fit):
            fit()
        return self

    def _numbers_fit(self) -> None:
        between("folds", self.folds, 2, 20)
        between("seed", self.seed, 0, _LAST_SEED)
        if not self.seeds:
            raise ValueError("seeds must name at least one seed, got none")
        for seed in self.seeds:
            between("seeds", seed, 0, _LAST_SEED)
            if self.seeds.count(seed) > 1:
                raise ValueError(f"seeds must name each seed once, got {seed} twice")

    def _names_fit(self) -> None:
        lower_name("profile", self.profile)
        for name in self.corruption:
            lower_name("a name in corruption", name)
        for section, names in (("encoders", self.encoders), ("imported", self.imported)):
            for name in names:
                bare_name(f"a name in {section}", name)
        for name in self.synthesize:
            if name not in _SYNTHESIZED:
                raise ValueError(f"synthesize.{name} is not a known parameter, only {' and '.join(_SYNTHESIZED)} are")
        if both := sorted(self.encoders.keys() & self.imported.keys()):
            raise ValueError(f"encoders and imported both hold {both[0]!r}, and would write to one folder")

    def _sets_exist(self) -> None:
        known = [*self.imported, *(made for name, encoder in self.encoders.items() for made in encoder.sets(name))]
        for name in known:
            if known.count(name) > 1:
                raise ValueError(f"encoders and imported make the set {name!r} twice")
        for name in self.features.sets:
            if name not in known:
                raise ValueError(f"features names the set {name!r}, which no encoder makes; known: {sorted(known)}")
        if len(set(self.features.sets)) != len(self.features.sets):
            raise ValueError("features names a set twice")
        # Refuses what the network cannot name.
        Blueprint(dict.fromkeys(self.features.sets, 1), self.features.sets, (), 2, "entropy")

    def _places_stay_apart(self) -> None:
        """The corpus and what the demo makes lie below data/, and apart from what the stages write there."""
        for name, source in self.imported.items():
            sub_path(f"imported.{name}", source)
        made = {f"synthesize.{name}": place for name, place in self.synthesize.items()}
        for key, place in {"corpus.root": self.corpus.root, **made}.items():
            sub_path(key, place)
            if Path(place).parts[0] != "data":
                raise ValueError(f"{key} must lie below data/, got {place!r}")
            for output in (self.data / "features", self.data / "manifest.csv"):
                if _overlap(Path(place), output):
                    raise ValueError(f"{key} must lie apart from {output}, which the stages write, got {place!r}")
        if len(made) == len(_SYNTHESIZED) and _overlap(*map(Path, made.values())):
            raise ValueError(f"{' and '.join(made)} must lie apart, got {' and '.join(map(repr, made.values()))}")

    def _media_fit(self) -> None:
        """DVC sees a change of what lies below the corpus root; noise needs clips that are decoded here."""
        noises = {f"corruption.{name}.noise": each.noise for name, each in self.corruption.items()}
        places = {"media.detector": self.media.detector, "media.crops": self.media.crops, **noises}
        for key, place in places.items():
            if place not in ("", SPEECH) and not Path(place).is_relative_to(self.corpus.root):
                raise ValueError(f"{key} must lie below corpus.root = {self.corpus.root}, got {place!r}")
        for name in self.corruption:
            if self.imported or not self.encoders:
                raise ValueError(f"corruption.{name} needs clips to corrupt, which ready feature sets have none of")
            if self.media.crops:
                raise ValueError(f"corruption.{name} blurs frames, and media.crops are cut out of them already")

    @property
    def data(self) -> Path:
        """Where this profile's products lie."""
        return Path("data") / self.profile


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a profile. Raises InputError: one sentence naming file, key, value and range.

    A profile states every value of every section that its stages read: DVC tracks what the file says, so a default
    that it does not state could change unseen. Only what is None where it is not stated may be left out.
    """
    document = read_mapping(path)
    try:
        params = Params.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error.errors()[0])}") from error
    needless = set() if params.encoders else {"media"}
    needless |= set() if params.synthesize else {"synthetic"}
    absent = {section for section in needless if section not in document}
    whole = params.model_dump(exclude=absent, exclude_none=True)
    for name, encoder in params.encoders.items():
        whole["encoders"][name] = {
            key: value for key, value in whole["encoders"][name].items() if key not in encoder.unread()
        }
    if missing := _first_missing(document, whole):
        raise InputError(f"{path}: {missing} is missing")
    return params


def _overlap(first: Path, second: Path) -> bool:
    """Whether one of two places is, or holds, the other."""
    return first.is_relative_to(second) or second.is_relative_to(first)


def _first_missing(stated: Mapping[str, Any], whole: Mapping[str, Any], section: str = "") -> str | None:
    """The first key, as `section.key`, that the whole has and what is stated has not."""
    for name, value in whole.items():
        if name not in stated:
            return f"{section}{name}"
        if isinstance(value, dict) and (missing := _first_missing(stated[name], value, f"{section}{name}.")):
            return missing
    return None


def _sentence(problem: Any) -> str:
    """Pydantic's first complaint as a sentence with the whole key."""
    location = [str(part) for part in problem["loc"]]
    key, message = ".".join(location), problem["msg"].removeprefix("Value error, ")
    match problem["type"]:
        case "extra_forbidden" | "unexpected_keyword_argument":
            close = difflib.get_close_matches(location[-1], _known_keys(location[:-1]), n=1)
            return f"{key} is not a known parameter" + (f"; did you mean {close[0]!r}?" if close else "")
        case "missing" | "missing_argument":
            return f"{key} is missing"
        case "value_error":
            return f"{key}.{message}" if key else message
        case _:
            return f"{key}: {message[0].lower()}{message[1:]}, got {problem['input']!r}"


def _known_keys(location: list[str]) -> list[str]:
    """The keys that may stand at a place of the document."""
    here: Any = Params
    for part in location:
        held = here.__annotations__.get(part, here)  # a part without one is the name of an encoder
        here = (get_args(held) or (held,))[-1]
    return list(here.__annotations__)
