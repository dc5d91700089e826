"""Workers: how many there are, and that their number does not change the results or their order."""

import operator
import os
from collections.abc import Iterable

import pytest
import torch
from joblib.externals.loky import get_reusable_executor
from threadpoolctl import threadpool_info, threadpool_limits

from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.parallel import one_thread, parallel_map, usable_cores

_THREADS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")


@pytest.mark.parametrize("value", ["abc", "0", "-1", "1.5", ""])
def test_a_wrong_number_of_workers_is_refused(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MER_WORKERS", value)
    with pytest.raises(InputError, match=f"^MER_WORKERS must be a whole number of at least 1, got '{value}'$"):
        usable_cores()


def test_a_stated_number_of_workers_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MER_WORKERS", "3")
    assert usable_cores() == 3


def test_all_cores_that_this_process_may_use_count(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MER_WORKERS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0}, raising=False)
    assert usable_cores() == 1


def test_one_thread_computes_in_torch_and_in_blas() -> None:
    def of_all() -> set[int]:
        return {torch.get_num_threads(), *(each["num_threads"] for each in threadpool_info())}

    with threadpool_limits(2):
        torch.set_num_threads(2)
        assert of_all() == {2}
        one_thread()
        assert of_all() == {1}


@pytest.mark.parametrize("workers", [1, pytest.param(2, marks=pytest.mark.slow)])
def test_results_come_in_order_and_each_is_reported(workers: int) -> None:
    done: list[int] = []
    results: Iterable[int] = parallel_map(workers, done.append)(operator.neg, range(5))
    assert list(results) == [0, -1, -2, -3, -4]
    assert done == [1] * 5


@pytest.mark.slow
@pytest.mark.parametrize("own", [None, "glibc.malloc.check=0"])
def test_workers_have_one_thread_and_keep_the_memory_that_they_free(
    monkeypatch: pytest.MonkeyPatch, own: str | None
) -> None:
    """glibc reads its tunables when a process starts; what the user has set stays."""
    for name in ("GLIBC_TUNABLES", *_THREADS):
        monkeypatch.delenv(name, raising=False)
    if own:
        monkeypatch.setenv("GLIBC_TUNABLES", own)
    get_reusable_executor(2).shutdown()  # workers of other tests started without
    found, *threads = parallel_map(2)(os.getenv, ["GLIBC_TUNABLES", *_THREADS])
    get_reusable_executor(2).shutdown()
    assert threads == ["1"] * len(_THREADS)
    assert found is not None
    assert found == own if own else "mmap_threshold" in found and "trim_threshold" in found
