"""Responses when the service cannot serve: too many requests at once, and its own errors."""

import asyncio
from contextlib import asynccontextmanager

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx")

import httpx

from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.serve.app import create_app
from qfm_iqm.serve.limits import Limits


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


@asynccontextmanager
async def running(app):
    """The application in this process, and a client of it."""
    # Clients see the application's exceptions as status codes, as over a socket.
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    client = httpx.AsyncClient(transport=transport, base_url="http://here")
    async with app.router.lifespan_context(app), client:
        yield client


def test_more_images_than_may_be_pending_are_told_to_wait(model):
    app = create_app(model, limits=Limits(workers=1, pending_images=3), device="cpu")
    form = [("files", (f"{n}.jpg", b"x")) for n in range(2)]

    async def scenario():
        async with running(app) as client:
            held = asyncio.Event()

            async def score(upload, **_options):
                await held.wait()
                return 200, ScoreRow(upload.name)

            app.state.service.score = score
            first = asyncio.create_task(client.post("/v1/score", files=form))
            while "qfm_pending_images 2.0" not in (await client.get("/metrics")).text:
                await asyncio.sleep(0.01)
            refused = await client.post("/v1/score", files=form)
            assert (refused.status_code, refused.headers["retry-after"]) == (429, "1")
            assert "try again" in refused.json()["error"]
            assert (await client.post("/v1/map", files=form[:1])).status_code != 429  # one fits
            held.set()
            assert (await first).status_code == 200
            assert (await client.post("/v1/score", files=form)).status_code == 200
            assert "qfm_pending_images 0.0" in (await client.get("/metrics")).text

    asyncio.run(asyncio.wait_for(scenario(), 120))


def test_a_defect_is_a_sentence_for_the_client_and_a_trace_for_the_log(model, caplog):
    app = create_app(model, limits=Limits(workers=1), device="cpu")

    async def scenario():
        async with running(app) as client:

            async def score(_upload, **_options):
                raise ZeroDivisionError("inside")

            app.state.service.score = score
            answer = await client.post("/v1/score", content=b"x")
            assert answer.status_code == 500
            assert answer.json() == {"error": "The service failed on this request."}
            assert answer.headers["content-security-policy"]
            counted = 'qfm_requests_total{code="500",route="/v1/score"} 1.0'
            assert counted in (await client.get("/metrics")).text

    asyncio.run(asyncio.wait_for(scenario(), 120))
    assert "ZeroDivisionError: inside" in caplog.text
