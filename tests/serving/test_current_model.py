"""Which version answers when another is promoted, cannot be loaded, or nobody can be asked."""

import asyncio
import time
from types import SimpleNamespace

import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.serving import app, current_model, server
from mer_pnao.serving.current_model import CurrentModel

MODEL = "models/enf_pnao/round-00"


class Registry:
    """What the alias means, whether it tells, and which versions can be loaded."""

    def __init__(self) -> None:
        self.version, self.broken, self.reachable = "1", set[str](), True
        self.looks, self.loads = 0, list[str]()

    def latest(self) -> str:
        self.looks += 1
        if not self.reachable:
            raise OSError("nobody answers")
        return self.version

    def load(self, before: object) -> SimpleNamespace:
        self.loads.append(self.version)
        if self.version in self.broken:
            raise ValueError(f"version {self.version} is damaged")
        return SimpleNamespace(version=self.version, plans=dict)


def watched(use):
    """Let a scene play while a model is watched, a hundred looks a second."""
    registry = Registry()

    async def run():
        current = CurrentModel(registry.load, registry.latest, 0.01)
        watching = asyncio.create_task(current.watch())
        await use(registry, current)
        watching.cancel()

    asyncio.run(run())
    return registry


async def until(condition):
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end, "waited in vain"
        await asyncio.sleep(0.001)


async def looks(registry, more=3):
    end = registry.looks + more
    await until(lambda: registry.looks >= end)


def test_who_cannot_be_asked_for_a_while_is_asked_again_as_often_and_nothing_is_stale(capsys):
    async def use(registry, current):
        registry.reachable = False
        await looks(registry, 5)
        assert not current.stale
        registry.version, registry.reachable = "2", True
        await until(lambda: current.predictor.version == "2")

    watched(use)
    assert capsys.readouterr().err == "model 1 goes on answering: nobody answers\nmodel 2 answers now\n"


def test_a_version_that_cannot_be_loaded_is_left_alone_for_a_while_and_another_one_is_not(capsys):
    async def use(registry, current):
        registry.version, registry.broken = "2", {"2"}
        await until(lambda: current.stale)
        await looks(registry)
        registry.reachable = False
        await looks(registry)
        assert current.stale
        registry.reachable = True
        assert (current.predictor.version, registry.loads) == ("1", ["1", "2"])
        registry.version = "3"
        await until(lambda: current.predictor.version == "3")
        await until(lambda: not current.stale)

    assert watched(use).loads == ["1", "2", "3"]
    told = capsys.readouterr().err.splitlines()
    assert told[0] == "model 1 goes on answering: version 2 is damaged"
    assert told[-1] == "model 3 answers now"


def test_the_version_before_may_come_back(capsys):
    async def use(registry, current):
        registry.version, registry.broken = "2", {"2"}
        await until(lambda: current.stale)
        registry.version = "1"
        await until(lambda: not current.stale)

    assert watched(use).loads == ["1", "2"]


def test_a_version_that_could_not_be_loaded_is_tried_again(monkeypatch):
    monkeypatch.setattr(current_model, "_AGAIN", 0.05)

    async def use(registry, current):
        registry.version, registry.broken = "2", {"2"}
        await until(lambda: len(registry.loads) == 3)
        registry.broken = set()
        await until(lambda: current.predictor.version == "2")
        await until(lambda: not current.stale)

    watched(use)


@pytest.mark.parametrize(
    ("model", "followed"),
    [
        ("champion", True),
        ("models:/mer-pnao@champion", True),
        ("2", False),
        ("models:/mer-pnao/2", False),
        (MODEL, False),
    ],
)
def test_an_alias_is_followed_and_a_version_or_a_folder_is_not(mer, registered, monkeypatch, model, followed):
    made = []
    monkeypatch.setattr(current_model, "CurrentModel", lambda load, latest, seconds: made.append(latest))
    monkeypatch.setattr(app, "make_app", lambda *rest: None)
    monkeypatch.setattr(server, "run", lambda *rest: None)
    code, _, err = mer(registered, "serve", "--port", "0", "--model", model)
    assert (code, err) == (0, "")
    (latest,) = made
    assert (latest() if latest else None) == ("1" if followed else None)


def test_a_model_that_reads_ready_crops_is_none_for_uploads():
    plan = SimpleNamespace(limits=SimpleNamespace(crops="data/x/faces"))
    predictor = SimpleNamespace(version="7", plans=lambda: {"manet": plan})
    with pytest.raises(InputError, match="the encoder manet of model 7 reads ready face crops"):
        CurrentModel(lambda before: predictor)


def test_a_fixed_model_is_not_watched():
    current = CurrentModel(lambda before: SimpleNamespace(version="7", plans=dict), None, 0.01)
    asyncio.run(asyncio.wait_for(current.watch(), 5))
    assert not current.stale
