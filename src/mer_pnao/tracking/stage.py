"""What a training stage tells MLflow as it goes. A training never fails because of MLflow."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

from mer_pnao.tracking.lineage import read_lineage
from mer_pnao.tracking.runs import finish_system, log_round
from mer_pnao.tracking.store import UNREACHABLE, one_line
from mer_pnao.workspace import work_folder

_CATCH_UP = "training goes on; `mer track` catches up"


@contextmanager
def tracking_or_warning(project: Path) -> Iterator[None]:
    """Turn any failure inside into one sentence on stderr; everything can be caught up from the outs.

    A failure that is not MLflow's is a fault of ours: its traceback goes to `work/tracking-error.log`.
    """
    try:
        yield
    except UNREACHABLE as error:
        print(f"MLflow is not reachable ({one_line(error)}): {_CATCH_UP}", file=sys.stderr)
    except Exception as error:  # whatever it is, hours of training weigh more
        sentence = f"tracking failed ({type(error).__name__}: {one_line(error)}): {_CATCH_UP}"
        log = work_folder(project) / "tracking-error.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(traceback.format_exc(), encoding="utf-8")
        except OSError:  # then there is no more to say than the sentence does
            print(sentence, file=sys.stderr)
        else:
            print(f"{sentence}; the traceback is in {log}", file=sys.stderr)


class StageTracker:
    """Logs the rounds and systems that a stage finishes."""

    def __init__(self, project: Path) -> None:
        """Take the lineage of the project's root. Raises InputError when its params.yaml is wrong."""
        # The dvc.lock that a stage meets tells of the outs before; `mer track` tags the one that DVC writes after it.
        self.lineage = replace(read_lineage(project), dvc_lock=None)

    def round(self, directory: Path) -> None:
        """A round is finished: `models/<system>/round-NN/` is written."""
        with tracking_or_warning(self.lineage.project):
            log_round(directory, self.lineage)

    def finished(self, directory: Path) -> None:
        """A system is finished: `models/<system>/` is complete, with its best round marked."""
        with tracking_or_warning(self.lineage.project):
            finish_system(directory, self.lineage)
