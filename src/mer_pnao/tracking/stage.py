"""What a training stage tells MLflow as it goes. A training never fails because of MLflow."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.runs import finish_system, log_round
from mer_pnao.tracking.store import one_line


@contextmanager
def tracking_or_warning() -> Iterator[None]:
    """Turn any failure inside into one sentence on stderr; everything can be caught up from the outs."""
    try:
        yield
    except Exception as error:  # whatever it is, hours of training weigh more
        sentence = f"MLflow is not reachable ({one_line(error)}): training goes on; `mer track` catches up"
        print(sentence, file=sys.stderr)


class StageTracker:
    """Logs the rounds and systems that a stage finishes."""

    def __init__(self, project: Path) -> None:
        """Take the lineage of the project's root. Raises InputError when its params.yaml is wrong."""
        self.lineage = read_lineage(project)

    def round(self, directory: Path) -> None:
        """A round is finished: `models/<system>/round-NN/` is written."""
        with tracking_or_warning():
            log_round(directory, self.lineage)

    def finished(self, directory: Path) -> None:
        """A system is finished: `models/<system>/` is complete, with its best round marked."""
        with tracking_or_warning():
            finish_system(directory, self.lineage)
