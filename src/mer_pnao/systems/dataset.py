"""A corpus as the science takes it: manifest and feature sets joined, a set of examples a split."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from mer_pnao.corpus.manifest import SPLITS, labels_of, read_manifest, speakers_of
from mer_pnao.features.provenance import read_provenance
from mer_pnao.features.sets import FeatureSet, load_sets
from mer_pnao.foundations.errors import InputError
from mer_pnao.network.emotion_network import FARTHEST, ZScore
from mer_pnao.outs.trained_on import TrainedOn
from mer_pnao.params.profile import Params
from mer_pnao.systems.optimisation import folds_of
from mer_pnao.training.examples import UNLABELLED, Examples
from mer_pnao.training.folds import UNLEARNT, learns_valence
from mer_pnao.training.novelty import fit_novelty

_FAR = 0.01  # share of further clips like the training clips that is called unlike them, about


@dataclass(frozen=True)
class Dataset:
    """The training and test clips of a profile that have every feature set."""

    train: Examples
    test: Examples
    labels: tuple[str, ...]
    others: Mapping[str, Examples] = field(default_factory=dict)  # further test splits, in the manifest's order
    encoders: Mapping[str, Any] = field(default_factory=dict)  # what made the features, see `read_provenance`

    @property
    def tests(self) -> dict[str, Examples]:
        """Every split that is predicted by the mean of the fold models: test first, then the further ones."""
        return {"test": self.test, **self.others}

    @property
    def has_valence(self) -> bool:
        """Whether any clip of any split has a valence."""
        return any(each.has_valence for each in (self.train, *self.tests.values()))

    def without_valence(self) -> "Dataset":
        """The same clips as if none had a valence."""
        others = {split: each.without_valence() for split, each in self.others.items()}
        return replace(self, train=self.train.without_valence(), test=self.test.without_valence(), others=others)

    @property
    def digest(self) -> str:
        """SHA-256 of all splits and the label order."""
        further = [f"{split}={examples.digest()}" for split, examples in self.others.items()]
        text = "\0".join([self.train.digest(), self.test.digest(), *self.labels, *further])
        return hashlib.sha256(text.encode()).hexdigest()


def dataset_of(params: Params) -> Dataset:
    """The profile's clips and features, without a valence where it cannot be learnt.

    Raises InputError for what `load_dataset` refuses, and for clips that allow no folds.
    """
    return as_learnt(whole_dataset_of(params), params)


def as_learnt(dataset: Dataset, params: Params) -> Dataset:
    """A dataset without a valence where some fold trains on none. Raises InputError for clips that allow no folds."""
    folds = folds_of(dataset.train, params, dataset.labels)
    return dataset if learns_valence(dataset.train.valence, folds) else dataset.without_valence()


def whole_dataset_of(params: Params) -> Dataset:
    """The profile's clips with all valences, and whatever folds they allow."""
    features = params.data / "features"
    return load_dataset(params.data / "manifest.csv", features, params.features.sets, params.corpus.labels)


def remarks_on(dataset: Dataset, params: Params) -> Iterator[str]:
    """What a run leaves out of a whole dataset, as sentences without a full stop; raises what `as_learnt` does."""
    for split, name, count in _cut_values(dataset):
        far = f"farther than {FARTHEST:g} standard deviations from the training clips' mean, and are cut"
        yield f"{count} values of the set {name!r} in the split {split!r} lie {far}"
    if dataset.has_valence and not as_learnt(dataset, params).has_valence:
        yield UNLEARNT


def _cut_values(dataset: Dataset) -> Iterator[tuple[str, str, int]]:
    """Split and feature set of test clips with values that z-scoring cuts, and how many.

    Cut is also what differs in a dimension that is constant in training.
    """
    for name, vectors in dataset.train.features.items():
        scale = ZScore(vectors.shape[1])
        scale.fit(torch.from_numpy(vectors))
        for split, examples in dataset.tests.items():
            values = torch.from_numpy(examples.features[name])
            far, constant = scale(values).abs() == FARTHEST, scale.std.isinf() & (values != scale.mean)
            if count := int((far | constant).sum()):
                yield split, name, count


def load_dataset(manifest: Path, features: Path, sets: Sequence[str], labels: Sequence[str]) -> Dataset:
    """Join the manifest with the feature sets; a clip that lacks one was skipped, with its reason, in extraction.

    Without labels they are those of the training clips, in alphabetical order. Raises InputError for what
    `read_manifest` and `load_sets` refuse, for a split or a class without clips, and for a label outside the set.
    """
    table = read_manifest(manifest)
    labels = labels or labels_of(table, manifest)
    if (unknown := ~table["discrete"].isin([*labels, ""])).any():
        clip, label = table.loc[unknown, ["name", "discrete"]].iloc[0]
        raise InputError(f"{manifest}: label {label!r} of clip {clip!r} is none of {', '.join(labels)}")
    names = [*SPLITS, *(split for split in table["split"].unique() if split not in SPLITS)]
    loaded = load_sets(features, sets)
    complete = set.intersection(*(set(part.names) for part in loaded.values()))
    table = table[table["name"].isin(complete)].sort_values("name")
    splits = {split: _examples(table[table["split"] == split], loaded, labels) for split in names}
    for split, examples in splits.items():
        if not len(examples):
            raise InputError(f"{features} has the features of no clip of the split {split!r}")
    absent = set(range(len(labels))) - set(splits["train"].emotion.tolist())
    if absent:
        raise InputError(f"{manifest} has no training clip with the label {labels[min(absent)]!r}")
    train, test = (splits.pop(split) for split in SPLITS)
    return Dataset(train, test, tuple(labels), splits, read_provenance(features, sets))


def trained_on_of(dataset: Dataset, params: Params) -> TrainedOn:
    """What answers are told with. Raises InputError when the training clips allow no folds."""
    train = dataset.train
    known = train.valence[np.isfinite(train.valence)]
    folds, far = folds_of(train, params), _FAR / len(train.features)
    return TrainedOn(
        clips=len(train),
        drawn="clips" in params.synthesize,
        valence=(float(known.min()), float(known.max())) if len(known) else None,
        novelty={name: fit_novelty(vectors, folds, far) for name, vectors in train.features.items()},
    )


def _examples(table: pd.DataFrame, sets: dict[str, FeatureSet], labels: Sequence[str]) -> Examples:
    names = tuple(table["name"])
    rows = {key: {name: i for i, name in enumerate(part.names)} for key, part in sets.items()}
    return Examples(
        names,
        {key: part.vectors[[rows[key][name] for name in names]] for key, part in sets.items()},
        np.array([labels.index(label) if label else UNLABELLED for label in table["discrete"]], dtype=np.int64),
        table["valence"].to_numpy(np.float32),
        speakers_of(table),
        len(labels),
    )
