"""The page and the endpoints of `serve`, as a Starlette application.

- `GET /`: the page. It asks this server only; its Content-Security-Policy forbids all else.
- `GET /api/models`: `models`, the names that can be asked, and `max_upload` in bytes.
- `POST /api/predict?model=NAME`, the bytes of an image as body: what `answers.as_record` tells,
  with `model`, and `calibrated`: whether probabilities are at the model's temperatures
  (of the mean with the mirror image, where they were fitted so).
- `POST /api/explain?model=NAME&face=1&task=age`, the same body: a PNG of that face's crop under
  what spoke for the class that was predicted.

Errors are JSON, `{"error": ...}`: 400 wrong words, 404 unknown model, 408 too slow an upload,
413 too large, 422 no image, 503 too busy or too long at work.

An upload is held in memory while it is looked at and is written nowhere; that is why no form
library stands here, which would keep it in a file.
"""

import asyncio
import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image
from starlette.applications import Starlette
from starlette.datastructures import MutableHeaders
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from stages.core.errors import UserError
from stages.dataset.archives import Member
from stages.detection.detector import Detector
from stages.inference.face_extraction import UNREADABLE, ImageFaces, face_extractor
from stages.inference.models import Model, OnnxNetwork, open_detector, open_model
from stages.inference.predictions import ImagePredictions, as_record, outputs_of
from stages.inference.saliency import heat_of, overlay
from stages.networks.prediction import BATCH_SIZE

PAGE = Path(__file__).with_name("page")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Result = TypeVar("Result")


@dataclass(frozen=True)
class Limits:
    """What one request may take.

    Attributes:
        upload: bytes of a body.
        pixels: of its image.
        seconds: for the upload, and again for the work, waiting included.
        waiting: requests at work, waiting for it or sending; more are turned away.
        threads: requests at work.
    """

    upload: int
    pixels: int
    seconds: float
    waiting: int
    threads: int


