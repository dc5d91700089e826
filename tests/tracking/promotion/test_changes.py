"""A champion changes in steps: whatever stops it between two of them, the next call puts it right."""

import json
import subprocess
import sys
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from mer_pnao.foundations.errors import InputError
from mer_pnao.tracking.connection import NAME, Store, opened
from mer_pnao.tracking.promotion.aliases import CHANGE, Change, change_champion, repair
from mer_pnao.tracking.promotion.listing import list_versions
from mer_pnao.tracking.promotion.promote import promote
from mer_pnao.tracking.promotion.rollback import roll_back

WRITES = ("set_registered_model_tag", "delete_registered_model_tag", "set_registered_model_alias",
          "delete_registered_model_alias", "set_model_version_tag", "delete_model_version_tag")  # fmt: skip


class KilledError(BaseException):
    """The process ends here: nothing in the code may catch it."""


class Dying:
    """A client that is killed after so many writes, before or after the last of them reached the database."""

    def __init__(self, client: Any, writes: int) -> None:
        self.client, self.left = client, writes

    def __getattr__(self, name: str) -> Any:
        method = getattr(self.client, name)
        if name not in WRITES:
            return method

        def write(*arguments: Any) -> Any:
            if self.left == 0:
                raise KilledError
            self.left -= 1
            return method(*arguments)

        return write


def tags_of(tools: SimpleNamespace, root: Path, number: int) -> dict[str, str]:
    return dict(tools.client_of(root).get_model_version(NAME, str(number)).tags)


def mend(root: Path) -> str | None:
    with opened(root) as store:
        repaired = repair(store)
        return repaired.sentence if repaired else None


def intent_of(tools: SimpleNamespace, root: Path) -> str | None:
    return tools.client_of(root).get_registered_model(NAME).tags.get(CHANGE)  # type: ignore[no-any-return]


# The three kinds of change, from a registry where 1 is champion and 3 is previous.
PROMOTION = Change("promotion", new=2, old=1, previous=3, when="2026-01-02T03:04:05+00:00", reason="because")
ROLLBACK = Change("rollback", new=3, old=1, previous=3, when="2026-01-02T03:04:05+00:00")
FIRST = Change("promotion", new=2, old=None, previous=None, when="2026-01-02T03:04:05+00:00")


@pytest.mark.parametrize(
    ("change", "after"),
    [
        (PROMOTION, {"champion": 2, "previous": 1}),
        (ROLLBACK, {"champion": 3, "previous": 1}),
        (FIRST, {"champion": 2}),
    ],
    ids=["promotion", "rollback", "first"],
)
def test_a_kill_at_any_step_is_repaired_by_the_next_call(
    shop: Path, registry_tools: SimpleNamespace, change: Change, after: dict[str, int]
) -> None:
    t = registry_tools
    before = {} if change.old is None else {"champion": change.old, "previous": change.previous}
    writes = 0
    while True:
        client = t.client_of(shop)
        for alias in ("champion", "previous"):
            client.delete_registered_model_alias(NAME, alias)
        for number in (1, 2, 3):
            for name in ("promoted", "rolled_back", "forced"):
                client.delete_model_version_tag(NAME, str(number), name)
        client.set_model_version_tag(NAME, str(change.new), "rolled_back", "long ago")
        t.stand(shop, **before)
        with opened(shop) as store:
            try:
                change_champion(Store(Dying(store.client, writes), store.experiment), change)  # type: ignore[arg-type]
                killed = False
            except KilledError:
                killed = True
        between = t.aliases_of(shop)
        assert between.get("champion") in (change.old, change.new)
        written = intent_of(t, shop)
        if not killed:
            assert (between, written) == (after, None)
            break
        repaired = mend(shop)
        if writes == 0:  # nothing had begun
            assert (t.aliases_of(shop), written, repaired) == (before, None, None)
        else:
            assert t.aliases_of(shop) == after
            assert (
                repaired
                == f"finished a {change.kind} that was cut short at {change.when}: version {change.new} is champion"
            )
            tags = tags_of(t, shop, change.new)
            assert "rolled_back" not in tags
            assert tags.get("promoted") == (change.when if change.kind == "promotion" else None)
            assert tags.get("forced") == change.reason
        assert intent_of(t, shop) is None
        assert mend(shop) is None
        writes += 1
    assert writes >= 4


