"""The process beside a training that tells MLflow what the training has finished, see `stage`.

Its argument is its end of a connection, over which jobs come, each a JSON list `[kind, directory, lineage]`. It answers
each: nothing, or the sentence about why it did not work. The first answer says that it is ready. It ends when the
training has, and no more jobs are left.
"""

import json
import os
import sys
import traceback
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from mer_pnao.foundations.files import work_folder
from mer_pnao.tracking.connection import FAILURES, one_line, without_passwords
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
    except FAILURES as error:
        return f"MLflow could not be told ({one_line(error)}): {CATCH_UP}"
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
    """Take jobs until there are no more."""
    if hasattr(os, "nice"):
        os.nice(_NICENESS)
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what libraries print is not the training's
    line, said = Connection(int(sys.argv[1])), ""
    with suppress(EOFError, ConnectionResetError):
        while True:
            with suppress(BrokenPipeError):  # the training has ended; what it has sent is logged all the same
                line.send_bytes(said.encode())
            kind, directory, lineage = json.loads(line.recv_bytes())
            said = attempt(kind, Path(directory), Lineage(**{**lineage, "project": Path(lineage["project"])}))


if __name__ == "__main__":
    main()
