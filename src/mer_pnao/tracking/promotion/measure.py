"""What the gates look at, from MLflow's records of two versions and the checkout's features of their clips."""

import json
from collections.abc import Callable, Mapping, Sequence
from io import StringIO
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pandas as pd
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException
from numpy.typing import NDArray

from mer_pnao.evaluation.bootstrap import Comparison, Predicted, paired_bootstrap
from mer_pnao.foundations.checks import bare_name
from mer_pnao.foundations.errors import InputError
from mer_pnao.outs.decisions import RecordedPredictions, read_table
from mer_pnao.outs.names import CONFIG, POSTERIOR, PREDICTIONS, PROBE, WEIGHT
from mer_pnao.params.profile import Params
from mer_pnao.systems.dataset import Dataset, load_dataset
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import find_run_of
from mer_pnao.tracking.promotion.aliases import JUDGED_ON, ROLLED_BACK
from mer_pnao.tracking.promotion.gates import TOLERANCE, Measured, Repetition, Side, Unknown
from mer_pnao.tracking.promotion.reload import Reloads

_COLUMNS = ["name", "split", "discrete", "valence"]
Reload = Callable[[int, int | None, Mapping[str, NDArray[np.float32]] | None], Reloads]


def gather(
    store: Store, candidate: ModelVersion, champion: ModelVersion | None, params: Params, project: Path, reload: Reload
) -> Measured:
    """Measure everything that can be measured; what cannot be is an `Unknown` that says what to do.

    Raises InputError where the clips are at hand and none of them is in the split that is to judge, with a label.
    """
    dataset, split = _dataset_of(store, candidate, project), params.promotion.split
    versions = int(candidate.version), None if champion is None else int(champion.version)
    repetition: Repetition | Unknown
    comparison: Comparison | Unknown
    if isinstance(dataset, Unknown):
        reloads = reload(*versions, None)
        repetition = comparison = dataset
    else:
        _labelled(dataset, split)  # before anything takes time
        reloads = reload(*versions, _all_clips(dataset))
        mine = recorded_predictions(store, candidate.run_id, f"version {candidate.version}")
        if champion is None:
            rival = recorded_predictions(store, _probe_run(store, dataset.digest), "the linear probe")
        else:
            rival = recorded_predictions(store, champion.run_id, f"the champion {champion.version}")
        repetition = _repetition(reloads.predictions, mine, dataset)
        comparison = _compare(dataset, mine, rival, params)
    return Measured(
        _side(store, candidate),
        None if champion is None else _side(store, champion),
        repetition,
        comparison,
        reloads.latency,
        split,
        _judged_before(store, candidate, split),
    )


def _judged_before(store: Store, candidate: ModelVersion, split: str) -> int:
    """How often the split of this profile has judged a version, whatever the features were.

    Another profile of the same corpus may have judged by the same people; of that nothing is known here.
    """
    versions = store.client.search_model_versions(f"name = '{NAME}'")
    of_profile = [each.tags for each in versions if each.tags.get("profile") == candidate.tags.get("profile")]
    return sum(judgements(tags, split) for tags in of_profile)


def judgements(tags: Mapping[str, str], split: str) -> int:
    """How often the split has judged the version of these tags."""
    count = tags.get(JUDGED_ON + split, "")
    return int(count) if count.isdecimal() else 0


def _side(store: Store, version: ModelVersion) -> Side:
    tags = version.tags
    parameters = tags.get("parameters", "")
    count = int(parameters) if parameters.isdecimal() else None
    return Side(int(version.version), _data_digest(store, version), count, tags.get(ROLLED_BACK))


def _data_digest(store: Store, version: ModelVersion) -> str:
    """That of the version's run; "" where it is not known."""
    run = find_run_of(store, version)
    return str(run.data.tags.get("data_digest", "")) if run else ""


def _dataset_of(store: Store, version: ModelVersion, project: Path) -> Dataset | Unknown:
    """The clips that a version was measured on, where the checkout has the very same."""
    digest, profile = _data_digest(store, version), version.tags.get("profile", "")
    try:
        bare_name("the tag 'profile'", profile)
        config = json.loads(_artifact(store, version.run_id, CONFIG))
        sets = tuple(config["blueprint"]["widths"])
        labels = tuple(config["labels"])
    except (MlflowException, OSError, ValueError, KeyError, TypeError) as error:
        return Unknown(f"MLflow does not hold what version {version.version} was trained with: {error}")
    data = Path("data") / profile
    again = "run `dvc pull`, or `make run` with that profile, or promote in the checkout that trained it"
    try:
        dataset = load_dataset(project / data / "manifest.csv", project / data / "features", sets, labels)
    except InputError as error:
        return Unknown(f"the clips of version {version.version} are not at hand ({error}): {again}")
    for each in (dataset, dataset.without_valence()):  # where valence cannot be learnt, the stages leave it out
        if each.digest == digest:
            return each
    return Unknown(
        f"{data} holds the data {dataset.digest[:12]}, and version {version.version} was measured on "
        f"{digest[:12] or 'unknown'}: {again}"
    )


