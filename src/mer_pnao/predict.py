"""From a clip to its emotion, with the encoders that a model was trained with.

    predictor = Predictor.load(Path("models/enf_pnao/round-03"))
    for answer in predictor.predict(Path("clips").glob("*.mp4")):
        print(answer.name, answer.emotion if isinstance(answer, Prediction) else answer.reason)

The clips go through the code of the extraction stage, so a clip of the corpus gets the prediction that the pipeline
recorded. Legend of shapes: N clips, D the width of a set.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import MappingProxyType

import numpy as np
import torch
from numpy.typing import NDArray

from mer_pnao.extraction.clip_encoders import ClipEncoder
from mer_pnao.extraction.clip_reader import DecodedClip, DecodingPlan
from mer_pnao.extraction.engine import NO_FACE, NO_WORDS, Outcome, not_finite, outcomes
from mer_pnao.extraction.shards import Clip
from mer_pnao.extraction.trained_encoders import load_encoders, read_record
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed, read_json
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.outs.names import CONFIG
from mer_pnao.outs.networks import RoundModel, read_round

# Batches that a core takes before answers are given: while the last of them are encoded, the other cores wait.
_BATCHES = 4
_WHOLE_FRAME = f"{NO_FACE}, so the whole frame was used"
_WORDLESS = f"{NO_WORDS}, or none were given, so the answer goes by sound and picture"


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
    valence_range: tuple[float, float] | None = None  # of the training clips; None where it is not known
    novelty: float | None = None  # distance to the training clips in multiples of what is far, the largest of all sets
    warnings: tuple[str, ...] = ()  # what one should know before believing it, first of the model, then of the clip


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
    root: Path = Path()  # what the paths of the encoders' checkpoints and detectors are relative to

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
        return cls(model, version, load_encoders(record, called, root, like.encoders if like else None), root)

    def predict(
        self, clips: Iterable[Path], words: Mapping[str, str] = MappingProxyType({})
    ) -> Iterator[Prediction | Refusal]:
        """Predictions in the order of the clips, a few batches a core at a time; however many clips there are, no more
        than that are taken ahead.

        `words` holds what is said, by the clips' names, for a model that reads words. A clip that cannot be used is a
        Refusal, and the others go on. Without a face the whole frame is used, with a warning; without words likewise.
        """
        at_once = _BATCHES * usable_cores() * max(encoder.batch for encoder in self.encoders.values())
        coming = iter(clips)
        while paths := list(islice(coming, at_once)):
            yield from self._answers(paths, words)

    @property
    def reads_words(self) -> bool:
        """Whether some encoder takes what is said."""
        return any(encoder.reader is None for encoder in self.encoders.values())

    def plans(self) -> dict[str, DecodingPlan]:
        """How a clip is decoded for each encoder of sound or picture, for a process that does only that."""
        return {name: encoder.reader.plan for name, encoder in self.encoders.items() if encoder.reader}

    def predict_decoded(self, name: str, contents: Mapping[str, DecodedClip], words: str = "") -> Prediction | Refusal:
        """The prediction for one clip of which each content of `plans` was decoded elsewhere, and for its words."""
        vectors: dict[str, NDArray[np.float32]] = {}
        for key, encoder in self.encoders.items():
            content = contents[key] if encoder.reader else DecodedClip(words)
            vectors |= {set_name: block[0] for set_name, block in encoder.encode([content]).items()}
        whole_frame = any(content.whole_frame for content in contents.values())
        wordless = self.reads_words and not words
        remarks = tuple(dict.fromkeys(remark for content in contents.values() for remark in content.remarks))
        outcome = Outcome(vectors, whole_frame=whole_frame, wordless=wordless, remarks=remarks)
        return self.decided([name], [outcome])[0]

    def _answers(self, paths: Sequence[Path], words: Mapping[str, str]) -> list[Prediction | Refusal]:
        """One answer a clip, whichever of them have one name."""
        names, found = [composed(path.stem) for path in paths], [Outcome()] * len(paths)
        for encoder in self.encoders.values():
            usable = [place for place, one in enumerate(found) if not one.skipped]
            clips = [Clip(paths[place].stem, paths[place], text=words.get(names[place], "")) for place in usable]
            for place, one in zip(usable, _outcomes(encoder, clips), strict=True):
                before = found[place]
                vectors, whole_frame = {**before.vectors, **one.vectors}, before.whole_frame or one.whole_frame
                wordless = before.wordless or one.wordless
                remarks = tuple(dict.fromkeys((*before.remarks, *one.remarks)))
                found[place] = Outcome(vectors, one.skipped, whole_frame, wordless=wordless, remarks=remarks)
        return self.decided(names, found)

    def decided(self, names: Sequence[str], found: Sequence[Outcome]) -> list[Prediction | Refusal]:
        """One answer a clip, from what became of it in all encoders; vectors that are not finite are refused."""
        found = [_finite(one) for one in found]
        usable = [(name, one) for name, one in zip(names, found, strict=True) if not one.skipped]
        features = {key: np.array([one.vectors[key] for _, one in usable]) for key in self.model.blueprint.widths}
        made = iter(decide(self.model, self.version, [name for name, _ in usable], features))
        return [
            Refusal(name, one.skipped) if one.skipped else _warned(next(made), one)
            for name, one in zip(names, found, strict=True)
        ]


def _outcomes(encoder: ClipEncoder, clips: Sequence[Clip]) -> list[Outcome]:
    """What becomes of the clips; if one of them breaks the encoder, of each alone, so that only that one is lost."""
    try:
        return [_finite(one) for one in outcomes(encoder, [clips])]
    except InputError as error:
        if len(clips) > 1:
            return [one for clip in clips for one in _outcomes(encoder, [clip])]
        return [Outcome(skipped=f"cannot be encoded: {error}")]


def _finite(one: Outcome) -> Outcome:
    return Outcome(skipped=f"cannot be encoded: {bad}") if (bad := not_finite(one.vectors)) else one


def read_model(directory: Path) -> RoundModel:
    """A model's networks. Raises InputError when the folder holds none, or mixes two that have folders of their own."""
    try:
        members = read_json(directory / CONFIG).get("members", ())
    except InputError:
        raise InputError(f"{directory} is not the folder of a model, as models/<system>/round-NN is") from None
    if members:
        networks = [member for member in members if member["round"] is not None]  # the linear probe cannot be loaded
        parts = " and ".join(f"{each['system']}/round-{each['round']:02d}" for each in networks)
        raise InputError(f"{directory} mixes {parts}: name one of them")
    return read_round(directory)