def interrupt(root: Path, change: Change, writes: int) -> None:
    with opened(root) as store, pytest.raises(KilledError):
        change_champion(Store(Dying(store.client, writes), store.experiment), change)  # type: ignore[arg-type]


@pytest.mark.parametrize("writes", [1, 2, 3, 4])
def test_every_command_repairs_before_it_acts(shop: Path, registry_tools: SimpleNamespace, writes: int) -> None:
    t = registry_tools
    t.stand(shop, champion=1, previous=3)
    interrupt(shop, PROMOTION, writes)
    assert list_versions(shop)[1] is not None
    t.stand(shop, champion=1, previous=3)
    interrupt(shop, PROMOTION, writes)
    result = promote(shop, 2, reload=t.in_process(shop))  # the same again
    assert result.repaired is not None
    assert (result.promoted, result.gates) == (False, ())  # it is the champion already
    interrupt(shop, Change("rollback", 1, 2, 1, "now"), writes)
    back = roll_back(shop)  # which finishes the one that was cut short, and does not take it back
    assert (back.champion, back.previous, back.repaired is not None) == (1, 2, True)
    assert t.aliases_of(shop) == {"champion": 1, "previous": 2}
    back = roll_back(shop)
    assert (back.champion, back.previous, back.repaired) == (2, 1, None)


@pytest.mark.parametrize("writes", [1, 2, 3])
def test_a_change_to_a_version_that_was_deleted_is_taken_back(
    shop: Path, registry_tools: SimpleNamespace, writes: int
) -> None:
    t = registry_tools
    t.stand(shop, champion=1, previous=3)
    interrupt(shop, PROMOTION, writes)
    t.client_of(shop).delete_model_version(NAME, "2")
    repaired = mend(shop)
    assert repaired is not None
    assert repaired.endswith("version 2 has been deleted since")
    assert t.aliases_of(shop) == {"champion": 1, "previous": 3}


def test_a_champion_set_by_hand_meanwhile_stays(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=1)
    interrupt(shop, replace(PROMOTION, previous=None), 2)
    t.stand(shop, champion=3)
    repaired = mend(shop)
    assert repaired is not None
    assert "version 3 has been made champion since" in repaired
    assert (t.aliases_of(shop)["champion"], intent_of(t, shop)) == (3, None)


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"kind": "promotion"}'])
def test_a_tag_that_is_not_ours_is_removed(shop: Path, registry_tools: SimpleNamespace, text: str) -> None:
    t = registry_tools
    t.client_of(shop).set_registered_model_tag(NAME, CHANGE, text)
    with opened(shop) as store:
        assert repair(store) is not None
        assert repair(store) is None


def test_two_rollbacks_end_where_they_began(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=2, previous=1)
    assert (roll_back(shop).champion, t.aliases_of(shop)) == (1, {"champion": 1, "previous": 2})
    assert "rolled_back" in tags_of(t, shop, 2)
    assert "not rolled back" in [
        gate.name for gate in promote(shop, 2, reload=t.in_process(shop)).gates if not gate.passed
    ]
    assert (roll_back(shop).champion, t.aliases_of(shop)) == (2, {"champion": 2, "previous": 1})
    assert "rolled_back" not in tags_of(t, shop, 2)  # it is in use again
    assert "rolled_back" in tags_of(t, shop, 1)


