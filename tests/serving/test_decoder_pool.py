"""Decoding in other processes: the same arrays, a reason for each bad clip, and no harm when one hangs or dies."""

import asyncio
import os
import signal
from asyncio.subprocess import PIPE
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mer_pnao.extraction.clip_reader import ClipReader, DecodingPlan
from mer_pnao.media.config import MediaLimits
from mer_pnao.media.container import ClipError
from mer_pnao.serving.decoder_pool import DecoderPool, _form
from mer_pnao.serving.limits import ServiceLimits

PLANS = {
    "faces": DecodingPlan("faces", MediaLimits(), frames=3, crop_side=40),
    "sound": DecodingPlan("sound", MediaLimits()),
    "small": DecodingPlan("faces", MediaLimits(), frames=3, crop_side=24),
    "fewer": DecodingPlan("faces", MediaLimits(), frames=2, crop_side=24),
}


@pytest.fixture
def clip(demo_project):
    return next((demo_project / "data/clips").glob("*.mp4"))


def with_pool(use, seconds=20.0, processes=1):
    async def run():
        pool = DecoderPool(processes, seconds, Path())
        try:
            return await use(pool)
        finally:
            await pool.close()

    return asyncio.run(run())


def test_the_arrays_are_those_of_this_process(clip, with_a_track_twice, tmp_path):
    clip = with_a_track_twice(clip, tmp_path / clip.name)
    found = with_pool(lambda pool: pool.decode(clip, PLANS))
    assert {name for name in PLANS if found[name].remarks} == {"sound"}
    for name, plan in PLANS.items():
        here = ClipReader(plan)(clip)
        np.testing.assert_array_equal(found[name].content, here.content)
        assert found[name].content.dtype == here.content.dtype
        assert (found[name].whole_frame, found[name].remarks) == (here.whole_frame, here.remarks)


def test_every_bad_clip_has_its_reason_and_the_process_goes_on(clip, damaged):
    async def use(pool):
        reasons = {}
        for name, path in [*damaged.items(), ("gone", Path("gone.mp4"))]:
            with pytest.raises(ClipError) as refused:
                await pool.decode(path, PLANS)
            reasons[name] = str(refused.value)
        (before,) = pool._idle
        await pool.decode(clip, PLANS)
        assert pool._idle == [before]
        return reasons

    for name, reason in with_pool(use).items():
        with pytest.raises(ClipError) as here:
            ClipReader(PLANS["sound"])(damaged.get(name, Path("gone.mp4")))
        assert reason == str(here.value)


def test_a_process_that_hangs_costs_one_clip(clip):
    async def use(pool):
        await pool.warm_up()
        (process,) = pool._idle
        os.kill(process.pid, signal.SIGSTOP)
        with pytest.raises(ClipError, match=r"takes more than 0\.3 s to decode"):
            await pool.decode(clip, PLANS)
        assert process.returncode == -signal.SIGKILL
        pool._seconds = 20.0
        assert (await pool.decode(clip, PLANS))["sound"].content.size

    with_pool(use, 0.3)


def test_a_process_that_is_killed_while_it_works_costs_nothing(clip):
    async def use(pool):
        await pool.warm_up()
        (process,) = pool._idle
        os.kill(process.pid, signal.SIGSTOP)
        asyncio.get_running_loop().call_later(0.1, os.kill, process.pid, signal.SIGKILL)
        assert (await pool.decode(clip, PLANS))["sound"].content.size
        assert process.returncode == -signal.SIGKILL
        assert len(pool._idle) == 1

    with_pool(use)


def test_a_clip_that_every_process_dies_of_is_refused_after_two(clip):
    async def use(pool):
        started = []

        async def dying():
            started.append(await asyncio.create_subprocess_exec("true", stdin=PIPE, stdout=PIPE))
            return started[-1]

        pool._start = dying
        with pytest.raises(ClipError, match="makes the decoder fail"):
            await pool.decode(clip, PLANS)
        assert [process.returncode for process in started] == [0, 0]

    with_pool(use)


def test_no_more_processes_than_allowed_work_at_a_time(clip):
    async def use(pool):
        await asyncio.gather(*(pool.decode(clip, PLANS) for _ in range(6)))
        return len(pool._idle)

    assert with_pool(use, processes=2) == 2


def test_a_cancelled_request_leaves_no_half_read_answer(clip):
    async def use(pool):
        await pool.warm_up()
        (process,) = pool._idle
        os.kill(process.pid, signal.SIGSTOP)
        waiting = asyncio.create_task(pool.decode(clip, PLANS))
        await asyncio.sleep(0)
        while process in pool._idle:
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert process.returncode == -signal.SIGKILL
        assert pool._idle == []

    with_pool(use)


@pytest.mark.parametrize(
    "told",
    [
        {"dtype": "object", "shape": [4]},
        {"dtype": "float32", "shape": [60 * 16_000 + 1]},
        {"dtype": "float32", "shape": [2, 2]},
        {"dtype": "float32", "shape": [0]},
    ],
)
def test_an_array_that_no_clip_can_give_is_not_taken(told):
    with pytest.raises(ValueError, match="no clip gives"):
        _form(PLANS["sound"], told)
    with pytest.raises(ValueError, match="no clip gives"):
        _form(PLANS["faces"], {"dtype": "uint8", "shape": [4, 40, 40, 3]})
    assert _form(PLANS["faces"], {"dtype": "uint8", "shape": [3, 40, 40, 3]}) == (np.uint8, (3, 40, 40, 3))


def test_limits_only_ever_tighten():
    plan = PLANS["faces"]
    tight = ServiceLimits(max_seconds=2, max_pixels=5000).tighten(plan)
    assert tight == replace(plan, limits=replace(plan.limits, max_seconds=2, max_pixels=5000))
    assert ServiceLimits(max_seconds=600, max_pixels=10**8).tighten(plan) == plan
    with pytest.raises(ValueError, match="at_once must lie in"):
        ServiceLimits(at_once=0)
