"""The page and the endpoints of `serve`, as a Starlette application.

- `GET /`: the page. Its Content-Security-Policy allows requests to this server only.
- `GET /api/models`: `models`, the names of the available models, `cards`, those with a model card,
  and `max_upload` in bytes.
- `GET /api/card?model=NAME`: its model card as Markdown.
- `POST /api/predict?model=NAME` with the bytes of an image as body, or as a file of a form
  (`curl -F file=@photo.jpg`): the object of `as_record` with `model`, and `calibrated`: whether
  temperature scaling was applied (to the mean with the mirror image if it was fitted so).
- `POST /api/explain?model=NAME&face=1&task=age` with the same body: a PNG of that face's crop
  under a heat map of the evidence for the predicted class.

Errors are JSON, `{"error": ...}`: 400 invalid request or host, 404 unknown model, 405 wrong method,
408 upload too slow, 413 upload too large, 422 not an image, 500 a defect, 503 server too busy or
prediction too slow. Only a wrong `Range` of a file of the page is answered by Starlette in plain
text, and a connection whose time is over ends without an answer.

An upload is kept in memory and never written to disk; so forms are parsed here, not by Starlette,
which would store it in a file.
"""

import asyncio
import io
import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from PIL import Image
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.base import (
    BaseHTTPMiddleware,
    DispatchFunction,
    RequestResponseEndpoint,
)
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from stages.core.errors import UserError
from stages.core.paths import CARDS, MODELS
from stages.detection.detector import Detector
from stages.inference.face_extraction import UNREADABLE, face_extractor
from stages.inference.forms import FormError, file_of_form
from stages.inference.models import Model, label_of, open_detector, open_model
from stages.inference.onnx_network import OnnxNetwork
from stages.inference.predictions import ImagePredictions, as_record, outputs_of
from stages.inference.saliency import heat_of, overlay
from stages.networks.prediction import BATCH_SIZE
from stages.raw.archives import Member

PAGE = Path(__file__).with_name("page")
METHODS = ("GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS")
HEADERS = {
    "Content-Security-Policy": "default-src 'self'; img-src 'self' blob:; frame-ancestors 'none'; "
    "form-action 'none'; base-uri 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-store",
}

Result = TypeVar("Result")


class Limits(NamedTuple):
    """Limits of the service."""

    upload: int  # bytes of a request's body
    pixels: int  # of its image
    seconds: float  # for the upload, and again for the prediction and the wait for a thread
    waiting: int  # requests that are uploading, waiting or running; more are refused
    threads: int  # requests that run at once


class PredictionService:
    """The models, opened on first use, and the threads that run them.

    A request that times out keeps its thread until it ends, so that the number of running requests
    never exceeds the number of threads. A call of an ONNX network ends at the time-out too, so that
    its thread is free for others; one of a Keras or TFLite network, which nothing stops, does not.
    """

    def __init__(self, paths: Sequence[Path], device: str, limits: Limits) -> None:
        self.paths = {label_of(path): path for path in paths}
        self.device, self.limits = device, limits
        self.pool = ThreadPoolExecutor(limits.threads)
        self.opened: dict[str, tuple[Model, Detector]] = {}
        self.opening = threading.Lock()
        self.predicting = threading.Lock()  # Keras does not guarantee thread safety
        self.busy = 0  # requests that run or wait for a thread
        self.receiving = 0  # requests that are uploading

    async def do(self, work: Callable[[], Result]) -> Result:
        """Run `work` on a thread, or refuse it by an HTTPException."""
        self._refuse_when_full()
        self.busy += 1
        loop, future = asyncio.get_running_loop(), self.pool.submit(work)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(self._done))
        try:
            return await asyncio.wait_for(asyncio.wrap_future(future), self.limits.seconds)
        except asyncio.TimeoutError:
            raise HTTPException(503, f"took more than {self.limits.seconds:g} s") from None

    def _done(self) -> None:
        self.busy -= 1

    def _refuse_when_full(self) -> None:
        if self.busy + self.receiving >= self.limits.waiting:
            raise HTTPException(503, "too many requests at once; try again")

    async def body(self, request: Request) -> bytes:
        """Read a request's body within the limits, or refuse it by an HTTPException."""
        self._refuse_when_full()
        self.receiving += 1
        limits = self.limits
        try:
            body = await asyncio.wait_for(_read_body(request, limits.upload), limits.seconds)
            return file_of_form(body, request.headers.get("content-type", ""))
        except FormError as error:
            raise HTTPException(400, str(error)) from None
        except asyncio.TimeoutError:
            raise HTTPException(408, f"the upload took more than {limits.seconds:g} s") from None
        except ClientDisconnect:
            raise HTTPException(400, "the upload broke off") from None
        finally:
            self.receiving -= 1

    def open(self, name: str) -> tuple[Model, Detector]:
        """Return a model and its detector, opened on first use."""
        if name in self.opened:  # without waiting for another model to open
            return self.opened[name]
        with self.opening:
            if name not in self.opened:
                model = open_model(self.paths[name], self.device)
                if isinstance(model.network, OnnxNetwork):
                    model.network.seconds = self.limits.seconds
                self.opened[name] = model, open_detector(model, device=self.device)
            return self.opened[name]

    def card(self, name: str) -> Path:
        """Where the model card of a model lies, if it has one."""
        path = self.paths[name]
        beside = path.with_name("card.md")
        return (
            beside if beside.is_file() else CARDS / f"{path.stem if path.suffix else path.name}.md"
        )

    def predict(self, name: str, data: bytes) -> tuple[Model, ImagePredictions]:
        """Predict the image in a request's body, or refuse it by an HTTPException."""
        model, detector = self.open(name)
        extract = face_extractor(model.input_spec, detector, max_pixels=self.limits.pixels)
        image = extract(Member("", "upload", data))
        if image.status == UNREADABLE:
            raise HTTPException(422, image.reason)
        flip_tta = model.calibration is not None and bool(model.calibration.flip_tta)
        with self.lock(model):
            outputs = outputs_of(model, list(image.faces), BATCH_SIZE, flip_tta, calibrated=True)
        return model, ImagePredictions(image, outputs)

    def lock(self, model: Model) -> AbstractContextManager[Any]:
        """The lock to hold while the model's network runs."""
        return nullcontext() if isinstance(model.network, OnnxNetwork) else self.predicting


