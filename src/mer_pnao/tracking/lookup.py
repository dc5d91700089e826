"""Which registered model a person means, and where its files are."""

import re
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from mlflow import MlflowClient
from mlflow.artifacts import download_artifacts
from mlflow.entities.model_registry import ModelVersion

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import work_folder
from mer_pnao.outs.names import CONFIG
from mer_pnao.tracking.connection import (
    DATABASE,
    FAILURES,
    NAME,
    one_line,
    opened,
    own_uri,
    tracking_root,
    tracking_uri,
)
from mer_pnao.tracking.database import connected
from mer_pnao.tracking.follow import follow_models
from mer_pnao.tracking.known import CANDIDATE

_URI = re.compile(rf"models:/{NAME}(?:@(?P<alias>[^/@]+)|/(?P<version>\d+))")
_OTHERS = "--model takes candidate, a version's number, models:/… or a folder models/<system>/round-NN"


class RegisteredModel(NamedTuple):
    """A version's folder of `config.json`, `encoders.json` and safetensors, and its number."""

    directory: Path
    version: str


def find_registered(project: Path, reference: str) -> RegisteredModel:
    """The version that a reference means, its files fetched where they lie on a server.

    A reference is an alias such as `champion`, a version's number, `models:/mer-pnao@<alias>` or
    `models:/mer-pnao/<version>`. Raises InputError, which says what to do, for no such version or no MLflow.
    """
    try:
        client = _client(project)
        if reference in (CANDIDATE, f"models:/{NAME}@{CANDIDATE}"):
            with opened(project) as store:
                follow_models(store, project)
        version = _version(client, reference)
        return RegisteredModel(_files(client, version, project), str(version.version))
    except FAILURES as error:
        raise InputError(f"MLflow cannot be asked for the model {reference!r}: {one_line(error)}") from error


def registered_version(project: Path, reference: str) -> str:
    """The number of the version that a reference means now. Raises InputError as `find_registered`."""
    try:
        return str(_version(_client(project), reference).version)
    except FAILURES as error:
        raise InputError(f"MLflow cannot be asked for the model {reference!r}: {one_line(error)}") from error


def is_version(reference: str) -> bool:
    """Whether a reference means one version for ever, unlike an alias."""
    found = _URI.fullmatch(reference)
    return reference.isdecimal() or (found is not None and found["version"] is not None)


def _client(project: Path) -> MlflowClient:
    root = tracking_root(project)
    uri = tracking_uri(root)
    if uri == own_uri(root) and not (root / DATABASE).is_file():
        raise InputError(f"{root / DATABASE} is not there: run `make run` or `mer track` first; {_OTHERS}")
    with connected(uri, lock=False):  # which refuses one that this MLflow does not know
        return MlflowClient(tracking_uri=uri, registry_uri=uri)


def _version(client: MlflowClient, reference: str) -> ModelVersion:
    found = _URI.fullmatch(reference)
    if found is None and (":" in reference or "@" in reference):
        raise InputError(f"{reference!r} is no model of this project, as models:/{NAME}@champion is; {_OTHERS}")
    name = (found["alias"] or found["version"]) if found else reference
    registered = client.search_registered_models(f"name = '{NAME}'")
    if not registered:
        raise InputError(f"nothing is registered as {NAME} yet: run `make run` or `mer track` first")
    if name.isdecimal():
        known = client.search_model_versions(f"name = '{NAME}' AND version_number = {int(name)}")
        if not known:
            raise InputError(f"{NAME} has no version {name}: `mer registry --all` lists them")
        return known[0]
    if name not in registered[0].aliases:
        promote = "promote one with `mer promote`; " if name == "champion" else ""
        raise InputError(f"{NAME} has no {name}: {promote}{_OTHERS}")
    return client.get_model_version_by_alias(NAME, name)


def _files(client: MlflowClient, version: ModelVersion, project: Path) -> Path:
    root, uri = tracking_root(project), tracking_uri(tracking_root(project))
    model_id = version.source.removeprefix("models:/")
    location = client.get_logged_model(model_id).artifact_location
    packed: Path = root / location  # of the project's own, relative to the root
    if not (packed / "artifacts" / CONFIG).is_file() and ":" not in location:  # another place has a scheme
        raise InputError(
            f"the files of version {version.version} are gone from {packed}: `mer track` makes them anew while models/ "
            "holds its training"
        )
    if not packed.is_dir():  # on a server
        packed = work_folder(project) / "served" / model_id
        if not packed.is_dir():
            packed.parent.mkdir(parents=True, exist_ok=True)
            with TemporaryDirectory(dir=packed.parent) as partial:
                got = download_artifacts(location, dst_path=partial, tracking_uri=uri, registry_uri=uri)
                Path(got).rename(packed)
    return packed / "artifacts"
