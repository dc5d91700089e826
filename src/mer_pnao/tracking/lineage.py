"""Where a run comes from."""

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Lineage:
    """What a run is tagged with beside its record. The profile and the data's digest are in the record."""

    project: Path  # the root of the checkout that it was made in, absolute
    git_commit: str | None  # None outside a git repository
    git_dirty: bool | None  # the checkout differs from the commit; None outside a git repository
    dvc_lock: str | None  # SHA-256 of dvc.lock, None where there is none

    def tags(self) -> dict[str, str]:
        """Those that are known, by MLflow's names."""
        known = {
            "mlflow.source.git.commit": self.git_commit,
            "git_dirty": None if self.git_dirty is None else str(self.git_dirty).lower(),
            "dvc_lock": self.dvc_lock,
        }
        return {name: value for name, value in known.items() if value is not None}


def read_lineage(project: Path) -> Lineage:
    """The lineage of what a checkout makes now."""
    project = project.resolve()
    lock = project / "dvc.lock"
    # dvc.lock and reports/ change with every training; the lock has a tag of its own.
    changes = _git(project, "status", "--porcelain", "--", ".", ":(exclude)dvc.lock", ":(exclude)reports")
    return Lineage(
        project,
        _git(project, "rev-parse", "--verify", "--quiet", "HEAD"),
        None if changes is None else bool(changes),
        hashlib.sha256(lock.read_bytes()).hexdigest() if lock.is_file() else None,
    )


def _git(project: Path, *arguments: str) -> str | None:
    """What git says; None where it says nothing: no git, no repository, no commit."""
    command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip()
