"""The HTTP service: a clip in, its emotion out. It has no log-in and belongs behind 127.0.0.1 or a proxy."""

import asyncio
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated

import numpy as np
from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.exception_handlers import http_exception_handler
from fastapi.exceptions import RequestValidationError
from fastapi.responses import HTMLResponse, JSONResponse, Response
from pydantic import BaseModel
from starlette.exceptions import HTTPException
from starlette.middleware.trustedhost import TrustedHostMiddleware

from mer_pnao.corpus.readers.labelled_folder import EXTENSIONS
from mer_pnao.extraction.clip_reader import DecodedClip
from mer_pnao.foundations.parallel import usable_cores
from mer_pnao.foundations.ports import OWN_HOSTS
from mer_pnao.media.container import ClipError
from mer_pnao.media.decode import SAMPLE_RATE
from mer_pnao.predict import Prediction, Predictor, Refusal, caveats_of
from mer_pnao.serving.admission import RECORD, Admission, too_large
from mer_pnao.serving.current_model import CurrentModel
from mer_pnao.serving.decoder_pool import DecoderPool
from mer_pnao.serving.limits import MOST_TEXT, ServiceLimits
from mer_pnao.serving.page import the_page


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


_PROBLEMS = {
    400: "no whole form, or sent to a name that is not allowed",
    403: "sent by a page of another origin",
    408: "arrived too slowly",
    413: "too large",
    422: "no clip, or one that cannot be used; the reason is in `detail`",
    429: "enough clips are being worked on; `Retry-After` says when to try again",
    507: "there is no room to hold the clip",
}


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

    app = FastAPI(title="mer-pnao", lifespan=lifespan, docs_url=None, redoc_url=None)  # those pages load from a CDN
    app.add_middleware(Admission, limits=limits)
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

    @app.post("/predict", responses={code: {"model": Problem, "description": why} for code, why in _PROBLEMS.items()})
    async def predict(
        request: Request, clip: Annotated[UploadFile, File()], text: Annotated[str, Form()] = ""
    ) -> Prediction:
        """The emotion of a clip, sent as the multipart field `clip`; `text` is what is said in it, where known."""
        predictor = current.predictor
        record = request.scope.setdefault(RECORD, {})
        record["model_version"] = predictor.version
        if (clip.size or 0) > limits.max_bytes:
            raise HTTPException(413, too_large(limits))
        if len(text) > MOST_TEXT:
            raise HTTPException(422, f"the field 'text' holds more than {MOST_TEXT:,} characters")
        if text.strip() and not predictor.reads_words:
            raise HTTPException(422, "the model reads no words: leave the field 'text' out")
        try:
            contents = await decoded(request, clip, predictor)
        except ClipError as reason:
            raise HTTPException(422, f"the clip {reason}") from reason
        except OSError as error:
            raise _no_room(error) from error
        record["seconds"] = _seconds(contents, predictor)
        name = Path(clip.filename or "").stem
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(networks, predictor.predict_decoded, name, contents, text.strip())
        if isinstance(answer, Refusal):
            raise HTTPException(422, f"the clip {answer.reason}")
        return answer

    return app


def _store(clip: UploadFile, path: Path) -> None:
    with path.open("xb") as file:
        shutil.copyfileobj(clip.file, file)


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
    )


async def _no_clip(request: Request, error: Exception) -> JSONResponse:
    assert isinstance(error, RequestValidationError)
    wrong = {problem["loc"][-1] for problem in error.errors()}
    detail = "no clip was sent: it goes into the multipart field 'clip', as a file"
    return JSONResponse({"detail": detail if "clip" in wrong else "the field 'text' takes words, and no file"}, 422)


async def _bad_form(request: Request, error: Exception) -> Response:
    """FastAPI takes what fails while a form arrives for a mistake of who sent it, and a full disk is none."""
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, OSError):
        error = _no_room(error.__cause__)
    return await http_exception_handler(request, error)


def _no_room(error: OSError) -> HTTPException:
    return HTTPException(507, f"the clip cannot be held here: {error.strerror}")