def version_of(model: RoundModel) -> str:
    """What answers call a model that is no registered version."""
    return f"{model.system}/round-{model.number:02d}"


def decide(
    model: RoundModel, version: str, names: Sequence[str], features: Mapping[str, NDArray[np.float32]]
) -> list[Prediction]:
    """Predictions for N clips.

    Args:
        model: the networks, whose decisions are averaged.
        version: what answers call the model.
        names: N names of clips.
        features: (N, D) float32 for each set of the model.

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
    decided = model.decide({name: torch.from_numpy(features[name]) for name in model.blueprint.widths})
    branches, confidences = model.blueprint.branches(), decided.confidence()
    known = model.trained_on
    valence_range = known.valence if known else None
    distances = known.distances(features) if known else {}
    return [
        Prediction(
            name=name,
            emotion=model.labels[int(decided.posterior[i].argmax())],
            posteriors=dict(zip(model.labels, decided.posterior[i].tolist(), strict=True)),
            valence=float(decided.valence[i]),
            confidence=float(confidences[i]),
            weights=dict(zip(branches, decided.weights[i].tolist(), strict=True)),
            model_version=version,
            valence_range=valence_range,
            novelty=max((float(distance[i]) for distance in distances.values()), default=None),
            warnings=(
                *caveats_of(model),
                *_unlike(model, {key for key, distance in distances.items() if distance[i] > 1}),
                *_beyond(float(decided.valence[i]), valence_range),
            ),
        )
        for i, name in enumerate(names)
    ]


def caveats_of(model: RoundModel) -> tuple[str, ...]:
    """What holds for every answer of a model, as sentences without a full stop."""
    return model.trained_on.caveats() if model.trained_on else ("what the model has learnt from is not on record",)


def _unlike(model: RoundModel, far: set[str]) -> Iterator[str]:
    """That a clip is unlike the training clips in some feature sets."""
    kinds = {"sound": model.blueprint.acoustic, "picture": model.blueprint.visual, "wording": model.blueprint.text}
    for what, sets in kinds.items():
        if named := [name for name in sets if name in far]:
            yield f"its {what} is unlike that of the training clips ({', '.join(named)}), so the answer is a guess"


def _beyond(valence: float, known: tuple[float, float] | None) -> Iterator[str]:
    """That a valence is none that a training clip had."""
    if known and not known[0] <= valence <= known[1]:
        yield f"its valence lies beyond that of the training clips, {known[0]:+.2f} to {known[1]:+.2f}"


def _warned(answer: Prediction, one: Outcome) -> Prediction:
    lacking = [warning for warning, holds in ((_WHOLE_FRAME, one.whole_frame), (_WORDLESS, one.wordless)) if holds]
    return replace(answer, warnings=(*answer.warnings, *lacking, *one.remarks))
