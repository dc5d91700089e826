"""Commands about clips, encoders and profiles."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from mer_pnao.foundations.console import BAD_INPUT, ROOT, plain_console, progress
from mer_pnao.foundations.errors import InputError

_ALL = "1-24"  # actors of RAVDESS


def profile(
    name: Annotated[str | None, typer.Option(help="Copy profiles/NAME.yaml over params.yaml.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpus, linked to where the profile reads.")] = None,
    ready: Annotated[bool, typer.Option("--ready", help="Refuse it where its encoders are not there, either.")] = False,
) -> None:
    """Choose the profile that the pipeline runs; without options, check the present one."""
    from mer_pnao.commands.choose_profile import choose_profile

    chosen, kept = choose_profile(ROOT, name, data, ready)
    emotions = len(chosen.corpus.labels) or "the corpus's own"
    plain_console().print(f"profile {chosen.profile}: {emotions} emotions, corpus {chosen.corpus.root}")
    if kept:
        print(f"Your edited params.yaml is kept. To take it back: cp {kept} params.yaml")
    if name not in (None, "demo"):
        print("To go back to the demo: make run PROFILE=demo")


def check(
    figure: Annotated[Path | None, typer.Option(help="Draw the classes and lengths into this PNG file, too.")] = None,
    sample: Annotated[int | None, typer.Option(min=1, help="Open the files of so many clips only, drawn.")] = None,
) -> None:
    """Report on the profile's corpus before anything long runs; exit code 2 when something would stop the run."""
    from mer_pnao.commands.corpus_check import check_corpus
    from mer_pnao.commands.corpus_report import print_report
    from mer_pnao.params.profile import load_params

    params = load_params(ROOT / "params.yaml")
    with progress("reading headers", None) as done:
        report = check_corpus(params, ROOT, done, sample)
    print_report(report, plain_console())
    if figure is not None and len(report.clips):
        from mer_pnao.commands.corpus_figure import draw_report

        draw_report(report, figure)
    if report.faults:
        raise typer.Exit(BAD_INPUT)


def fetch(
    names: Annotated[
        list[str] | None,
        typer.Argument(
            help="ravdess, the speech videos of 24 actors; or checkpoints on the Hugging Face hub, "
            "organisation/name@revision. Default: the encoders of params.yaml."
        ),
    ] = None,
    actors: Annotated[str, typer.Option(help="Of ravdess: these only, such as 1-6 or 1,3,5-7.")] = _ALL,
    to: Annotated[
        Path | None, typer.Option(help="Of ravdess: the folder; default: where the profile ravdess_videos reads.")
    ] = None,
    keep: Annotated[bool, typer.Option("--keep", help="Of ravdess: keep the archives, beside the folder.")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="Of ravdess: agree to its size and licence.")] = False,
) -> None:
    """Download a corpus, or encoders from the Hugging Face hub: the one command that downloads."""
    if "ravdess" in (names or ()):
        _fetch_ravdess(actors, to, keep, yes)
    elif to or keep or yes or actors != _ALL:
        raise InputError("--actors, --to, --keep and --yes are for `mer fetch ravdess`")
    checkpoints = [name for name in names or () if name != "ravdess"]
    if checkpoints or not names:
        _fetch_checkpoints(checkpoints)


def _fetch_checkpoints(names: list[str]) -> None:
    from mer_pnao.encoders.hub import fetch
    from mer_pnao.encoders.hub_name import hub_name
    from mer_pnao.params.profile import load_params

    if not names:
        encoders = load_params(ROOT / "params.yaml").encoders
        names = [encoder.checkpoint for encoder in encoders.values() if hub_name(encoder.checkpoint)]
    for name in dict.fromkeys(names):
        plain_console().print(f"{name}: {fetch(name, ROOT)}", soft_wrap=True)
    if not names:
        plain_console().print("No encoder of params.yaml has a checkpoint on the hub.")


def _fetch_ravdess(actors: str, to: Path | None, keep: bool, yes: bool) -> None:
    from mer_pnao.commands import ravdess_archives as ravdess

    place = ROOT / (to or ravdess.PLACE)
    chosen = ravdess.parse_actors(actors)
    if missing := ravdess.missing_actors(chosen, place):
        archives = ravdess.find_archives(missing)
        size = ravdess.gigabytes(sum(archive.size for archive in archives.values()))
        print(f"RAVDESS, speech videos: {len(missing)} of {len(chosen)} actors, {size}, into {place}.")
        print(f"Licence: {ravdess.LICENCE}, {ravdess.TERMS}.")
        ravdess.refuse_full_disk([*archives.values()], place, keep)
        if not yes and not sys.stdin.isatty():
            raise InputError("nothing is downloaded without consent to size and licence: give --yes")
        if not yes and not typer.confirm("Download?"):
            raise typer.Exit(BAD_INPUT)
        for actor, archive in archives.items():
            print(f"{archive.name}, {ravdess.gigabytes(archive.size)}")
            ravdess.fetch_archive(actor, archive, place, keep)
    data = "" if to is None else f" DATA={to}"
    print(f"{len(chosen)} actor(s) are there: {place}\nNext: make run PROFILE=ravdess_videos{data}")
