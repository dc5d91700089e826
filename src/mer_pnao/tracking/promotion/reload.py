"""Registered versions, loaded in fresh processes: what they predict, and how long they take."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from threading import Timer
from typing import IO, Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from safetensors.numpy import save_file

from mer_pnao.tracking.connection import NAME
from mer_pnao.tracking.promotion.gates import Latency, Unknown

_WORKER = Path(__file__).with_name("reload_worker.py")
_TURNS, _CALLS = 25, 4  # of each version in turn, and predictions a turn: 100 each, about a second
_LIMIT = 900.0  # seconds that a process may live: a model that hangs must not hold the registry's lock for ever
_SETTINGS = {
    "MLFLOW_ALLOW_PICKLE_DESERIALIZATION": "false",
    "OMP_NUM_THREADS": "1",  # as recorded latencies are measured; and two processes share the machine
    "MKL_NUM_THREADS": "1",
    "PYTHONWARNINGS": "ignore",
}


@dataclass(frozen=True)
class Reloads:
    """What the fresh processes showed."""

    predictions: pd.DataFrame | Unknown  # the candidate's, a row a clip, columns as `PackagedModel` has them
    latency: Latency | Unknown | None  # None without a champion


class _EndedError(Exception):
    """A process that ended, with the last line that it wrote to stderr."""


def reload(candidate: int, champion: int | None, features: Mapping[str, NDArray[np.float32]] | None) -> Reloads:
    """Load one version or two, each in a process of its own, within `opened`.

    The candidate predicts the clips of `features`, set -> (N, width), unless they are None, not at hand; its latency is
    compared with the champion's.
    """
    with ExitStack() as stack:
        first = stack.enter_context(_process(candidate))
        second = None if champion is None else stack.enter_context(_process(champion))
        step = "be loaded"
        try:
            first.answer()  # loaded; the other one has been loading meanwhile
            step = "predict"
            predictions = Unknown("there are no clips to predict") if features is None else first.predict(features)
        except _EndedError as error:
            reason = Unknown(f"version {candidate} cannot {step} in a fresh process: {error}")
            return Reloads(reason, None if second is None else reason)
        return Reloads(predictions, None if second is None else _latency(first, second, candidate, champion))


def _latency(first: "_Process", second: "_Process", candidate: int, champion: int | None) -> Latency | Unknown:
    """In turns, so that whatever else the machine does meets both; the fastest call of a turn, the median of turns."""
    try:
        second.answer()
    except _EndedError as error:
        return Unknown(f"the champion {champion} cannot be loaded in a fresh process: {error}")
    try:
        for process in (first, second):  # the first calls are slower
            process.measure()
        turns = [(first.measure(), second.measure()) for _ in range(_TURNS)]
    except _EndedError as error:
        return Unknown(f"the latency of version {candidate} or of the champion {champion} cannot be measured: {error}")
    return Latency(median(mine for mine, _ in turns), median(other for _, other in turns))


class _Process:
    """One worker, asked and answered line by line."""

    def __init__(self, process: subprocess.Popen[str], errors: IO[bytes], folder: Path) -> None:
        self._process, self._errors, self._folder = process, errors, folder

    def answer(self) -> dict[str, Any]:
        """The next line. Raises _EndedError when there is none."""
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line:
            return dict(json.loads(line))
        self._errors.seek(0)
        said = self._errors.read().decode(errors="replace").split("\n")
        raise _EndedError(next((text.strip() for text in reversed(said) if text.strip()), "it ended without a word"))

    def ask(self, request: Mapping[str, Any]) -> dict[str, Any]:
        assert self._process.stdin is not None
        with suppress(OSError):  # it is gone; what it said last tells why
            print(json.dumps(request), file=self._process.stdin, flush=True)
        return self.answer()

    def predict(self, features: Mapping[str, NDArray[np.float32]]) -> pd.DataFrame:
        clips, out = self._folder / "clips.safetensors", self._folder / "table.csv"
        save_file({name: np.ascontiguousarray(values) for name, values in features.items()}, clips)
        self.ask({"predict": str(clips), "out": str(out)})
        return pd.read_csv(out, dtype={"emotion": str}, keep_default_na=False)  # an emotion may be called NA

    def measure(self) -> float:
        """Milliseconds of the fastest call of a turn, which other load disturbs least."""
        return float(min(self.ask({"measure": _CALLS})["ms"]))


@contextmanager
def _process(version: int) -> Iterator[_Process]:
    """A worker that is loading a version of the registered model."""
    with TemporaryDirectory() as name, (Path(name) / "errors").open("w+b") as errors:
        command = [sys.executable, "-P", str(_WORKER), f"models:/{NAME}/{version}"]
        process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            encoding="utf-8",
            env={**os.environ, **_SETTINGS},
        )
        clock = Timer(_LIMIT, process.kill)
        clock.daemon = True
        clock.start()
        try:
            yield _Process(process, errors, Path(name))
        finally:
            clock.cancel()
            process.kill()
            process.communicate()
