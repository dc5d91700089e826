"""From a clip to its emotion, with the encoders that a model was trained with.

    predictor = Predictor.load(Path("models/enf_pnao/round-03"))
    for answer in predictor.predict(Path("clips").glob("*.mp4")):
        print(answer.name, answer.emotion if isinstance(answer, Prediction) else answer.reason)

The clips go through the code of the extraction stage, so a clip of the corpus gets the prediction that the pipeline
recorded. Legend of shapes: N clips, D the width of a set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.clip_reader import DecodedClip, DecodingPlan
from mer_pnao.extraction.engine import NO_FACE, Engine, on_this_machine
from mer_pnao.extraction.shards import Clip, Shard
from mer_pnao.extraction.trained_encoders import load_encoders, read_record
from mer_pnao.features.remarks import Listed
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed, read_json
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.outs.names import CONFIG
from mer_pnao.outs.networks import RoundModel, read_round

# Batches that a core takes before answers are given: while the last of them are encoded, the other cores wait.
_BATCHES = 4
_WHOLE_FRAME = f"{NO_FACE}, so the whole frame was used"


@dataclass(frozen=True)
class Prediction:
    """The joint decision for a clip."""

    name: str
    emotion: str
    posteriors: Mapping[str, float]  # by emotion
    valence: float
    confidence: float  # 1 - H / log C of the posteriors: 0 for uniform ones, 1 for a certain one
    weights: Mapping[str, float]  # of the branches in the joint decision
    model_version: str
    remark: str = ""  # such as that no face was found

    def answer(self) -> dict[str, Any]:
        """What `mer predict --json` prints of it."""
        return {name: value for name, value in asdict(self).items() if name != "remark"}


@dataclass(frozen=True)
class Refusal:
    """A clip that cannot be used; the reason is a predicate, such as `has no audio track`."""

    name: str
    reason: str


@dataclass(frozen=True)
class Predictor:
    """A model and its encoders, loaded once."""

    model: RoundModel
    version: str
    encoders: Mapping[str, ClipEncoder]

    @classmethod
    def load(
        cls, directory: Path, version: str = "", root: Path = Path(), like: "Predictor | None" = None
    ) -> "Predictor":
        """Loads a model and the encoders that it was trained with.

        Args:
            directory: holds `config.json`, `encoders.json` and a `fold-N.safetensors` a fold.
            version: what answers call the model; `<system>/round-NN` when omitted.
            root: what the paths of checkpoints are relative to.
            like: a predictor whose encoders are taken where they are the same.

        Raises:
            InputError: the model or an encoder's checkpoint is absent, damaged or another one, or the features were
                imported from elsewhere.
        """
        model = read_model(directory)
        version = version or version_of(model)
        called = f"model {version}"
        record = read_record(directory, model.blueprint.widths, called)
        return cls(model, version, load_encoders(record, called, root, like.encoders if like else None))

    def predict(self, clips: Iterable[Path]) -> Iterator[Prediction | Refusal]:
        """Predictions in the order of the clips, a few batches a core at a time; however many clips there are, no more
        than that are looked at ahead.

        A clip that cannot be used is a Refusal, and the others go on. Without a face the whole frame is used, with a
        remark.
        """
        engines = {name: on_this_machine(encoder) for name, encoder in self.encoders.items()}
        at_once = _BATCHES * usable_cores() * max(encoder.batch for encoder in self.encoders.values())
        coming = iter(clips)
        while paths := list(islice(coming, at_once)):
            yield from self._answers(paths, engines.values())

    def plans(self) -> dict[str, DecodingPlan]:
        """How a clip is decoded for each encoder, for a process that does only that."""
        return {name: encoder.plan for name, encoder in self.encoders.items()}

    def predict_decoded(self, name: str, contents: Mapping[str, DecodedClip]) -> Prediction | Refusal:
        """The prediction for one clip of which each encoder's content was decoded elsewhere."""
        features: dict[str, NDArray[np.float32]] = {}
        for key, encoder in self.encoders.items():
            features |= encoder.encode([contents[key]])
        for set_name, vectors in features.items():
            if not np.isfinite(vectors).all():
                return Refusal(name, f"cannot be encoded: its vector of {set_name} is not finite")
        remark = _WHOLE_FRAME if any(content.whole_frame for content in contents.values()) else ""
        return decide(self.model, self.version, [name], features, [remark])[0]

    def _answers(self, paths: Sequence[Path], engines: Iterable[Engine]) -> list[Prediction | Refusal]:
        """One answer a clip. Among themselves the clips go by number, for two may have one name."""
        clips = [Clip(str(number), path) for number, path in enumerate(paths)]
        vectors: dict[str, dict[str, NDArray[np.float32]]] = {clip.name: {} for clip in clips}
        refused: dict[str, str] = {}
        remarks: dict[str, str] = {}
        for engine in engines:
            for shard in _shards(engine, [clip for clip in clips if clip.name not in refused]):
                for set_name, block in shard.vectors.items():
                    for clip_name, vector in zip(shard.names, block, strict=True):
                        vectors[clip_name][set_name] = vector
                refused |= {entry.name: entry.reason for entry in shard.listed if entry.action == "skipped"}
                remarks |= {entry.name: _WHOLE_FRAME for entry in shard.listed if entry.action == "whole_frame"}
        names = {clip.name: composed(clip.path.stem) for clip in clips}
        usable = [clip.name for clip in clips if clip.name not in refused]
        features = {
            name: np.stack([vectors[number][name] for number in usable])
            for name in (self.model.blueprint.widths if usable else ())
        }
        told = [remarks.get(number, "") for number in usable]
        made = iter(decide(self.model, self.version, [names[number] for number in usable], features, told))
        return [Refusal(name, refused[number]) if number in refused else next(made) for number, name in names.items()]


