"""How shards are computed on a Ray cluster: an encoder a GPU or a core, and a killed worker's shard once more.

The only importer of Ray, which is an optional extra. Workers read the clips by their paths and send the vectors back,
so that only the machine that asks needs to write.
"""

import logging
import math
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mer_pnao.extraction.clip_encoders import ClipEncoder, difference
from mer_pnao.extraction.engine import Engine, Progress, outcomes, shard_of
from mer_pnao.extraction.shards import Clip, Shard
from mer_pnao.foundations.errors import InputError

_PATIENCE = 600  # seconds for the first worker to start
_TRIES = 3  # more of a shard whose worker dies; a clip that always kills its worker is reported
# Read when Ray is imported and started. A value that the user has set stays. Ray's own niceness of 15 would leave its
# workers next to no time on a machine where others are at work.
_ENVIRONMENT = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0",
    "RAY_worker_niceness": "0",
}


class _Worker:
    """An encoder that stays loaded, in a process of its own."""

    def __init__(self, build: Callable[[], ClipEncoder], identity: Mapping[str, object]) -> None:
        self._encoder, self._asked = build(), identity

    def difference(self) -> tuple[str, object, object] | None:
        """Why its vectors would be others than those asked for, if they would."""
        return difference(self._asked, self._encoder.identity)

    def shard(self, clips: Sequence[Clip]) -> Shard:
        """What the encoder makes of the clips."""
        return shard_of(self._encoder, clips, list(outcomes(self._encoder, [clips], threads=1)))


def on_ray(build: Callable[[], ClipEncoder], encoder: ClipEncoder, workers: int = 0) -> Engine:
    """An engine on the cluster of RAY_ADDRESS, or on one of this machine's own that ends with it.

    Args:
        build: makes the encoder in a worker, in another folder; its checkpoint and the clips must be readable by the
            same absolute paths everywhere.
        encoder: the one here, whose identity every worker's must equal.
        workers: processes with an encoder and a core each; 0 for one a GPU of the cluster, or without any one a core.

    Raises:
        InputError: Ray is not installed; from the engine, a cluster that cannot be reached, what a worker refuses, and
            a shard over which every worker dies, naming its clips.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed here: `make dev` installs it") from error

    def compute(missing: Mapping[Path, Sequence[Clip]], progress: Progress) -> Iterator[tuple[Path, Shard]]:
        if not missing:
            return
        address = os.environ.get("RAY_ADDRESS")
        own = {} if address else {"_node_ip_address": "127.0.0.1"}
        try:
            if address:
                _knock(address)
            ray.init(include_dashboard=False, logging_level=logging.ERROR, log_to_driver=False, **own)
        except (ConnectionError, OSError, RuntimeError, ValueError) as error:
            at = f" at {address}" if address else ""
            raise InputError(f"Ray's cluster{at} cannot be reached: {str(error).splitlines()[0]}") from error
        try:
            asked = _asked_for(ray, build, encoder, workers, len(missing))
            yield from _dealt(ray, asked, encoder.name, missing, progress)
        finally:
            ray.shutdown()

    return compute


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at host:port: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _asked_for(ray: Any, build: Callable[[], ClipEncoder], encoder: ClipEncoder, workers: int, most: int) -> list[Any]:
    """The workers, no more than the cluster can hold; each starts when others leave it room."""
    there = ray.cluster_resources()
    gpus, room = int(there.get("GPU", 0)), max(1, int(there.get("CPU", 1)))
    count = min(most, workers or gpus or room, room)
    of_gpu = 1 / math.ceil(count / gpus) if gpus else 0.0  # workers may share one
    options = {"num_cpus": 1, "num_gpus": of_gpu, "max_restarts": -1, "max_task_retries": _TRIES}
    worker = ray.remote(**options)(_Worker)
    return [worker.remote(build, dict(encoder.identity)) for _ in range(count)]


def _refuse(ray: Any, loaded: Any, encoder: str) -> None:
    """Raises InputError for a worker that could not load its encoder, or has another one."""
    try:
        unlike = ray.get(loaded)
    except ray.exceptions.RayError as error:
        raise InputError(f"a worker cannot load {encoder}: {str(error).strip().splitlines()[-1]}") from error
    if unlike:
        key, here, its_own = unlike
        raise InputError(
            f"a worker's {encoder} has the {key} {its_own!r}, and here it is {here!r}: set the encoder's precision to "
            "fp32 or bf16, and give all machines the same checkpoint"
        )


def _dealt(
    ray: Any, workers: Sequence[Any], encoder: str, missing: Mapping[Path, Sequence[Clip]], progress: Progress
) -> Iterator[tuple[Path, Shard]]:
    """Each worker has one shard at a time, the first one when it has loaded, and the next one when it is done."""
    waiting = list(missing.items())[::-1]
    loading = {worker.difference.remote(): worker for worker in workers}
    running: dict[Any, tuple[Any, Path]] = {}

    def hand(worker: Any) -> None:
        if waiting:
            folder, clips = waiting.pop()
            running[worker.shard.remote([_anywhere(clip) for clip in clips])] = (worker, folder)

    while waiting or running:
        idle = len(loading) == len(workers)
        ready, _ = ray.wait([*loading, *running], timeout=_PATIENCE if idle else None)
        if not ready:
            raise InputError(
                f"no worker of Ray has started within {_PATIENCE // 60} minutes: its cluster is busy, or {encoder} "
                "takes that long to load"
            )
        (done,) = ready
        if done in loading:
            _refuse(ray, done, encoder)
            hand(loading.pop(done))
            continue
        worker, folder = running.pop(done)
        names = [clip.name for clip in missing[folder]]
        try:
            shard = ray.get(done)
        except ray.exceptions.RayTaskError as error:
            if isinstance(error.cause, InputError):
                raise error.cause from None
            raise
        except ray.exceptions.RayActorError as error:
            raise InputError(f"{_TRIES + 1} workers have died over the clips {names[0]} to {names[-1]}") from error
        hand(worker)
        progress(len(names))
        yield folder, shard


def _anywhere(clip: Clip) -> Clip:
    """The clip by its absolute path: a worker works in another folder."""
    noisy = clip.corruption and replace(clip.corruption, noise=tuple(path.absolute() for path in clip.corruption.noise))
    return replace(clip, path=clip.path.absolute(), corruption=noisy)
