"""The HTTP service: a clip in, its emotion out, or a recording in, its emotions over time.

It has no log-in and belongs behind 127.0.0.1 or a proxy.
"""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path
from typing import Annotated, Any

import numpy as np
from fastapi import Depends, FastAPI, File, Form, Request, UploadFile
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.foundations.errors import InputError
from mer_pnao.foundations.files import composed
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.foundations.ports import OWN_HOSTS
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.predict import Prediction, Predictor, Refusal, caveats_of
from mer_pnao.recordings.timeline import DecodedTimeline
from mer_pnao.recordings.windows import Windows
from mer_pnao.serving.admission import AGAIN, RECORD, RECORDING_BUSY, Admission
from mer_pnao.serving.current_model import CurrentModel
from mer_pnao.serving.decoder_pool import DecoderPool
from mer_pnao.serving.limits import MIB, MOST_TEXT, ServiceLimits
from mer_pnao.serving.page import the_page
from mer_pnao.serving.recording_decoder import RecordingDecoder
from mer_pnao.serving.timeline_lines import Lines, begun, lines


class Problem(BaseModel):
    """Why there is no prediction."""

    detail: str


class Health(BaseModel):
    """That the service answers."""

    status: str  # ok, or stale: another version was promoted and cannot be loaded, see the log
    model_version: str


class EncoderSummary(BaseModel):
    """An encoder of the model."""

    kind: str
    checkpoint_sha256: str
    sets: list[str]


class ModelSummary(BaseModel):
    """The model that answers, and what it takes."""

    version: str
    system: str
    round: int
    labels: list[str]
    branches: list[str]
    encoders: dict[str, EncoderSummary]
    reads_words: bool  # whether the field `text` is read
    warnings: list[str]  # that every answer bears
    max_bytes: int
    max_seconds: float
    max_pixels: int
    max_recording_bytes: int
    max_minutes: float  # of a recording


_PROBLEMS = {
    400: "no whole form, or sent to a name that is not allowed",
    403: "sent by a page of another origin",
    408: "arrived too slowly",
    413: "too large",
    422: "no file, or one that cannot be used; the reason is in `detail`",
    429: "enough is being worked on; `Retry-After` says when to try again",
    507: "there is no room to hold the file",
}
_REFUSALS: dict[int | str, dict[str, Any]] = {
    code: {"model": Problem, "description": why} for code, why in _PROBLEMS.items()
}
_LINES = (
    "Lines of JSON, one a window as soon as it is found: `name`, `start`, `end`, `face`, `voice`, `level`, and what "
    "`/predict` answers or, for a window that cannot be used, `reason`. Then one with `whole`, `windows`, `seconds`: "
    "`whole` is true at the recording's end; where it is false, `detail` says why the rest is lacking."
)