class PredictionService:
    """The models that can be asked, opened when they are first asked, and the threads that do it.

    Work that has run out of time goes on to its end and keeps its thread, so that there is never
    more at work than there are threads.
    """

    def __init__(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        self.paths = {path.as_posix(): path for path in paths}
        self.device, self.limits = device, limits
        self.pool = ThreadPoolExecutor(limits.threads)
        self.opened: dict[str, tuple[Model, Detector]] = {}
        self.opening = threading.Lock()
        self.asking = threading.Lock()  # Keras does not promise to be called by several threads
        self.busy = 0  # requests at work or waiting for it
        self.receiving = 0  # requests whose bodies come in

    async def do(self, work: Callable[[], Result]) -> Result:
        """Do work on a thread.

        Raises:
            HTTPException: 503, too many wait, or it takes too long.
        """
        self.refuse_when_full()
        self.busy += 1
        loop, future = asyncio.get_running_loop(), self.pool.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(503, f"took more than {self.limits.seconds:g} s") from None

    def refuse_when_full(self) -> None:
        """Before a body is read, too: bodies that wait take memory.

        Raises:
            HTTPException: 503, too many are at work, waiting, or sending.
        """
        if self.busy + self.receiving >= self.limits.waiting:
            raise HTTPException(503, "too many requests at once; try again")

    async def body(self, request: Request) -> bytes:
        """A request's body.

        Raises:
            HTTPException: 503, too many requests at once; 413, 408, 400: see `_body`.
        """
        self.refuse_when_full()
        self.receiving += 1
        try:
            return await _body(request, self.limits)
        finally:
            self.receiving -= 1

    def _done(self) -> None:
        self.busy -= 1

    def open(self, name: str) -> tuple[Model, Detector]:
        """A model and its detector.

        Raises:
            UserError: it cannot be opened.
        """
        if name in self.opened:  # without waiting for another that is being opened
            return self.opened[name]
        with self.opening:
            if name not in self.opened:
                model = open_model(self.paths[name], self.device)
                self.opened[name] = model, open_detector(model, device=self.device)
            return self.opened[name]

    def look(self, name: str, data: bytes) -> tuple[Model, ImagePredictions]:
        """What a model says of the image in a request's body.

        Raises:
            HTTPException: 422, no image.
        """
        model, detector = self.open(name)
        see = face_extractor(model.input_spec, detector, max_pixels=self.limits.pixels)
        look: ImageFaces = see(Member("", "upload", data))
        if look.status == UNREADABLE:
            raise HTTPException(422, look.reason)
        calibrated = model.calibration is not None
        mirrored = model.calibration is not None and bool(model.calibration.mirrored)
        with self.turn(model):
            outputs = outputs_of(model, list(look.faces), BATCH_SIZE, mirrored, calibrated)
        return model, ImagePredictions(look, outputs)

    def turn(self, model: Model) -> AbstractContextManager[Any]:
        """What must be held while a network is asked."""
        return nullcontext() if isinstance(model.network, OnnxNetwork) else self.asking


def create_app(service: PredictionService, hosts: Sequence[str]) -> Starlette:
    """The application.

    Args:
        service: what can be asked.
        hosts: the names by which the server may be addressed; `*`: any.
    """

    async def models(_: Request) -> Response:
        return JSONResponse({"models": list(service.paths), "max_upload": service.limits.upload})

    async def predict(request: Request) -> Response:
        name, data = _model(request, service), await service.body(request)

        def work() -> dict[str, Any]:
            model, answer = service.look(name, data)
            calibrated = model.calibration is not None
            record = as_record(answer, model.input_spec)
            return {"model": name, "calibrated": calibrated} | record

        return JSONResponse(await service.do(work))

    async def explain(request: Request) -> Response:
        name, data = _model(request, service), await service.body(request)
        face, task = request.query_params.get("face", "1"), request.query_params.get("task", "")

        def work() -> bytes:
            model, answer = service.look(name, data)
            if task not in model.input_spec.tasks:
                raise HTTPException(400, f"task must be one of {', '.join(model.input_spec.tasks)}")
            known = [str(number + 1) for number in range(len(answer.outputs))]
            if face not in known:
                raise HTTPException(400, f"face must be in 1..{len(answer.outputs)}")
            crop = answer.look.faces[int(face) - 1].crop
            chosen = int(answer.outputs[int(face) - 1][task].argmax())
            picture = io.BytesIO()
            with service.turn(model):
                heat = heat_of(model.network, crop, task, chosen)
            Image.fromarray(overlay(crop, heat)).save(picture, "PNG")
            return picture.getvalue()

        return Response(await service.do(work), media_type="image/png")

    return Starlette(
        routes=[
            Route("/api/models", models),
            Route("/api/predict", predict, methods=["POST"]),
            Route("/api/explain", explain, methods=["POST"]),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[
            Middleware(_Headers),
            Middleware(TrustedHostMiddleware, allowed_hosts=list(hosts)),
        ],
        exception_handlers={HTTPException: _refuse, UserError: _fail},
    )


def _model(request: Request, service: PredictionService) -> str:
    name = request.query_params.get("model") or next(iter(service.paths))
    if name not in service.paths:
        raise HTTPException(404, f"unknown model {name!r}")
    return name


async def _body(request: Request, limits: Limits) -> bytes:
    """The request's body, if it is small enough and comes in time."""

    async def read() -> bytes:
        data, size = bytearray(), 0
        async for chunk in request.stream():
            size += len(chunk)
            if size <= limits.upload:
                data += chunk
        # What is too much was read all the same: who still sends does not hear the answer.
        if size > limits.upload:
            raise HTTPException(413, f"{size} bytes are more than {limits.upload}")
        return bytes(data)

    try:
        return await asyncio.wait_for(read(), limits.seconds)
    except asyncio.TimeoutError:
        raise HTTPException(408, f"the upload took more than {limits.seconds:g} s") from None
    except ClientDisconnect:
        raise HTTPException(400, "the upload broke off") from None


async def _refuse(_: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    return JSONResponse({"error": error.detail}, error.status_code)


async def _fail(_: Request, error: Exception) -> Response:
    return JSONResponse({"error": str(error)}, 500)


class _Headers:
    """Adds `HEADERS` to every response."""

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        async def with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(HEADERS)
            await send(message)

        await self.app(scope, receive, with_headers)
