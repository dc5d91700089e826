"""Folds in parallel processes with one thread each: the numbers do not depend on how many there are."""

import os
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from joblib import Parallel, cpu_count, delayed, parallel_config
from threadpoolctl import threadpool_limits

from mer_pnao.foundations.errors import InputError

# What glibc's malloc does in the worker processes; other C libraries do not look at it. Without it, freed gradients go
# back to the system after each step, to be zeroed page by page for the next one, and 4 KiB pages fill the TLB.
_MALLOC = "glibc.malloc.mmap_threshold=33554432:glibc.malloc.trim_threshold=1073741824:glibc.malloc.hugetlb=1"

Task = TypeVar("Task")
Result = TypeVar("Result")


def usable_cores() -> int:
    """How many cores this process may use; MER_WORKERS sets another number, and raises InputError if it is none."""
    stated = os.environ.get("MER_WORKERS")
    if stated is not None:
        if not (stated.isdecimal() and int(stated) > 0):
            raise InputError(f"MER_WORKERS must be a whole number of at least 1, got {stated!r}")
        return int(stated)
    return int(cpu_count())  # knows affinities and limits of containers


def one_thread() -> None:
    """Let this process compute with one thread, in torch and in the BLAS libraries that it has loaded.

    Sums in another order give other last digits, and on matrices as small as a fold's threads wait for each other: the
    linear probe of the demo takes six times as long with two.
    """
    import torch  # not at the top: who renders clips counts cores, too, and needs no torch

    torch.set_num_threads(1)
    threadpool_limits(1)


def parallel_map(workers: int, done: Callable[[int], None] = lambda _: None) -> Callable[..., Iterator[Any]]:
    """A `map` of one function over tasks, in processes and in order; `done(1)` is called for each finished task."""
    os.environ.setdefault("GLIBC_TUNABLES", _MALLOC)  # read by processes that start from here on

    def run(function: Callable[[Task], Result], tasks: Iterable[Task]) -> Iterator[Result]:
        # No memory-mapped arguments: a killed run would leave them behind.
        with parallel_config(backend="loky", inner_max_num_threads=1):
            results = Parallel(n_jobs=workers, return_as="generator", max_nbytes=None)(
                delayed(function)(task) for task in tasks
            )
            for result in results:
                done(1)
                yield result

    return run
