"""How a checkpoint on the Hugging Face hub is named: `organisation/name@revision`, behind a folder where one is."""

import re
from typing import NamedTuple

_NAME = re.compile(r"(?:(?P<folder>.+)/)?(?P<repository>[\w.-]+/[\w.-]+)@(?P<revision>[\w./-]+)", re.ASCII)


class HubName(NamedTuple):
    """A checkpoint on the hub."""

    repository: str  # organisation/name
    revision: str  # a commit, a tag or a branch; only a commit can never move

    def __str__(self) -> str:
        return f"{self.repository}@{self.revision}"


def hub_name(checkpoint: str) -> HubName | None:
    """The name that a checkpoint is or ends in, if any."""
    found = _NAME.fullmatch(checkpoint)
    return HubName(found["repository"], found["revision"]) if found else None
