"""How shards are computed on a Ray cluster: an encoder a GPU or a few cores, and a killed worker's shard once more.

The only importer of Ray, which is an optional extra. Workers read the clips by their paths and send the vectors back,
so that only the machine that asks needs to write.
"""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from mer_pnao.encoders.config import EncoderConfig
from mer_pnao.errors import InputError
from mer_pnao.features.clip_encoders import ClipEncoder, build_encoder
from mer_pnao.features.engine import Engine, Progress, on_this_machine
from mer_pnao.features.shards import Clip, Shard
from mer_pnao.media.decode import MediaLimits

_TRIES = 3  # more of a shard whose worker dies; a clip that always kills its worker is told of
# Read when Ray is imported and started. A value that the user has set stays.
_ENVIRONMENT = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO": "0"}


@dataclass(frozen=True)
class Recipe:
    """What a worker builds its encoder from."""

    name: str
    config: EncoderConfig
    root: Path
    limits: MediaLimits

    def build(self) -> ClipEncoder:
        """The encoder. Raises InputError as `build_encoder` does."""
        return build_encoder(self.name, self.config, self.root, self.limits)


class _Worker:
    """An encoder that stays loaded, in a process of its own."""

    def __init__(self, recipe: Recipe, identity: Mapping[str, object], cores: int) -> None:
        self._encoder = recipe.build()
        self._asked, self._cores = identity, cores

    def refusal(self) -> str:
        """Why its vectors would be others than those asked for; empty when they are not."""
        own = self._encoder.identity
        for key in sorted({*own, *self._asked}):
            if own.get(key) != self._asked.get(key):
                return f"has the {key} {own.get(key)!r}, and here it is {self._asked.get(key)!r}"
        return ""

    def shard(self, clips: Sequence[Clip]) -> Shard:
        """What the encoder makes of the clips."""
        ((_, shard),) = on_this_machine(self._encoder, self._cores)({Path(): clips}, lambda _: None)
        return shard


def on_ray(recipe: Recipe, encoder: ClipEncoder, workers: int = 0, cores: int = 1) -> Engine:
    """An engine on the cluster of RAY_ADDRESS, or on one of this machine's own that ends with it.

    Args:
        recipe: of the encoder; its checkpoint and the clips must be readable by the same absolute paths everywhere.
        encoder: built from the recipe here, whose identity every worker's must equal.
        workers: processes with an encoder each; 0 for one a GPU of the cluster, or without any one for so many cores.
        cores: of a worker.

    Raises:
        InputError: Ray is not installed; from the engine, a cluster that cannot be reached, what a worker refuses, and
            a shard over which every worker dies, naming its clips.
    """
    for name, value in _ENVIRONMENT.items():
        os.environ.setdefault(name, value)
    try:
        import ray
    except ImportError as error:
        raise InputError("Ray is not installed here: pip install 'mer-pnao[ray]'") from error

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
            started = _started(ray, recipe, encoder, workers, cores, len(missing))
            yield from _dealt(ray, started, missing, progress)
        finally:
            ray.shutdown()

    return compute


def _knock(address: str) -> None:
    """Raises OSError where nobody listens at host:port: Ray itself would wait for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=10).close()


def _started(ray: Any, recipe: Recipe, encoder: ClipEncoder, workers: int, cores: int, most: int) -> list[Any]:
    """The workers, which have loaded their encoders."""
    there = ray.cluster_resources()
    gpus = int(there.get("GPU", 0))
    count = min(most, workers or gpus or max(1, int(there.get("CPU", 1)) // cores))
    of_gpu = min(1.0, gpus / count)  # workers may share one
    options = {"num_cpus": cores, "num_gpus": of_gpu, "max_restarts": -1, "max_task_retries": _TRIES}
    worker = ray.remote(**options)(_Worker)
    absolute = replace(recipe, root=recipe.root.resolve())
    started = [worker.remote(absolute, dict(encoder.identity), cores) for _ in range(count)]
    try:
        refusals = ray.get([each.refusal.remote() for each in started])
    except ray.exceptions.RayError as error:
        raise InputError(f"a worker cannot load {recipe.name}: {str(error).strip().splitlines()[-1]}") from error
    for refusal in filter(None, refusals):
        raise InputError(
            f"a worker's {recipe.name} {refusal}: set the encoder's precision to fp32 or bf16, and give all machines "
            "the same checkpoint"
        )
    return started


def _dealt(
    ray: Any, workers: Sequence[Any], missing: Mapping[Path, Sequence[Clip]], progress: Progress
) -> Iterator[tuple[Path, Shard]]:
    """Each worker has one shard at a time, and the next one when it is done."""
    waiting = list(missing.items())[::-1]
    running: dict[Any, tuple[Any, Path]] = {}

    def hand(worker: Any) -> None:
        if waiting:
            folder, clips = waiting.pop()
            running[worker.shard.remote([_anywhere(clip) for clip in clips])] = (worker, folder)

    for worker in workers:
        hand(worker)
    while running:
        (done, *_), _ = ray.wait(list(running))
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
