"""What a training stage tells MLflow as it goes. A training neither fails because of MLflow nor waits long for it.

A process beside the training, `stage_worker`, does the logging, so that the next round is trained meanwhile.
"""

import json
import os
import subprocess
import sys
import time
import weakref
from dataclasses import asdict, replace
from multiprocessing import Pipe
from multiprocessing.connection import Connection
from pathlib import Path

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.lineage import read_lineage

CATCH_UP = "training goes on; `mer track` catches up"
_PATIENCE = 15.0  # seconds after the last success that the end of a system waits for MLflow
_READY = 60.0  # seconds that the process beside the training may need to import its libraries


def tracking_wanted() -> bool:
    """Whether MLflow is told what a stage or a search finishes: unless MER_TRACKING=off. Raises InputError."""
    stated = os.environ.get("MER_TRACKING", "on")
    if stated not in ("on", "off"):
        raise InputError(f"MER_TRACKING must be on or off, got {stated!r}")
    return stated == "on"


class StageTracker:
    """Logs the rounds and systems that a stage finishes, unless tracking is off."""

    def __init__(self, project: Path) -> None:
        """Take the lineage of the project's root. Raises InputError when MER_TRACKING is neither on nor off."""
        # The dvc.lock that a stage meets tells of the outs before; `mer track` tags the one that DVC writes after it.
        self.lineage = replace(read_lineage(project), dvc_lock=None)
        self._due = 0  # answers that are still to come; the first says that the process is ready
        self._ready = self._failed = False
        self._said = ""
        self._process: subprocess.Popen[bytes] | None = None
        if not tracking_wanted():
            return
        self._line, there = Pipe()
        command = [sys.executable, "-P", "-m", "mer_pnao.tracking.stage_worker", str(there.fileno())]
        with there:
            try:
                # In a session of its own: Ctrl-C ends the training, and the end of the training ends the process.
                self._process = subprocess.Popen(
                    command, stdin=subprocess.DEVNULL, pass_fds=[there.fileno()], start_new_session=True
                )
            except OSError as error:
                self._give_up(f"no process can be started that logs ({error.strerror})")
                return
        self._due = 1
        weakref.finalize(self, _end, self._process, self._line)

    def round(self, directory: Path) -> None:
        """A round is finished: `models/<system>/round-NN/` is written. Does not wait."""
        while self._due and self._line.poll():
            self._settle(0.0)
        if not self._failed:  # otherwise the end of the system sends what is missing, in one more attempt
            self._send("round", directory)

    def finished(self, directory: Path) -> None:
        """A system is finished: `models/<system>/` is complete, with its best round marked.

        Waits until everything so far is logged, but no longer than `_PATIENCE` after the last success.
        """
        self._send("system", directory)
        deadline = time.monotonic() + (_PATIENCE if self._ready else _READY)
        while self._due:
            if self._settle(max(0.0, deadline - time.monotonic())):
                deadline = time.monotonic() + _PATIENCE

    def _send(self, kind: str, directory: Path) -> None:
        if self._process is None:
            return
        job = [kind, str(directory.resolve()), {**asdict(self.lineage), "project": str(self.lineage.project)}]
        try:
            self._line.send_bytes(json.dumps(job).encode())
        except OSError:
            self._give_up("the process that logs is gone")
        else:
            self._due += 1

    def _settle(self, patience: float) -> bool:
        """Take the next answer and say what it has to say; returns whether it is a success."""
        try:
            if not self._line.poll(patience):
                self._give_up(f"MLflow does not answer within {_PATIENCE if self._ready else _READY:.0f} s")
                return False
            sentence = self._line.recv_bytes().decode()
        except (EOFError, OSError):
            self._give_up("the process that logs is gone")
            return False
        self._due -= 1
        self._ready, self._failed = True, bool(sentence)
        self._say(sentence)
        return not sentence

    def _give_up(self, reason: str) -> None:
        self._due, self._failed = 0, True
        if self._process is not None:
            self._process.kill()
            self._process = None
        self._say(f"{reason}: {CATCH_UP}")

    def _say(self, sentence: str) -> None:
        """On stderr; the same sentence only once in a row."""
        if sentence and sentence != self._said:
            print(sentence, file=sys.stderr)
            self._said = sentence


def _end(process: "subprocess.Popen[bytes]", line: Connection) -> None:
    """Let the process log what it was sent, for a while, and end."""
    line.close()
    try:
        process.wait(_PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
