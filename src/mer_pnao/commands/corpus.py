"""Commands about clips, encoders and profiles."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from mer_pnao.commands.project import ROOT
from mer_pnao.console import BAD_INPUT, progress
from mer_pnao.errors import InputError


def profile(
    name: Annotated[str | None, typer.Option(help="Copy profiles/NAME.yaml over params.yaml.")] = None,
    data: Annotated[Path | None, typer.Option(help="Folder of the corpus, linked to where the profile reads.")] = None,
) -> None:
    """Choose the profile that the pipeline runs; without options, check the present one."""
    from mer_pnao.profiles import choose_profile

    chosen = choose_profile(ROOT, name, data)
    emotions = len(chosen.corpus.labels) or "the corpus's own"
    Console().print(f"profile {chosen.profile}: {emotions} emotions, corpus {chosen.corpus.root}")


def check(
    figure: Annotated[Path | None, typer.Option(help="Draw the classes and lengths into this PNG file, too.")] = None,
) -> None:
    """Report on the profile's corpus before anything long runs; exit code 2 when something would stop the run."""
    from mer_pnao.corpus_check import check_corpus, draw_report, print_report
    from mer_pnao.params import load_params

    params = load_params(ROOT / "params.yaml")
    with progress("reading headers", None) as done:
        report = check_corpus(params, ROOT, done)
    print_report(report, Console())
    if figure is not None and len(report.clips):
        draw_report(report, figure)
    if report.faults:
        raise typer.Exit(BAD_INPUT)


def extract(
    clips: Annotated[list[Path], typer.Argument(help="Folders of clips, or clips.", metavar="CLIPS...")],
    out: Annotated[Path, typer.Option(help="Folder for the features.")] = Path("work/extracted"),
    encoder: Annotated[list[str] | None, typer.Option(help="Only this encoder of params.yaml; repeatable.")] = None,
    max_skipped: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of clips that may be unusable; default: params.yaml's."),
    ] = None,
) -> None:
    """Extract the features of clips with the encoders of params.yaml, as Parquet."""
    import torch

    from mer_pnao.features.clip_encoders import build_encoder
    from mer_pnao.features.extract import Clip, extract
    from mer_pnao.features.store import Listed, write_listed
    from mer_pnao.parallel import usable_cores
    from mer_pnao.params import load_params
    from mer_pnao.workspace import work_folder

    params = load_params(ROOT / "params.yaml")
    names = encoder or list(params.encoders)
    unknown = [name for name in names if name not in params.encoders]
    if unknown or not names:
        known = ", ".join(params.encoders) or "no encoder"
        raise InputError(f"params.yaml has {known}, not {unknown[0]!r}" if unknown else "params.yaml has no encoder")
    wanted = [Clip(name, path) for name, path in _clips(clips).items()]
    share = params.corpus.max_skipped if max_skipped is None else max_skipped
    torch.set_num_threads(max(1, usable_cores() - 1))  # one core decodes
    listed: list[Listed] = []
    for name in names:
        built = build_encoder(name, params.encoders[name], ROOT, params.media)
        with progress(f"extracting {name}", len(wanted)) as done:
            report = extract(wanted, built, out / name, work_folder(ROOT), max_skipped=share, progress=done)
        listed += report.listed
        sets = ", ".join(f"{feature_set} ({width})" for feature_set, width in report.sets.items())
        Console().print(f"{name}: {len(wanted) - report.skipped} of {len(wanted)} clips -> {out / name}: {sets}")
    write_listed(out / "skipped_clips.csv", listed)
    if listed:
        Console().print(f"{len({entry.name for entry in listed})} clip(s) with remarks: {out / 'skipped_clips.csv'}")


def _clips(paths: list[Path]) -> dict[str, Path]:
    """The clips named or in the folders named, by name."""
    from mer_pnao.corpus.labelled_folder import clips_in

    found: dict[str, Path] = {}
    for path in paths:
        if not path.exists():
            raise InputError(f"{path} does not exist")
        for name, clip in (clips_in(path) if path.is_dir() else {path.stem: path}).items():
            if name in found:
                raise InputError(f"two clips are called {name!r}: {found[name]} and {clip}")
            found[name] = clip
    return found


def fetch(
    names: Annotated[
        list[str] | None, typer.Argument(help="organisation/name@revision; default: the encoders of params.yaml.")
    ] = None,
) -> None:
    """Download checkpoints from the Hugging Face hub: the one command that does."""
    from mer_pnao.encoders.hub import fetch, hub_name
    from mer_pnao.params import load_params

    if not names:
        encoders = load_params(ROOT / "params.yaml").encoders
        names = [encoder.checkpoint for encoder in encoders.values() if hub_name(encoder.checkpoint)]
    for name in dict.fromkeys(names):
        Console().print(f"{name}: {fetch(name, ROOT)}", markup=False, soft_wrap=True)
    if not names:
        Console().print("No encoder of params.yaml has a checkpoint on the hub.")
