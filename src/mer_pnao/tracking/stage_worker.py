"""The process beside a training that tells MLflow what the training has finished, see `stage`.

It reads a job a line from stdin, a JSON list `[kind, directory, lineage]`, and answers each on stdout with a JSON
string: empty, or the sentence about why it did not work. The first answer says that it is ready. It ends when its
input does.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from pathlib import Path

from mer_pnao.foundations.files import work_folder
from mer_pnao.tracking.connection import UNREACHABLE, one_line, without_passwords
from mer_pnao.tracking.lineage import Lineage
from mer_pnao.tracking.runs import finish_system, log_round
from mer_pnao.tracking.stage import CATCH_UP

_NICENESS = 10  # the training goes first


def attempt(kind: str, directory: Path, lineage: Lineage) -> str:
    """Log a finished round or, with what of it is not logged yet, a finished system; returns "" or why it failed.

    A failure that is not MLflow's is a fault of ours: its traceback goes to `work/tracking-error.log`.
    """
    jobs: dict[str, Callable[[Path, Lineage], None]] = {"round": log_round, "system": finish_system}
    try:
        jobs[kind](directory, lineage)
    except UNREACHABLE as error:
        return f"MLflow is not reachable ({one_line(error)}): {CATCH_UP}"
    except Exception as error:  # whatever it is, hours of training weigh more
        sentence = f"tracking failed ({type(error).__name__}: {one_line(error)}): {CATCH_UP}"
        log = work_folder(lineage.project) / "tracking-error.log"
        try:
            log.parent.mkdir(parents=True, exist_ok=True)
            log.write_text(without_passwords(traceback.format_exc()), encoding="utf-8")
        except OSError:  # then there is no more to say than the sentence does
            return sentence
        return f"{sentence}; the traceback is in {log}"
    return ""


def main() -> None:
    """Take jobs until there are no more, or until nobody hears the answers."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    answers = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is no answer
    try:
        os.write(answers, b'""\n')
        for line in sys.stdin:
            kind, directory, lineage = json.loads(line)
            lineage = Lineage(**{**lineage, "project": Path(lineage["project"])})
            os.write(answers, (json.dumps(attempt(kind, Path(directory), lineage)) + "\n").encode())
    except BrokenPipeError:  # the training was killed
        pass


if __name__ == "__main__":
    main()