def test_without_a_previous_champion_there_is_no_rollback(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    with pytest.raises(InputError, match="mer-pnao has no previous champion to go back to"):
        roll_back(shop)
    t.stand(shop, champion=2, previous=1)
    t.client_of(shop).delete_model_version(NAME, "1")
    with pytest.raises(InputError, match="mer-pnao has no previous champion to go back to"):
        roll_back(shop)
    assert t.aliases_of(shop) == {"champion": 2}


def test_after_the_champion_was_deleted_the_previous_one_can_come_back(
    shop: Path, registry_tools: SimpleNamespace
) -> None:
    t = registry_tools
    t.stand(shop, champion=2, previous=1)
    t.client_of(shop).delete_model_version(NAME, "2")
    result = roll_back(shop)
    assert (result.champion, result.previous, t.aliases_of(shop)) == (1, None, {"champion": 1})


def test_after_the_champion_was_deleted_another_one_leaves_previous_alone(
    shop: Path, registry_tools: SimpleNamespace
) -> None:
    t = registry_tools
    t.stand(shop, champion=2, previous=1)
    t.client_of(shop).delete_model_version(NAME, "2")
    assert promote(shop, 3, reload=t.in_process(shop)).champion is None
    assert t.aliases_of(shop) == {"champion": 3, "previous": 1}


def start(root: Path, code: str) -> "subprocess.Popen[str]":
    """A process that has imported everything and waits for a line before it runs the code."""
    program = """
        import sys, time
        from pathlib import Path
        from mer_pnao.tracking.promotion import promote as promotion
        from mer_pnao.tracking.promotion.gates import Unknown
        from mer_pnao.tracking.promotion.reload import Reloads

        root = Path(sys.argv[1])

        def reload(candidate, champion, features):
            # Another process that measures at the same time, if that were possible, gets time to come here, too.
            (root / f"measuring-{candidate}").touch()
            deadline = time.monotonic() + 2
            while time.monotonic() < deadline and len(list(root.glob("measuring-*"))) < 2:
                time.sleep(0.01)
            (root / f"measuring-{candidate}").unlink()
            return Reloads(Unknown("not measured here"), None)

        print("ready", flush=True)
        sys.stdin.readline()
    """
    return subprocess.Popen(
        [sys.executable, "-W", "ignore", "-c", textwrap.dedent(program) + textwrap.dedent(code), str(root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        encoding="utf-8",
    )


def go(*processes: "subprocess.Popen[str]") -> list[str]:
    """Let them all run at once; what each of them printed."""
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    return [process.communicate(timeout=120)[0] for process in processes]


@pytest.mark.slow
def test_two_promotions_at_once_follow_one_another(shop: Path, registry_tools: SimpleNamespace) -> None:
    t = registry_tools
    t.stand(shop, champion=1)
    code = """
        result = promotion.promote(root, {}, "together", reload)
        print(result.promoted, result.champion)
    """
    answers = go(*(start(shop, code.format(number)) for number in (2, 3)))
    # Whoever came first met the champion 1, the other one met the first.
    first, last = (2, 3) if answers[0] == "True 1\n" else (3, 2)
    assert answers[first - 2] == "True 1\n"
    assert answers[last - 2] == f"True {first}\n"
    assert t.aliases_of(shop) == {"champion": last, "previous": first}
    assert intent_of(t, shop) is None


@pytest.mark.slow
def test_a_killed_process_leaves_no_lock_and_its_change_is_finished(
    shop: Path, registry_tools: SimpleNamespace
) -> None:
    t = registry_tools
    t.stand(shop, champion=1)
    code = """
        import os, signal
        from mlflow import MlflowClient
        MlflowClient.set_registered_model_alias = lambda *_: os.kill(os.getpid(), signal.SIGKILL)
        promotion.promote(root, 2, "it dies", reload)
    """
    process = start(shop, code)
    assert go(process) == [""]
    assert process.returncode == -9
    assert (t.aliases_of(shop), json.loads(intent_of(t, shop) or "{}")["new"]) == ({"champion": 1}, 2)
    result = promote(shop, reload=t.in_process(shop))
    assert (result.version, result.gates, result.repaired is not None) == (2, (), True)
    assert t.aliases_of(shop) == {"champion": 2, "previous": 1}
