"""Commands about registered versions: which there are, and which one is the champion."""

import json
import sys
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from mer_pnao.foundations.console import REFUSED, ROOT, plain_console, progress
from mer_pnao.foundations.errors import InputError

if TYPE_CHECKING:
    from mer_pnao.tracking.promotion.aliases import Repair
    from mer_pnao.tracking.promotion.gates import Gate
    from mer_pnao.tracking.promotion.listing import Row

_NONE = "\N{EN DASH}"
_LONGEST_REASON = 1000  # characters; a sentence or two, which a tag of MLflow holds


def register(
    directories: Annotated[
        list[Path] | None,
        typer.Argument(help="Rounds, or systems with rounds; default: all below models/.", metavar="[DIRECTORY]..."),
    ] = None,
) -> None:
    """Make a version of each finished round that has none, and set the alias candidate."""
    from mer_pnao.tracking.promotion.register import register as make_versions
    from mer_pnao.tracking.promotion.register import rounds_to_register

    rounds = rounds_to_register(ROOT, directories or [])
    with progress("registering", len(rounds)) as done:
        result = make_versions(ROOT, rounds, done)
    for version, each in result.made:
        record = each.record
        print(f"version {version}: {record.system}, round {record.number}, Com {record.com:.4f} on Train&Val")
    print(f"{len(result.made)} new, {result.known} had a version; the candidate is version {result.candidate}")


def promote(
    version: Annotated[int | None, typer.Argument(help="Default: the candidate.", min=1, max=2**31 - 1)] = None,
    force: Annotated[bool, typer.Option("--force", help="Promote whatever the gates say; needs --reason.")] = False,
    reason: Annotated[str | None, typer.Option(help="Why it is forced; goes on record.")] = None,
) -> None:
    """Make a version the champion if every gate lets it pass; exit code 3 where one refuses."""
    reason = None if reason is None else " ".join(reason.split())
    if force and not reason:
        raise InputError("--force needs --reason TEXT, which goes on record")
    if reason is not None and not force:
        raise InputError("--reason is for --force")
    if reason and len(reason) > _LONGEST_REASON:
        raise InputError(f"--reason must have at most {_LONGEST_REASON} characters, got {len(reason)}")
    from mer_pnao.tracking.promotion.promote import promote as judge_and_promote

    with Console(stderr=True).status("loading in fresh processes, measuring the gates"):
        result = judge_and_promote(ROOT, version, reason)
    _print_repair(result.repaired)
    name = f"version {result.version} ({result.title})"
    if not result.gates:
        print(f"{name} is the champion already")
        return
    _print_gates(result.gates)
    failed = [gate for gate in result.gates if not gate.passed]
    if not result.promoted:
        refused = " and ".join(repr(gate.name) for gate in failed)
        print(f"{name} is not promoted: refused by {refused}", file=sys.stderr)
        raise typer.Exit(REFUSED)
    before = "there was none before" if result.champion is None else f"version {result.champion} is previous"
    forced = f", forced against {len(failed)} of {len(result.gates)} gates" if failed else ""
    print(f"{name} is the champion now{forced}; {before}")


def rollback() -> None:
    """Let champion and previous change places; a second call takes it back, or finishes one that was cut short."""
    from mer_pnao.tracking.promotion.rollback import roll_back

    result = roll_back(ROOT)
    _print_repair(result.repaired)
    before = "" if result.previous is None else f"; version {result.previous}, which was, is previous"
    print(f"version {result.champion} ({result.title}) is the champion again{before}")


def registry(
    version: Annotated[int | None, typer.Argument(help="Print the card of this version.", min=1, max=2**31 - 1)] = None,
    everything: Annotated[bool, typer.Option("--all", help="Also the versions of earlier trainings.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print a list of objects, one a version.")] = False,
) -> None:
    """List the last training's versions and those with an alias, or print the card of one."""
    from mer_pnao.tracking.promotion.listing import list_versions, read_card

    if version is not None:
        if everything or as_json:
            raise InputError("a version's card has neither --all nor --json")
        from rich.markdown import Markdown

        plain_console().print(Markdown(read_card(ROOT, version)))
        return
    found, repaired = list_versions(ROOT)
    _print_repair(repaired)
    rows = [row for row in found if everything or row.last or row.aliases]
    if as_json:
        print(json.dumps([asdict(row) for row in rows], indent=1))
        return
    if not found:
        print("There is no version yet: run `make run`, or `mer register` for the rounds below models/.")
        return
    _print_versions(rows, len(found) - len(rows))


def _print_repair(repaired: "Repair | None") -> None:
    if repaired is not None:
        print(repaired.sentence, file=sys.stderr)


def _print_gates(gates: "tuple[Gate, ...]") -> None:
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 2, 0, 0))
    table.add_column("Gate", no_wrap=True)
    table.add_column("Verdict", no_wrap=True)
    table.add_column("Because", overflow="fold")
    for gate in gates:
        verdict = Text("passed", "green") if gate.passed else Text("refused", "bold red")
        table.add_row(gate.name, verdict, gate.sentence)
    plain_console().print(table, highlight=False)


def _print_versions(rows: "list[Row]", left_out: int) -> None:
    """Narrow enough for a terminal of 80 columns, where rich would leave a column out."""
    table = Table(header_style="bold", box=None, pad_edge=False, padding=(0, 1, 0, 0))
    table.add_column("V", justify="right", no_wrap=True)
    table.add_column("System", no_wrap=True)
    headings = ("Round", "NAOR", "\N{GREEK SMALL LETTER ALPHA}", "Tr&Val", "Test", "95 %", "Parameters", "Registered")
    for heading in headings:
        table.add_column(heading, justify="right", no_wrap=True)
    for row in rows:
        low, high = row.com_low, row.com_high
        cells = [
            str(row.version),
            row.system or _NONE,
            _NONE if row.round is None else str(row.round),
            _NONE if row.naor is None else f"{row.naor:g}",
            _NONE if row.alpha is None else f"{row.alpha:g}",
            _number(row.trainval_com, 3),
            _number(row.test_com, 3),
            _NONE if low is None or high is None else f"{low:.2f}\N{HORIZONTAL ELLIPSIS}{high:.2f}",
            _NONE if row.parameters is None else f"{row.parameters:,}",
            _moment(row.registered),
        ]
        table.add_row(*cells, style="bold" if "champion" in row.aliases else None)
    console = plain_console()
    console.print(table, highlight=False)
    for row in rows:
        if said := ", ".join(_standing(row)):
            console.print(f"version {row.version}: {said}", highlight=False, soft_wrap=True)
    if drawn := [str(row.version) for row in rows if row.drawn]:
        from mer_pnao.outs.trained_on import DRAWN

        which = "Every version here" if len(drawn) == len(rows) else f"Each of the versions {', '.join(drawn)}"
        console.print(f"\n{which} {DRAWN}.", highlight=False)
    text = "\nTr&Val: Com out of fold. Test: Com with its interval. Registered: UTC."
    if left_out:
        text += f" {left_out} of earlier trainings: --all."
    console.print(text, style="dim", highlight=False)


def _standing(row: "Row") -> Iterator[str]:
    yield from row.aliases
    if row.forced:
        yield f"forced ({row.forced})"
    if row.rolled_back:
        yield f"rolled back {_moment(row.rolled_back)}"


def _moment(stated: str) -> str:
    """Of ISO 8601, what tells versions apart: month, day, hour and minute."""
    return stated[5:16].replace("T", " ")


def _number(value: float | None, digits: int) -> str:
    return _NONE if value is None else f"{value:.{digits}f}"
