"""Where a run comes from."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from mer_pnao.params import load_params


@dataclass(frozen=True)
class Lineage:
    """What a run is tagged with beside its record. The data's digest is in the record."""

    project: Path  # the root of the checkout that it was made in, absolute
    profile: str
    git_commit: str | None  # None outside a git repository
    dvc_lock: str | None  # SHA-256 of dvc.lock, None where there is none

    def tags(self) -> dict[str, str]:
        """Those that are known, by MLflow's names."""
        known = {
            "profile": self.profile,
            "mlflow.source.git.commit": self.git_commit,
            "dvc_lock": self.dvc_lock,
        }
        return {name: value for name, value in known.items() if value is not None}


def read_lineage(project: Path) -> Lineage:
    """The lineage of what a checkout makes now. Raises InputError when its params.yaml is wrong."""
    project = project.resolve()
    lock = project / "dvc.lock"
    return Lineage(
        project,
        load_params(project / "params.yaml").profile,
        _commit(project),
        hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
    )


def _commit(project: Path) -> str | None:
    command = ["git", "-C", str(project), "rev-parse", "--verify", "--quiet", "HEAD"]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
