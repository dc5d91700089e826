"""The command that turns clips into features."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from mer_pnao.foundations.console import ROOT, plain_console
from mer_pnao.foundations.errors import InputError

if TYPE_CHECKING:
    from mer_pnao.encoders.config import EncoderConfig
    from mer_pnao.extraction.clip_encoders import ClipEncoder
    from mer_pnao.extraction.engine import Engine
    from mer_pnao.extraction.shards import Clip
    from mer_pnao.params.profile import Params


def extract(
    clips: Annotated[
        list[str] | None,
        typer.Argument(
            help="Folders of clips, clips, or patterns. Without any, the clips of the profile's manifest: what is "
            "extracted then stays in work/, where `dvc repro` finds it.",
            metavar="CLIPS...",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Folder for the features of CLIPS; default: work/extracted.")] = None,
    encoder: Annotated[list[str] | None, typer.Option(help="Only this encoder of params.yaml; repeatable.")] = None,
    max_skipped: Annotated[
        float | None,
        typer.Option(min=0, max=1, help="Share of clips that may be unusable; default: params.yaml's."),
    ] = None,
    shard: Annotated[
        str | None,
        typer.Option(metavar="I/N", help="Only the I-th of N parts, from 1: one for each machine that shares work/."),
    ] = None,
    engine: Annotated[
        Literal["local", "ray"], typer.Option(help="ray: on the cluster of RAY_ADDRESS, or on local workers.")
    ] = "local",
    workers: Annotated[int, typer.Option(min=0, help="Of ray; 0: one a GPU, or one a core.")] = 0,
    transcripts: Annotated[
        Path | None, typer.Option(help="CSV file with what is said in CLIPS, for encoders of text.")
    ] = None,
) -> None:
    """Extract the features of clips with the encoders of params.yaml, as Parquet; a killed run goes on."""
    from mer_pnao.commands.clips import clips_of
    from mer_pnao.extraction.clip_encoders import build_encoder
    from mer_pnao.extraction.extract import refuse_foreign_folder
    from mer_pnao.extraction.run import SKIPPED, Extraction
    from mer_pnao.extraction.shards import Clip, Part, parse_part
    from mer_pnao.extraction.transcripts import read_transcripts
    from mer_pnao.foundations.files import work_folder
    from mer_pnao.params.profile import load_params

    params = load_params(ROOT / "params.yaml")
    names = _encoders(params, encoder)
    part = parse_part(shard) if shard else Part()
    named = clips_of(clips) if clips else {}
    if not clips and (out is not None or transcripts is not None):
        raise InputError("--out and --transcripts are for CLIPS: the profile's own clips are a matter of `dvc repro`")
    text = next((name for name in names if params.encoders[name].kind == "text"), None)
    if clips and text and transcripts is None:
        raise InputError(f"the encoder {text} reads words: give --transcripts, or name the others by --encoder")
    if transcripts is not None and not text:
        raise InputError("--transcripts is for encoders of kind text, and none is asked for")
    out = out or Path("work/extracted")
    if clips:
        for name in names:
            refuse_foreign_folder(out / name)
    console = plain_console()

    def wanted(name: str) -> list[Clip]:
        config = params.encoders[name]
        if not clips:
            return _own_clips(params, config)
        words = read_transcripts(transcripts, named, config.column) if config.kind == "text" and transcripts else {}
        return [Clip(clip, path, text=words.get(clip, "")) for clip, path in named.items()]

    def build(name: str, root: Path = ROOT) -> "ClipEncoder":
        return build_encoder(name, params.encoders[name], root, params.media)

    extraction = Extraction(names, build, wanted, work_folder(ROOT), _engine(engine, workers, build))
    missing: list[Path] = []  # shards that other machines have not finished
    if shard or not clips:
        for name, folders in extraction.parts(part):
            missing += folders
            state = f"this part is done; {len(folders)} shard(s) of other parts are not there yet"
            everything = "all shards are there" + ("" if clips else "; `dvc repro` takes them from work/")
            console.print(f"{name}: {state if folders else everything}")
    # Looked at once every encoder's part is done: of several machines, the last to come here finds all shards.
    if not clips or not all(folder.is_dir() for folder in missing):
        return
    remarked: set[str] = set()
    for report in extraction.features(out, params.corpus.max_skipped if max_skipped is None else max_skipped):
        remarked |= {remark.name for remark in report.remarks}
        sets = ", ".join(f"{feature_set} ({width})" for feature_set, width in report.sets.items())
        used = report.clips - report.skipped
        console.print(f"{report.encoder}: {used} of {report.clips} clips -> {out / report.encoder}: {sets}")
    if remarked:
        console.print(f"{len(remarked)} clip(s) with remarks: {out / SKIPPED}")


def _engine(name: str, workers: int, build: "Callable[[str, Path], ClipEncoder]") -> "Callable[[ClipEncoder], Engine]":
    from mer_pnao.extraction.engine import on_this_machine
    from mer_pnao.foundations.parallel import usable_cores

    threads = usable_cores()
    if name == "local":
        return lambda encoder: on_this_machine(encoder, threads)
    from mer_pnao.extraction.ray_engine import on_ray

    return lambda encoder: on_ray(partial(build, encoder.name, ROOT.resolve()), encoder, workers)


def _encoders(params: "Params", asked: list[str] | None) -> list[str]:
    names = asked or list(params.encoders)
    if not names:
        raise InputError("params.yaml has no encoder")
    for name in names:
        if name not in params.encoders:
            raise InputError(f"params.yaml has {', '.join(params.encoders) or 'no encoder'}, not {name!r}")
    return names


def _own_clips(params: "Params", encoder: "EncoderConfig") -> "list[Clip]":
    from mer_pnao.extraction.corpus_clips import clips_of_manifest

    manifest = ROOT / params.data / "manifest.csv"
    if not manifest.is_file():
        raise InputError(f"{manifest} is not there: name folders of clips, or run `dvc repro manifest` first")
    return clips_of_manifest(manifest, ROOT / params.corpus.root, params.corruption, encoder)
