"""The web application: its routes and error handlers."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from functools import partial
from importlib import resources
from typing import TYPE_CHECKING, Annotated, Any

from fastapi import FastAPI, Query, Request, Security
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse, PlainTextResponse, Response
from fastapi.security import HTTPBearer
from starlette.exceptions import HTTPException

import qfm_iqm
from qfm_iqm.errors import ModelError
from qfm_iqm.report.page import asset, with_parts, words_of
from qfm_iqm.scoring.row import COLUMNS, ScoreRow
from qfm_iqm.scoring.runtimes.base import Runtime
from qfm_iqm.serve.culling import CullingService
from qfm_iqm.serve.limits import Limits
from qfm_iqm.serve.metrics import CONTENT_TYPE, Metrics
from qfm_iqm.serve.middleware import AccessMiddleware
from qfm_iqm.serve.receiving import RETRY_AFTER, Admission, RequestError, discard
from qfm_iqm.serve.schemas import Culled, ImageMap, Mistake, ModelFacts, Scores, answer_of
from qfm_iqm.serve.scoring import ScoringService

if TYPE_CHECKING:
    from qfm_iqm.model.model import QualityModel

_LOG = logging.getLogger(__name__)
_SHARED = (
    "base.css", "moments.css", "common.js", "photo.js", "detail.js", "zoom.js", "moments.js"
)  # fmt: skip
_OWN = ("page.css", "service.js", "photos.js", "looking.js", "groups.js", "page.js", "docs.js")
_TYPES = {"css": "text/css", "js": "text/javascript", "html": "text/html"}
_BODY = {
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "properties": {
                        "files": {"type": "array", "items": {"type": "string", "format": "binary"}}
                    },
                }
            },
            "application/octet-stream": {"schema": {"type": "string", "format": "binary"}},
        },
    }
}
_Responses = dict[int | str, dict[str, Any]]
_ALWAYS: _Responses = {
    403: {"model": Mistake, "description": "The request comes from another site's page."},
    421: {"model": Mistake, "description": "The request names a host other than this machine."},
}
_LOCKED: _Responses = {401: {"model": Mistake, "description": "The token is missing or wrong."}}
_MISTAKES: _Responses = {
    400: {"model": Mistake, "description": "No image in the request."},
    408: {"model": Mistake, "description": "The request did not arrive in time."},
    413: {"model": Mistake, "description": "Too many bytes, pixels or files."},
    415: {"model": Mistake, "description": "Not an image that can be read."},
    429: {"model": Mistake, "description": "Too busy: see Retry-After."},
}
_MISSPELLED: _Responses = {422: {"model": Mistake, "description": "A parameter is wrong."}}
_NO_MAP: _Responses = {
    422: {"model": Mistake, "description": "The model draws no maps, or a parameter is wrong."}
}


def create_app(
    model: QualityModel | Runtime,
    *,
    explainer: Callable[[], QualityModel] | None = None,
    limits: Limits | None = None,
    token: str | None = None,
    hosts: frozenset[str] | None = None,
    device: str | None = None,
) -> FastAPI:
    """Creates the service as an ASGI application.

    Args:
        model: the model for scores.
        explainer: returns the model for maps, at the first request for one; None takes `model`.
        limits: limits of requests; None takes the defaults.
        token: token required for all requests except the page; None requires none.
        hosts: allowed host names; None allows any.
        device: a torch device name; None takes a GPU if there is one.
    """
    bounds = limits or Limits()
    metrics = Metrics()
    admission = Admission(bounds)
    metrics.watch(
        "qfm_pending_images", "Images being served.", lambda: float(admission.images.count)
    )
    metrics.watch("qfm_pending_bytes", "Bytes being served.", lambda: float(admission.bytes.count))

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncGenerator[None]:
        service = await asyncio.to_thread(ScoringService, model, bounds, metrics, device, explainer)
        app.state.service, app.state.culling = service, CullingService(service)
        yield
        await asyncio.to_thread(app.state.culling.close)
        await asyncio.to_thread(service.close)

    app = FastAPI(
        title="QFM-IQM",
        version=qfm_iqm.__version__,
        description="How good does a photo look to people? One number, without a reference.",
        lifespan=lifespan,
        docs_url=None,
        redoc_url=None,
        responses=_ALWAYS,
    )
    # Only for the API's description; the middleware enforces the token before any route.
    bearer = HTTPBearer(scheme_name="token", description="The service's token.", auto_error=False)
    locked: dict[str, Any] = {"dependencies": [Security(bearer)]} if token else {}
    refusals: _Responses = _LOCKED if token else {}

    @app.middleware("http")
    async def count(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
        began = time.perf_counter()
        try:
            response = await answer(request)
        except Exception:  # a bug: the client gets a sentence, and the log the traceback
            _LOG.exception("%s %s failed", request.method, request.url.path)
            response = JSONResponse({"error": "The service failed on this request."}, 500)
        route = getattr(request.scope.get("route"), "path", "other")
        metrics.requests.labels(route, str(response.status_code)).inc()
        metrics.seconds.labels(route).observe(time.perf_counter() - began)
        return response

    @app.exception_handler(RequestError)
    async def mistake(request: Request, error: RequestError) -> Response:
        headers = {"Retry-After": str(RETRY_AFTER)} if error.code == 429 else {}
        if error.code == 413:
            await discard(request)
        if error.code in (408, 413):
            headers["Connection"] = "close"  # the client may still be sending
        return JSONResponse({"error": str(error)}, error.code, headers)

    @app.exception_handler(ModelError)
    async def unable(_request: Request, error: ModelError) -> Response:
        return JSONResponse({"error": str(error)}, 422)

    @app.exception_handler(RequestValidationError)
    async def misspelled(_request: Request, error: RequestValidationError) -> Response:
        first = error.errors()[0]
        sentence = f"The parameter '{first['loc'][-1]}' is wrong: {first['msg']}."
        return JSONResponse({"error": sentence}, 422)

    @app.exception_handler(HTTPException)
    async def unknown(request: Request, error: HTTPException) -> Response:
        path, method = request.url.path, request.method
        sentences = {
            404: f"There is nothing at {path}: see /docs.",
            405: f"{path} does not take {method}: see /docs.",
        }
        sentence = sentences.get(error.status_code, error.detail)
        return JSONResponse({"error": sentence}, error.status_code, error.headers)

    taking = {"openapi_extra": _BODY, **locked}

    scoring = _MISTAKES | _MISSPELLED | refusals

    @app.post("/v1/score", response_model=Scores, responses=scoring, **taking)
    async def score(
        request: Request,
        causes: Annotated[bool, Query(description="Say what lowers each image's quality.")] = False,
    ) -> Response:
        """Score images: multipart files, or one image as the body.

        A single image that is refused sets the response's code; of several, each has its own.
        """
        _refuse_unknown(request, "causes")
        service: ScoringService = request.app.state.service
        async with admission.received(request) as uploads:
            scored = await asyncio.gather(
                *(service.score(upload, causes=causes) for upload in uploads)
            )
        return _rows(scored)

    @app.post("/v1/cull", response_model=Culled, responses=scoring, **taking)
    async def cull(
        request: Request,
        gap: Annotated[
            float | None,
            Query(
                description="Seconds between photos of one moment, at most; 30 if not given.",
                ge=0,
                allow_inf_nan=False,
            ),
        ] = None,
    ) -> Response:
        """Group photos by moment, rank each group, and say which to keep and why.

        Rows are those of the command, moment after moment. Refusals are as for scores.
        """
        _refuse_unknown(request, "gap")
        culling: CullingService = request.app.state.culling
        async with admission.received(request) as uploads:
            return _rows(await culling.cull(uploads, gap=gap))

    drawing = _MISTAKES | _NO_MAP | refusals

    @app.post("/v1/map", response_model=ImageMap, responses=drawing, **taking)
    async def quality_map(request: Request) -> Response:
        """Where one image is better and worse."""
        _refuse_unknown(request)
        service: ScoringService = request.app.state.service
        async with admission.received(request) as uploads:
            if len(uploads) != 1:
                raise RequestError(400, "A map needs exactly one image.")
            return JSONResponse(await service.explain(uploads[0]))

    @app.head("/v1/model", include_in_schema=False)
    @app.get("/v1/model", response_model=ModelFacts, responses=refusals, **locked)
    async def facts() -> dict[str, Any]:
        """The model that scores, and the limits."""
        card = model.card.model_dump()
        shown = ("name", "description", "license", "results", "weights_sha256", "version")
        named = ("file_bytes", "request_bytes", "files", "pixels", "aspect")
        return {name: card[name] for name in shown} | {
            "label": model.card.label.shown.model_dump(),
            "columns": words_of(COLUMNS),
            "limits": {name: getattr(bounds, name) for name in named},
        }

    # Load balancers use HEAD.
    @app.head("/healthz", response_class=PlainTextResponse, include_in_schema=False)
    @app.get("/healthz", response_class=PlainTextResponse)
    async def healthy() -> str:
        """Whether the service is up."""
        return "ok"

    @app.head("/metrics", include_in_schema=False)
    @app.get("/metrics", response_class=PlainTextResponse, responses=refusals, **locked)
    async def figures() -> Response:
        """Metrics for Prometheus."""
        return Response(metrics.text(), media_type=CONTENT_TYPE)

    _add_pages(app)
    app.add_middleware(AccessMiddleware, hosts=hosts, token=token)
    return app


def _refuse_unknown(request: Request, *known: str) -> None:
    """Refuses parameters that would have no effect."""
    names = [name for name, _ in request.query_params.multi_items()]
    for name in names:
        if name not in known:
            raise RequestError(422, f"There is no parameter '{name}' here: see /docs.")
        if names.count(name) > 1:
            raise RequestError(422, f"The parameter '{name}' is given more than once.")


def _rows(found: Sequence[tuple[int, ScoreRow]]) -> Response:
    """The response with rows, each with the status code that it would have alone."""
    results = [answer_of(row, code) for code, row in found]
    if len(found) == 1 and found[0][0] != 200:
        return JSONResponse({"error": results[0]["error"], "results": results}, found[0][0])
    return JSONResponse({"results": results})


def _add_pages(app: FastAPI) -> None:
    """Adds the web pages and their files, all from this package."""
    own = resources.files("qfm_iqm.serve") / "static"
    files = {name: asset(name) for name in _SHARED}
    files |= {name: (own / name).read_text("utf-8") for name in _OWN}
    pages = {
        path: with_parts((own / name).read_text("utf-8"))
        for path, name in (("/", "page.html"), ("/docs", "docs.html"))
    }

    def give(content: str, kind: str) -> Callable[[], Awaitable[Response]]:
        async def answer() -> Response:
            return Response(content, media_type=_TYPES[kind])

        return answer

    add = partial(app.add_api_route, methods=["GET", "HEAD"], include_in_schema=False)
    for path, content in pages.items():
        add(path, give(content, "html"))
    for name, content in files.items():
        add(f"/static/{name}", give(content, name.rpartition(".")[2]))
    add("/favicon.ico", lambda: Response(status_code=204))