def make_app(current: CurrentModel, root: Path, limits: ServiceLimits, hosts: Sequence[str] = ()) -> FastAPI:
    """The service over a model.

    Args:
        current: the model that answers.
        root: what the path of a face detector is relative to.
        limits: what is taken.
        hosts: names beside those of this machine that a request may call the service by.
    """
    decoders = DecoderPool(min(limits.at_once, usable_cores()), limits.decode_seconds, root)
    networks = ThreadPoolExecutor(1)  # which use every core themselves
    recording = asyncio.Lock()  # while one is worked on; nobody waits for it

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        await decoders.warm_up()
        await asyncio.get_running_loop().run_in_executor(networks, _warm_up, current.predictor)
        watching = asyncio.create_task(current.watch())
        try:
            yield
        finally:
            watching.cancel()
            await decoders.close()
            networks.shutdown()

    async def decoded(request: Request, clip: UploadFile, predictor: Predictor) -> dict[str, DecodedClip]:
        suffix = Path(clip.filename or "").suffix.lower()
        # A folder a clip: one for the service would be gone once a cleaner of old files had found it.
        with tempfile.TemporaryDirectory(prefix="mer-serve-") as folder:
            path = Path(folder) / f"clip{suffix if suffix in EXTENSIONS else ''}"
            await asyncio.to_thread(_store, clip, path)
            await request.close()  # what the form held: the clip a second time, and whatever else was sent
            plans = {name: limits.tighten(plan) for name, plan in predictor.plans().items()}
            return await decoders.decode(path, plans)

    async def at_work() -> AsyncIterator[AsyncExitStack]:
        if recording.locked():  # since this one began to arrive
            raise HTTPException(429, RECORDING_BUSY, {"Retry-After": str(AGAIN)})
        async with AsyncExitStack() as place:  # left also when the caller has gone
            await place.enter_async_context(recording)
            yield place

    app = FastAPI(title="mer-pnao", lifespan=lifespan, docs_url=None, redoc_url=None)  # those pages load from a CDN
    app.add_middleware(Admission, limits=limits, recording=recording)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[*OWN_HOSTS, *hosts], www_redirect=False)
    app.add_exception_handler(RequestValidationError, _no_clip)
    app.add_exception_handler(400, _bad_form)
    page = the_page()

    @app.get("/", response_class=HTMLResponse, include_in_schema=False)
    async def index() -> HTMLResponse:
        return page

    @app.get("/health")
    async def health() -> Health:
        return Health(status="stale" if current.stale else "ok", model_version=current.predictor.version)

    @app.get("/model")
    async def model() -> ModelSummary:
        return _summary(current.predictor, limits)

    @app.post("/predict", responses=_REFUSALS)
    async def predict(
        request: Request, clip: Annotated[UploadFile, File()], text: Annotated[str, Form()] = ""
    ) -> Prediction:
        """The emotion of a clip, sent as the multipart field `clip`; `text` is what is said in it, where known."""
        predictor = current.predictor
        record = request.scope.setdefault(RECORD, {})
        record["model_version"] = predictor.version
        if (clip.size or 0) > limits.max_bytes:
            raise HTTPException(413, f"the clip is larger than {limits.max_bytes / MIB:g} MiB")
        if len(text) > MOST_TEXT:
            raise HTTPException(422, f"the field 'text' holds more than {MOST_TEXT:,} characters")
        if text.strip() and not predictor.reads_words:
            raise HTTPException(422, "the model reads no words: leave the field 'text' out")
        try:
            contents = await decoded(request, clip, predictor)
        except ClipError as reason:
            raise HTTPException(422, f"the clip {reason}") from reason
        except OSError as error:
            raise _no_room(request, error) from error
        record["seconds"] = _seconds(contents, predictor)
        name = Path(clip.filename or "").stem
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(networks, predictor.predict_decoded, name, contents, text.strip())
        if isinstance(answer, Refusal):
            raise HTTPException(422, f"the clip {answer.reason}")
        return answer

    @app.post("/timeline", response_class=Lines, responses={200: {"description": _LINES}, **_REFUSALS})
    async def timeline(
        request: Request,
        clip: Annotated[UploadFile, File()],
        place: Annotated[AsyncExitStack, Depends(at_work)],
        window: Annotated[float, Form()] = 4.0,
        hop: Annotated[float | None, Form()] = None,
        speech_only: Annotated[bool, Form()] = False,
    ) -> Lines:
        """The emotions of a recording over time, sent as the multipart field `clip`.

        Windows last `window` seconds, and begin `hop` seconds apart, half a window where it is left out; `speech_only`
        leaves out those without a voice. Whoever goes away ends it.
        """
        predictor = current.predictor
        record = request.scope.setdefault(RECORD, {})
        record["model_version"] = predictor.version
        plans = {name: limits.tighten(plan) for name, plan in predictor.plans().items()}
        if (clip.size or 0) > limits.max_recording_bytes:
            raise HTTPException(413, f"the recording is larger than {limits.max_recording_bytes / MIB:g} MiB")
        if window > (most := min(plan.limits.max_seconds for plan in plans.values())):
            raise HTTPException(422, f"a window is a clip, of {most:g} s at most, and {window:g} s were asked for")
        try:
            asked = Windows(window, hop, speech_only)
            answers = DecodedTimeline(predictor, composed(Path(clip.filename or "").stem), asked)
            file = await asyncio.to_thread(_on_disk, clip)
            decoder = RecordingDecoder(limits.decode_seconds, root)
            place.push_async_callback(decoder.close)
            coming = decoder.stretches(file, plans, answers.length, 60 * limits.max_minutes)
            stretches = await begun(coming)
        except InputError as error:
            raise HTTPException(422, str(error)) from error
        except ClipError as reason:
            raise HTTPException(422, f"the recording {reason}") from reason
        except OSError as error:
            raise _no_room(request, error) from error
        # Or nginx would gather lines before it hands them on.
        written = lines(answers, stretches, networks, record, limits.answer_seconds, place.aclose)
        return Lines(written, headers={"X-Accel-Buffering": "no"})

    return app


