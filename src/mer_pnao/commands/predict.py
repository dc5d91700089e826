"""Commands that take clips to an answer."""

import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import ExitStack
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mer_pnao.foundations.checks import between
from mer_pnao.foundations.console import BAD_INPUT, ROOT
from mer_pnao.foundations.errors import InputError

if TYPE_CHECKING:
    from mer_pnao.outs.networks import RoundModel
    from mer_pnao.predict import Prediction, Refusal

Model = Annotated[
    str, typer.Option(help="champion, candidate, a version's number, models:/… or a folder models/<system>/round-NN.")
]


def predict(
    clips: Annotated[
        list[str] | None,
        typer.Argument(help="Clips, folders of clips, patterns; with --features names of clips.", metavar="CLIPS..."),
    ] = None,
    model: Model = "champion",
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object a clip.")] = False,
    wide: Annotated[bool, typer.Option("--wide", help="Print all posteriors and weights.")] = False,
    as_csv: Annotated[Path | None, typer.Option("--csv", help="Write all answers to this file.")] = None,
    features: Annotated[
        Path | None,
        typer.Option(help="Folder of ready features, as `mer extract` or MERTools leave them; no clip is decoded."),
    ] = None,
    text: Annotated[
        str | None, typer.Option(help="What is said in the one clip, for a model that reads words.")
    ] = None,
    transcripts: Annotated[
        Path | None, typer.Option(help="CSV file with what is said in each clip: name, text (or --column).")
    ] = None,
    column: Annotated[str, typer.Option(help="Column of --transcripts, such as that of a language.")] = "text",
    window: Annotated[
        float | None, typer.Option(help="Answer recordings of any length in windows of so many seconds, such as 4.")
    ] = None,
    hop: Annotated[
        float | None,
        typer.Option(help="From one window to the next, in seconds: half a window, or from a fortieth of it up."),
    ] = None,
    speech_only: Annotated[bool, typer.Option("--speech-only", help="Leave out windows without a voice.")] = False,
    speech_level: Annotated[
        float | None, typer.Option(help="dBFS above which the loudest tenth of a second is a voice; -50 when left out.")
    ] = None,
    plot: Annotated[Path | None, typer.Option(help="Draw a recording's windows to this PNG.")] = None,
) -> None:
    """Say which emotion a clip, or a recording's windows show, and how sure that is.

    Exit code 2 when a clip or a part of a recording could not be used.
    """
    from mer_pnao.commands.answers import Taker, Warned, csv_writer, print_json, print_table, take_answers
    from mer_pnao.commands.clips import clip_name, clips_of
    from mer_pnao.predict import Predictor, caveats_of, read_model

    if as_json + wide + (as_csv is not None) > 1:
        raise InputError("only one of --json, --wide and --csv can be asked for")
    if not clips and features is None:
        raise InputError("no clips are named: give clips, folders of clips or patterns")
    if features is not None and (text is not None or transcripts is not None):
        raise InputError("with --features no clip is encoded: words go into its feature sets, not into this command")
    of_windows = {"--hop": hop, "--speech-only": speech_only or None, "--speech-level": speech_level, "--plot": plot}
    of_clips = {"--wide": wide or None, "--features": features, "--text and --transcripts": text or transcripts}
    for option, given in (of_windows if window is None else of_clips).items():
        if given is not None:
            only = "is for recordings: give --window, the seconds of a window, too"
            raise InputError(f"{option} {only if window is None else 'cannot be given with --window'}")
    paths = clips_of(clips or []) if features is None else {}
    words = _words(paths, text, transcripts, column)
    directory, version = find_model(model)
    if features is None:
        predictor = Predictor.load(directory, version, ROOT)
        if window is not None:
            from mer_pnao.commands.timelines import answer_recordings
            from mer_pnao.recordings.timeline import timeline
            from mer_pnao.recordings.windows import SPEECH_LEVEL

            level = SPEECH_LEVEL if speech_level is None else speech_level
            ask = partial(timeline, predictor, window=window, hop=hop, speech_only=speech_only, speech_level=level)
            if not answer_recordings(predictor, paths, ask, plot, as_json, as_csv):
                raise typer.Exit(BAD_INPUT)
            return
        loaded, total = predictor.model, len(paths)
        if words and not predictor.reads_words:
            raise InputError(f"model {predictor.version} reads no words: leave --text and --transcripts out")
        answers: Iterable[Prediction | Refusal] = predictor.predict(paths.values(), words)
    else:
        loaded = read_model(directory)
        answers = ready = _of_features(loaded, version, features, list(map(clip_name, clips)) if clips else None)
        total = len(ready)
    shown: list[Prediction] = []
    warned = Warned()
    with ExitStack() as opened:
        takers: list[Taker] = [print_json] if as_json else [warned]
        if as_csv is not None:
            takers.append(opened.enter_context(csv_writer(as_csv, loaded.labels, loaded.blueprint.branches())))
        elif not as_json:
            takers.append(shown.append)
        refused = take_answers(answers, total, paths, takers)
    if not as_json and refused < total:
        warned.print(caveats_of(loaded), total)
    if as_csv is not None:
        print(f"{total - refused} of {total} clips answered: {as_csv}")
    if shown:
        print_table(shown, wide)
    if refused:
        raise typer.Exit(BAD_INPUT)


def _words(clips: Mapping[str, Path], text: str | None, transcripts: Path | None, column: str) -> Mapping[str, str]:
    """Clip -> what is said in it, as the options say. Raises InputError for words that no clip can be given."""
    if text is not None and transcripts is not None:
        raise InputError("only one of --text and --transcripts can be given")
    if text is not None:
        if len(clips) != 1:
            raise InputError(f"--text is for one clip, and {len(clips)} are named: give --transcripts, a CSV file")
        return dict.fromkeys(clips, text.strip())
    if transcripts is None:
        return {}
    from mer_pnao.extraction.transcripts import read_transcripts

    return read_transcripts(transcripts, clips, column)


