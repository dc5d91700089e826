"""A round's folder as a version of the registered model: safetensors, code, signature and input example, no pickle."""

import os
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory

import mlflow.pyfunc
import numpy as np
from mlflow.entities import LoggedModelOutput, Metric, Run
from mlflow.entities.model_registry import ModelVersion
from mlflow.models import Model, ModelSignature
from mlflow.types import ColSpec, DataType, Schema, TensorSpec

import mer_pnao
from mer_pnao.outs.finished import Finished
from mer_pnao.outs.names import CONFIG, ENCODERS
from mer_pnao.outs.networks import RoundModel, read_round
from mer_pnao.tracking import packaged_model
from mer_pnao.tracking.card import read_clips, trained_on_of, write_card
from mer_pnao.tracking.connection import NAME, Store
from mer_pnao.tracking.known import VERSION, find_version
from mer_pnao.tracking.lineage import Lineage

# What the packed code imports. Named here, for MLflow's own inference loads every model and takes seconds.
_REQUIREMENTS = ("torch", "safetensors", "numpy", "pandas", "scipy", "scikit-learn")


def register_round(store: Store, run: Run, finished: Finished, lineage: Lineage) -> None:
    """Make a version of the round's networks from its run, unless they have one, and tag the run with its number.

    A version's tags are for people; the hashes stand on its run. Files of a version that are gone are made anew.
    """
    if version := find_version(store, finished):
        model = version.source.removeprefix("models:/")
        there = {Path(each.path).name for each in store.client.list_logged_model_artifacts(model, "artifacts")}
        if not there >= {file.name for file in _packed(finished.directory)}:
            _log_files(store, run.info.run_id, finished, model)
    else:
        version = _new_version(store, run, finished, lineage)
    if run.data.tags.get(VERSION) != str(version.version):
        store.client.set_tag(run.info.run_id, VERSION, version.version)


def _new_version(store: Store, run: Run, finished: Finished, lineage: Lineage) -> ModelVersion:
    record, asked, clips = finished.record, finished.record.settings, read_clips(finished, lineage.project)
    assert record.round is not None
    ends = {f"{split}_com_{end}": getattr(each, end) for split, each in clips.items() for end in ("low", "high")}
    start = run.info.start_time
    metrics = [Metric(name, value, start, 0) for name, value in ends.items() if value is not None]
    store.client.log_batch(run.info.run_id, metrics)
    model = log_packaged_model(store, run.info.run_id, finished)
    tags = {
        "system": record.system,
        "round": record.round.number,
        "naor": asked.naor if record.round.number else None,  # round 0 is not pruned, and every NAOR shares it
        "alpha": asked.alpha,
        "seed": asked.seed,
        "com": record.com,
        "parameters": record.parameters,
        "profile": asked.profile,
        "drawn": trained_on_of(finished).get("drawn") or None,
    }
    return store.client.create_model_version(
        NAME,
        f"models:/{model}",
        run.info.run_id,
        {name: str(value) for name, value in tags.items() if value is not None},
        description=write_card(finished, clips, lineage),
        model_id=model,
    )


def signature_of(model: RoundModel) -> ModelSignature:
    """Input: a float32 tensor (N, width) a feature set; output: see `PackagedModel`."""
    inputs = [TensorSpec(np.dtype("float32"), (-1, width), name) for name, width in model.blueprint.widths.items()]
    columns = packaged_model.output_columns(model.labels, list(model.blueprint.branches()))
    types = {"emotion": DataType.string}
    return ModelSignature(Schema(inputs), Schema([ColSpec(types.get(name, DataType.double), name) for name in columns]))


def log_packaged_model(store: Store, run: str, finished: Finished) -> str:
    """Log the round's model into its run, once; returns the id of MLflow's logged model."""
    client = store.client
    known = client.search_logged_models([store.experiment], f"source_run_id = '{run}'")
    for logged in known:
        if logged.status == "READY":
            return str(logged.model_id)
        client.delete_logged_model(logged.model_id)  # left by a kill
    name = f"{finished.record.system}-round-{finished.record.number:02d}"
    logged = client.create_logged_model(store.experiment, name, run, params=finished.settings())
    _log_files(store, run, finished, logged.model_id)
    client.finalize_logged_model(logged.model_id, "READY")
    client.log_outputs(run, [LoggedModelOutput(logged.model_id, step=0)])
    return str(logged.model_id)


def _packed(directory: Path) -> list[Path]:
    """The files of a round that a version holds."""
    return [directory / CONFIG, *sorted([*directory.glob(ENCODERS), *directory.glob("*.safetensors")])]


def _log_files(store: Store, run: str, finished: Finished, model: str) -> None:
    with TemporaryDirectory() as folder:
        _save(Path(folder) / "model", finished.directory, Model("model", run, model_id=model))
        store.client.log_model_artifacts(model, str(Path(folder) / "model"))


def _save(path: Path, directory: Path, description: Model) -> None:
    model = read_round(directory)
    files = {file.stem: file for file in _packed(directory)}
    example = {name: np.zeros((1, width), np.float32) for name, width in model.blueprint.widths.items()}
    with warnings.catch_warnings():  # MLflow trips over its own deprecations
        warnings.simplefilter("ignore")
        mlflow.pyfunc.save_model(
            path,
            python_model=packaged_model.__file__,
            artifacts={name: os.path.relpath(file) for name, file in files.items()},
            code_paths=[str(Path(mer_pnao.__file__).parent)],
            signature=signature_of(model),
            input_example=example,
            pip_requirements=[f"{name}=={version(name)}" for name in ("mlflow", *_REQUIREMENTS)],
            mlflow_model=description,
        )
    # MLflow records where this file lay on this machine; the copy beside the model is what it loads.
    flavor = description.flavors["python_function"]
    flavor["model_code_path"] = Path(flavor["model_code_path"]).name
    description.save(path / "MLmodel")