def _store(clip: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(clip.file, file)


def _on_disk(clip: UploadFile) -> int:
    """The number of the open file without a name that holds an upload."""
    number = clip.file.fileno()
    clip.file.flush()
    return number


def _seconds(contents: dict[str, DecodedClip], predictor: Predictor) -> float | None:
    """How long a clip's sound is."""
    heard = [contents[name].content for name, plan in predictor.plans().items() if plan.kind == "sound"]
    return round(len(heard[0]) / SAMPLE_RATE, 2) if heard else None


def _warm_up(predictor: Predictor) -> None:
    """The first pass through a network costs more than the following ones."""
    contents = {
        name: DecodedClip(np.sin(np.arange(SAMPLE_RATE, dtype=np.float32)))
        if plan.kind == "sound"
        else DecodedClip(np.zeros((min(plan.frames, 8), plan.crop_side, plan.crop_side, 3), np.uint8))
        for name, plan in predictor.plans().items()
    }
    predictor.predict_decoded("warm-up", contents, "a" if predictor.reads_words else "")


def _summary(predictor: Predictor, limits: ServiceLimits) -> ModelSummary:
    plans = [limits.tighten(plan).limits for plan in predictor.plans().values()]
    encoders = {
        name: EncoderSummary.model_validate({**encoder.identity, "sets": list(encoder.sets)})
        for name, encoder in predictor.encoders.items()
    }
    return ModelSummary(
        version=predictor.version,
        system=predictor.model.system,
        round=predictor.model.number,
        labels=list(predictor.model.labels),
        branches=list(predictor.model.blueprint.branches()),
        encoders=encoders,
        reads_words=predictor.reads_words,
        warnings=list(caveats_of(predictor.model)),
        max_bytes=limits.max_bytes,
        max_seconds=min(plan.max_seconds for plan in plans),
        max_pixels=min(plan.max_pixels for plan in plans),
        max_recording_bytes=limits.max_recording_bytes,
        max_minutes=limits.max_minutes,
    )


_FIELDS = {
    "clip": "no clip was sent: it goes into the multipart field 'clip', as a file",
    "text": "the field 'text' takes words, and no file",
    "window": "the field 'window' takes a number of seconds",
    "hop": "the field 'hop' takes a number of seconds",
    "speech_only": "the field 'speech_only' takes true or false",
}


async def _no_clip(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = {problem["loc"][-1] for problem in error.errors()}
    return JSONResponse({"detail": next(detail for field, detail in _FIELDS.items() if field in wrong)}, 422)


async def _bad_form(request: Request, error: Exception) -> Response:
    """FastAPI takes what fails while a form arrives for a mistake of who sent it, and a full disk is none."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):
        error = _no_room(request, error.__cause__)
    return await http_exception_handler(request, error)


def _no_room(request: Request, error: OSError) -> HTTPException:
    what = "recording" if request.scope["path"].endswith("/timeline") else "clip"
    return HTTPException(507, f"the {what} cannot be held here: {error.strerror}")