def export(
    onnx: Annotated[Path, typer.Option(help="Folder for network.onnx and a README that runs it.")],
    model: Annotated[str, typer.Argument(help="As --model of `mer predict`.")] = "champion",
) -> None:
    """Write a model's networks as one ONNX file, for programs without torch; of a version it goes on record."""
    from mer_pnao.commands.onnx_export import NETWORK, README, export_onnx
    from mer_pnao.predict import read_model, version_of

    directory, version = find_model(model)
    networks = read_model(directory)
    export_onnx(networks, f"version {version}" if version else version_of(networks), onnx)
    if version:
        from mer_pnao.tracking.exports import attach

        attach(ROOT, int(version), [onnx / NETWORK, onnx / README])
    print(f"{onnx / NETWORK}: {(onnx / NETWORK).stat().st_size / 1e6:.1f} MB; {onnx / README} says how to run it")


def find_model(reference: str) -> tuple[Path, str]:
    """Folder and version, "" for a folder, of an alias, a version, a URI or a folder.

    Raises InputError when nothing of that name is registered.
    """
    if _is_folder(reference):
        return Path(reference), ""
    from mer_pnao.tracking.lookup import find_registered  # MLflow takes seconds to import

    return find_registered(ROOT, reference)


def _is_folder(reference: str) -> bool:
    # Not Path.is_dir, which raises for a name that is too long and in a folder that is closed to this user.
    return os.path.isdir(reference) or ("/" in reference and not reference.startswith("models:"))  # noqa: PTH112


def _of_features(
    model: "RoundModel", version: str, folder: Path, names: list[str] | None
) -> "list[Prediction | Refusal]":
    from mer_pnao.features.ready import read_ready
    from mer_pnao.predict import Refusal, decide, version_of

    ready = read_ready(folder, model.blueprint.widths, names)
    made = decide(model, version or version_of(model), ready.names, ready.vectors)
    return [*made, *(Refusal(name, f"is not in the feature set {lacking}") for name, lacking in ready.lacking.items())]


def serve(
    model: Model = "champion",
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 takes any free port.")] = 8000,
    host: Annotated[str, typer.Option(help="Address to listen on; the service has no log-in.")] = "127.0.0.1",
    allow_host: Annotated[
        list[str] | None, typer.Option(help="Name that requests may call the service by; repeatable.")
    ] = None,
    root_path: Annotated[str, typer.Option(help="Path that a proxy serves it under, such as /mer.")] = "",
    max_megabytes: Annotated[float, typer.Option(help="Size of a clip at most.")] = 64.0,
    max_seconds: Annotated[float, typer.Option(help="Length of a clip at most.")] = 60.0,
    max_pixels: Annotated[int, typer.Option(help="Pixels of a frame at most.")] = 3840 * 2160,
    max_minutes: Annotated[float, typer.Option(help="Length of a recording at most.")] = 60.0,
    max_recording_megabytes: Annotated[float, typer.Option(help="Size of a recording at most.")] = 1024.0,
    decode_seconds: Annotated[
        float, typer.Option(help="Time to decode a clip, or a window's length of a recording, at most.")
    ] = 20.0,
    upload_seconds: Annotated[float, typer.Option(help="Time for a clip to arrive at most.")] = 60.0,
    at_once: Annotated[int, typer.Option(help="Clips worked on at a time; further ones get 429.")] = 4,
    look_every: Annotated[float, typer.Option(help="Seconds between two looks for another champion.")] = 5.0,
) -> None:
    """Serve a page and an HTTP interface that take clips and recordings, until Ctrl-C.

    A newly promoted model takes over by itself.
    """
    from mer_pnao.foundations.ports import listen
    from mer_pnao.serving import server
    from mer_pnao.serving.limits import MIB, ServiceLimits

    # What a person may have mistyped comes before what takes seconds.
    below = server.root_path(root_path)
    # The address itself is nobody else's to point elsewhere.
    hosts = [server.in_url(host), *map(server.host_name, allow_host or ())]
    try:
        between("max_megabytes", max_megabytes, 0.01, 1e6)
        between("look_every", look_every, 0.1, 3600)
        between("max_recording_megabytes", max_recording_megabytes, 0.01, 1e6)
        limits = ServiceLimits(
            max_bytes=round(max_megabytes * MIB),
            max_seconds=max_seconds,
            max_pixels=max_pixels,
            max_recording_bytes=round(max_recording_megabytes * MIB),
            max_minutes=max_minutes,
            decode_seconds=decode_seconds,
            upload_seconds=upload_seconds,
            at_once=at_once,
        )
    except ValueError as error:
        raise InputError(str(error)) from error
    with listen(host, port) as listening:
        import torch

        from mer_pnao.foundations.parallel import usable_cores
        from mer_pnao.predict import Predictor
        from mer_pnao.serving.app import make_app
        from mer_pnao.serving.current_model import CurrentModel

        torch.set_num_threads(max(1, usable_cores() - 1))  # one core decodes

        def load(before: Predictor | None) -> Predictor:
            return Predictor.load(*find_model(model), ROOT, before)

        app = make_app(CurrentModel(load, _follow(model), look_every), ROOT, limits, hosts)
        server.run(server.under(app, below), listening)


def _follow(reference: str) -> Callable[[], str] | None:
    """What tells the version that an alias means now; None for a folder and for a version, which stay what they are."""
    if _is_folder(reference):
        return None
    from mer_pnao.tracking.lookup import is_version, registered_version

    return None if is_version(reference) else lambda: registered_version(ROOT, reference)
