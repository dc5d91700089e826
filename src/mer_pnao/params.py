"""`params.yaml` as frozen models: whatever does not fit is refused before anything runs.

The science takes its own dataclasses, which check their values themselves; this file only gathers them into one
document, so a range is written once.
"""

import difflib
import json
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from mer_pnao.corpus.synthetic.plan import SyntheticConfig
from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.errors import InputError
from mer_pnao.media.decode import MediaLimits
from mer_pnao.network.emotion_network import Blueprint, NetworkConfig
from mer_pnao.pruning.pnao import PnaoConfig
from mer_pnao.training.fit import TrainingConfig

_STRICT = ConfigDict(extra="forbid", frozen=True, strict=True)


class CorpusParams(BaseModel):
    """Where the clips and their labels come from."""

    model_config = _STRICT

    kind: Literal["labelled_folder", "mertools"]  # own or rendered clips with labels.csv, or ready features
    root: str = Field(min_length=1)  # the folder, relative to the project's root
    labels: tuple[str, ...] = Field(min_length=2)  # the emotions, in the order of every table and figure
    max_skipped: float = Field(default=0.05, ge=0, le=1)  # share of clips that may be unusable before a stage fails


class FeatureParams(BaseModel):
    """Which feature sets the network sees."""

    model_config = _STRICT

    acoustic: tuple[str, ...] = Field(min_length=1)  # one branch each
    visual: tuple[str, ...]  # in every branch

    @property
    def sets(self) -> tuple[str, ...]:
        """All sets, acoustic first."""
        return (*self.acoustic, *self.visual)


class EvaluationParams(BaseModel):
    """How results are compared."""

    model_config = _STRICT

    resamples: int = Field(default=2000, ge=100, le=100_000)  # of the paired bootstrap; P is exact to about .01
    probe_c: float = Field(default=0.05, gt=0)  # inverse L2 strength of the linear probe's logistic regression
    probe_ridge: float = Field(default=100.0, gt=0)  # L2 strength of its ridge regression of valence


class Params(BaseModel):
    """A whole profile."""

    model_config = _STRICT

    profile: str = Field(pattern=r"^[a-z0-9_]+$")  # names data/<profile>/
    seed: int = Field(default=0, ge=0)
    corpus: CorpusParams
    synthesize: dict[str, str] = {}  # what the demo makes for itself: clips and checkpoints, and where to
    synthetic: SyntheticConfig = SyntheticConfig()
    media: MediaLimits = MediaLimits()
    encoders: dict[str, EncoderConfig] = {}  # one extraction stage each
    imported: dict[str, str] = {}  # ready feature sets: name -> folder below the corpus root
    features: FeatureParams
    folds: int = Field(default=5, ge=2, le=20)
    network: NetworkConfig = NetworkConfig()
    training: TrainingConfig = TrainingConfig()
    pnao: PnaoConfig = PnaoConfig()
    evaluation: EvaluationParams = EvaluationParams()

    @model_validator(mode="after")
    def _sets_exist(self) -> "Params":
        known = set(self.imported)
        for name, encoder in self.encoders.items():
            known |= set(encoder.sets(name))
        for name in self.features.sets:
            if name not in known:
                raise ValueError(f"features names the set {name!r}, which no encoder makes; known: {sorted(known)}")
        if len(set(self.features.sets)) != len(self.features.sets):
            raise ValueError("features names a set twice")
        return self

    @property
    def data(self) -> Path:
        """Where this profile's products lie."""
        return Path("data") / self.profile

    def blueprint(self, widths: dict[str, int], fusion: str) -> Blueprint:
        """The dense network for feature sets of these widths."""
        return Blueprint(
            {name: widths[name] for name in self.features.sets},
            self.features.acoustic,
            self.features.visual,
            len(self.corpus.labels),
            fusion,
            self.network,
        )


def load_params(path: Path = Path("params.yaml")) -> Params:
    """Read and check a profile. Raises InputError: one sentence naming file, key, value and range."""
    try:
        document = YAML(typ="safe", pure=True).load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}") from error
    except (YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not readable YAML: {' '.join(str(error).split())}") from error
    try:
        return Params.model_validate_json(json.dumps(document))
    except ValidationError as error:
        raise InputError(f"{path}: {_sentence(error.errors()[0])}") from error


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
        fields = getattr(here, "model_fields", None) or getattr(here, "__dataclass_fields__", {})
        if part not in fields:  # the name of an encoder
            continue
        annotation = getattr(fields[part], "annotation", None) or fields[part].type
        here = get_args(annotation)[-1] if get_args(annotation) else annotation
    return list(getattr(here, "model_fields", None) or getattr(here, "__dataclass_fields__", {}))