def _shards(engine: Engine, clips: Sequence[Clip]) -> list[Shard]:
    """What an encoder makes of the clips; if one of them breaks it, of each alone, so that only that one is lost."""
    try:
        return [shard for _, shard in engine({Path(): clips}, lambda _: None)] if clips else []
    except InputError as error:
        if len(clips) > 1:
            return [shard for clip in clips for shard in _shards(engine, [clip])]
        reason = f"cannot be encoded: {str(error).removeprefix(f'{clips[0].name}: ')}"
        return [Shard((), {}, (Listed(clips[0].name, "", "skipped", reason),), ())]


def read_model(directory: Path) -> RoundModel:
    """A model's networks. Raises InputError when the folder holds none, or mixes two that have folders of their own."""
    try:
        members = read_json(directory / CONFIG).get("members", ())
    except InputError:
        raise InputError(f"{directory} is not the folder of a model, as models/<system>/round-NN is") from None
    if members:
        parts = " and ".join(f"{member['system']}/round-{member['round']:02d}" for member in members)
        raise InputError(f"{directory} mixes {parts}: name one of them")
    return read_round(directory)


def version_of(model: RoundModel) -> str:
    """What answers call a model that is no registered version."""
    return f"{model.system}/round-{model.number:02d}"


def decide(
    model: RoundModel,
    version: str,
    names: Sequence[str],
    features: Mapping[str, NDArray[np.float32]],
    remarks: Sequence[str] = (),
) -> list[Prediction]:
    """Predictions for N clips.

    Args:
        model: the networks, whose decisions are averaged.
        version: what answers call the model.
        names: N names of clips.
        features: (N, D) float32 for each set of the model.
        remarks: N remarks; none when omitted.

    Raises:
        InputError: a set has another width than the model reads.
    """
    if not names:
        return []
    for name, width in model.blueprint.widths.items():
        if features[name].shape[1] != width:
            raise InputError(
                f"the feature set {name} has the width {features[name].shape[1]}, and model {version} reads {width}"
            )
    decisions = model.decide({name: torch.from_numpy(features[name]) for name in model.blueprint.widths})
    branches = model.blueprint.branches()
    confidences = decisions.confidence()
    return [
        Prediction(
            name,
            model.labels[int(decisions.posterior[i].argmax())],
            dict(zip(model.labels, decisions.posterior[i].tolist(), strict=True)),
            float(decisions.valence[i]),
            float(confidences[i]),
            dict(zip(branches, decisions.weights[i].tolist(), strict=True)),
            version,
            remarks[i] if remarks else "",
        )
        for i, name in enumerate(names)
    ]