def create_app(service: PredictionService, hosts: Sequence[str]) -> Starlette:
    """Create the application for the accepted host names; `*`: any."""

    async def models(_: Request) -> Response:
        cards = [name for name in service.paths if service.card(name).is_file()]
        facts = {"models": list(service.paths), "cards": cards}
        return JSONResponse(facts | {"max_upload": service.limits.upload})

    async def card(request: Request) -> Response:
        file = service.card(_model(request, service))
        if not file.is_file():
            raise HTTPException(404, "no model card; run `dvc repro report`")
        return Response(file.read_text(encoding="utf-8"), media_type="text/plain")

    async def predict(request: Request) -> Response:
        name, data = _model(request, service), await service.body(request)

        def work() -> dict[str, Any]:
            model, predictions = service.predict(name, data)
            record = as_record(predictions, model)
            return {"model": name, "calibrated": model.calibration is not None} | record

        return JSONResponse(await service.do(work))

    async def explain(request: Request) -> Response:
        name, data = _model(request, service), await service.body(request)
        face, task = request.query_params.get("face", "1"), request.query_params.get("task", "")

        def work() -> bytes:
            model, predictions = service.predict(name, data)
            number = len(predictions.outputs)
            if task not in model.input_spec.tasks:
                raise HTTPException(400, f"task must be one of {', '.join(model.input_spec.tasks)}")
            if face not in [str(i + 1) for i in range(number)]:
                raise HTTPException(400, f"face must be in 1..{number}")
            crop = predictions.image.faces[int(face) - 1].crop
            class_index = int(predictions.outputs[int(face) - 1][task].argmax())
            with service.lock(model):
                heat = heat_of(model.network, crop, task, class_index)
            file = io.BytesIO()
            Image.fromarray(overlay(crop, heat)).save(file, "PNG")
            return file.getvalue()

        return Response(await service.do(work), media_type="image/png")

    return Starlette(
        routes=[
            Route("/api/models", models),
            Route("/api/card", card),
            Route("/api/predict", predict, methods=["POST"]),
            Route("/api/explain", explain, methods=["POST"]),
            Route("/api/{rest:path}", _refuse, methods=list(METHODS)),
            Mount("/", StaticFiles(directory=PAGE, html=True)),
        ],
        middleware=[Middleware(BaseHTTPMiddleware, dispatch=_guard_of(hosts))],
        exception_handlers={HTTPException: _report, UserError: _report, Exception: _report},
    )


def _model(request: Request, service: PredictionService) -> str:
    given = request.query_params.get("model") or next(iter(service.paths))
    for name in (given, (MODELS / given).as_posix()):
        if name in service.paths:
            return name
    raise HTTPException(404, f"unknown model {given!r}; there are {', '.join(service.paths)}")


async def _refuse(request: Request) -> Response:
    """Answer what no route took: a known endpoint by another method, or none."""
    post = request.path_params["rest"] in ("predict", "explain")
    if post or request.path_params["rest"] in ("models", "card"):
        allowed = "POST" if post else "GET"
        raise HTTPException(405, f"{request.url.path} takes {allowed}", {"Allow": allowed})
    raise HTTPException(404, f"no endpoint {request.url.path}")


async def _read_body(request: Request, limit: int) -> bytes:
    data, size = bytearray(), 0
    async for chunk in request.stream():
        size += len(chunk)
        if size <= limit:
            data += chunk
    # Read to the end even if too large: a client reads the response only after sending.
    if size > limit:
        raise HTTPException(413, f"{size} bytes are more than {limit}")
    return bytes(data)


async def _report(_: Request, error: Exception) -> Response:
    if isinstance(error, HTTPException):
        return JSONResponse({"error": error.detail}, error.status_code, error.headers)
    return JSONResponse({"error": str(error) or type(error).__name__}, 500)


def _guard_of(hosts: Sequence[str]) -> DispatchFunction:
    """What refuses any other Host, and adds HEADERS to every answer."""
    accepted = re.compile(f"({'|'.join(map(re.escape, hosts))})(:[0-9]*)?", re.IGNORECASE)

    async def guard(request: Request, respond: RequestResponseEndpoint) -> Response:
        if "*" in hosts or accepted.fullmatch(request.headers.get("host", "")):
            response = await respond(request)
        else:
            response = JSONResponse({"error": f"the Host must be one of {', '.join(hosts)}"}, 400)
        response.headers.update(HEADERS)
        return response

    return guard
