"""Versions and the alias of the best against the records."""

from pathlib import Path
from types import SimpleNamespace

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from mer_pnao.tracking.connection import DATABASE, NAME
from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.runs import finish_system, track


def client_of(root: Path) -> MlflowClient:
    return MlflowClient(f"sqlite:///{root / DATABASE}")


def versions_of(root: Path) -> dict[tuple[str, int], ModelVersion]:
    found = client_of(root).search_model_versions(f"name = '{NAME}'")
    versions = {(version.tags["system"], int(version.tags["round"])): version for version in found}
    assert len(versions) == len(found)
    return versions


def candidate_of(root: Path) -> tuple[str, int]:
    version = client_of(root).get_model_version_by_alias(NAME, "candidate")
    return version.tags["system"], int(version.tags["round"])


def test_a_version_a_round_of_the_pruned_systems(tracked: Path, outs: SimpleNamespace) -> None:
    versions = versions_of(tracked)
    assert set(versions) == {("pnao", 0), ("pnao", 1), ("enf_pnao", 0), ("enf_pnao", 1), ("enf_pnao", 2)}
    version = versions["enf_pnao", 1]
    expected = {"naor": "0.05", "alpha": "0.0005", "com": "0.42", "parameters": "800", "profile": "demo"}
    assert expected.items() <= version.tags.items()
    assert not [value for value in version.tags.values() if len(value) >= 40]  # hashes stand on the run
    run = client_of(tracked).get_run(version.run_id)
    assert run.info.run_name == "enf_pnao naor 0.05 round 01"
    assert run.data.tags["registered_version"] == str(version.version)
    assert [f"models:/{output.model_id}" for output in run.outputs.model_outputs] == [version.source]


def test_the_candidate_is_the_best_and_the_smaller_at_a_tie(tracked: Path) -> None:
    assert candidate_of(tracked) == ("enf_pnao", 1)


def test_the_candidate_follows_the_outs(project: Path, outs: SimpleNamespace) -> None:
    models, lineage = project / "models", read_lineage(project)
    outs.write_round(models, "pnao", 0, 0.5, best=True)
    finish_system(models / "pnao", lineage)
    assert candidate_of(project) == ("pnao", 0)
    outs.write_round(models, "enf_pnao", 0, 0.4, best=True)
    finish_system(models / "enf_pnao", lineage)
    assert candidate_of(project) == ("pnao", 0)
    outs.write_round(models, "enf_pnao", 0, 0.4)
    outs.write_round(models, "enf_pnao", 1, 0.6, best=True)
    finish_system(models / "enf_pnao", lineage)
    assert candidate_of(project) == ("enf_pnao", 1)


def test_a_version_that_was_lost_comes_back(project: Path, outs: SimpleNamespace) -> None:
    outs.write_round(project / "models", "pnao", 0, 0.5, best=True)
    track(project)
    client_of(project).delete_model_version(NAME, "1")
    track(project)
    assert versions_of(project)["pnao", 0].version == 2
    assert candidate_of(project) == ("pnao", 0)
    assert len(client_of(project).search_logged_models(["1"])) == 1