def _all_clips(dataset: Dataset) -> dict[str, NDArray[np.float32]]:
    """The features of every clip that the mean of the folds predicted: the test split's and the further ones'."""
    parts = dataset.tests.values()
    return {
        name: np.concatenate([examples.features[name] for examples in parts]).astype(np.float32)
        for name in dataset.test.features
    }


def _labelled(dataset: Dataset, split: str) -> NDArray[np.int64]:
    """The rows of the split's clips that have a label."""
    if split not in dataset.tests:
        known = ", ".join(dataset.tests)
        raise InputError(f"promotion.split must be one of the data's test splits ({known}), got {split!r}")
    rows = np.flatnonzero(dataset.tests[split].labelled)
    if not len(rows):
        raise InputError(f"promotion.split must have clips with a label, and no clip of {split!r} has one")
    return rows


def _probe_run(store: Store, digest: str) -> str | None:
    """The latest run of the linear probe on the data."""
    asked = f"tags.system = '{PROBE}' AND tags.data_digest = '{digest}' AND attributes.status = 'FINISHED'"
    found = store.client.search_runs([store.experiment], asked, max_results=1)
    return str(found[0].info.run_id) if found else None


def recorded_predictions(store: Store, run: str | None, whose: str) -> RecordedPredictions | Unknown:
    """The predictions.csv in MLflow, which later trainings do not replace as they do the outs."""
    try:
        if not run:
            raise InputError("there is no run")
        table = read_table(StringIO(_artifact(store, run, PREDICTIONS)), _COLUMNS, PREDICTIONS)
    except (MlflowException, OSError, ValueError) as error:
        return Unknown(f"MLflow does not hold the predictions of {whose} ({error}): run `mer track` where its outs are")
    return RecordedPredictions(Path(PREDICTIONS), (), table)


def _rows(predictions: RecordedPredictions, names: Sequence[str], split: str) -> pd.DataFrame | None:
    """The rows of these clips in their order; None when the split has others."""
    try:
        rows = predictions.rows(split, names)
    except InputError:
        return None
    return rows if len(rows) == len(names) else None


def _artifact(store: Store, run: str, name: str) -> str:
    with TemporaryDirectory() as folder:
        return Path(store.client.download_artifacts(run, name, folder)).read_text(encoding="utf-8")


def _compare(
    dataset: Dataset, mine: RecordedPredictions | Unknown, rival: RecordedPredictions | Unknown, params: Params
) -> Comparison | Unknown:
    """The candidate against its rival on the split that judges, with the draws of the report's tables."""
    if isinstance(mine, Unknown):
        return mine
    if isinstance(rival, Unknown):
        return rival
    split = params.promotion.split
    clips, labelled = dataset.tests[split], _labelled(dataset, split)
    candidate, other = (_rows(predictions, clips.names, split) for predictions in (mine, rival))
    if candidate is None or other is None:
        return Unknown(f"the two have not predicted the same {split} clips, so there is no paired comparison")
    decided = {
        side: Predicted(table["discrete"].iloc[labelled], table["valence"].iloc[labelled])
        for side, table in (("candidate", candidate), ("rival", other))
    }
    test = clips.select(labelled)
    truth = [dataset.labels[i] for i in test.emotion]
    evaluation, seed = params.evaluation, params.seed
    try:
        compared = paired_bootstrap(
            truth, test.valence, decided, "rival", evaluation.resamples, seed, groups=test.speakers
        )
    except ValueError as error:
        return Unknown(f"the recorded predictions cannot be scored: {error}")
    return compared["candidate"]


def _repetition(
    predicted: pd.DataFrame | Unknown, recorded: RecordedPredictions | Unknown, dataset: Dataset
) -> Repetition | Unknown:
    if isinstance(predicted, Unknown):
        return predicted
    if isinstance(recorded, Unknown):
        return recorded
    tables = [_rows(recorded, examples.names, split) for split, examples in dataset.tests.items()]
    if any(table is None for table in tables):
        return Unknown("the recorded predictions are those of other clips")
    expected = pd.concat([table for table in tables if table is not None])
    posteriors = [f"{POSTERIOR}{label}" for label in dataset.labels]
    weights = [column for column in expected if str(column).startswith(WEIGHT)]
    columns = [*posteriors, "valence", "confidence", *weights]
    if missing := [column for column in columns if column not in predicted or column not in expected]:
        return Unknown(f"there is no column {missing[0]!r} in what the version predicts or in what was recorded")
    numbers = predicted[columns].apply(pd.to_numeric, errors="coerce").to_numpy(float)
    differences = np.abs(numbers - expected[columns].to_numpy(float))
    if not np.isfinite(differences).all():
        return Unknown("what the version predicts or what was recorded holds values that are not finite")
    top_two = np.sort(expected[posteriors].to_numpy(float), axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > 2 * TOLERANCE
    other = predicted["emotion"].to_numpy(str) != expected["discrete"].to_numpy(str)
    return Repetition(len(expected), float(differences.max()), int((other & clear).sum()))
