"""Culling over HTTP gives the command's results for the same files."""

import asyncio
import gc
import json
import weakref

import pytest
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")
pytest.importorskip("httpx")

from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.folder import load_model, save_model
from qfm_iqm.model.model import QualityModel
from qfm_iqm.serve.culling import CullingService
from qfm_iqm.serve.limits import Limits
from qfm_iqm.serve.metrics import Metrics
from qfm_iqm.serve.receiving import Upload
from qfm_iqm.serve.scoring import ScoringService

from ..services import serving


@pytest.fixture(scope="module")
def model_folder(tmp_path_factory, build_model):
    """A model that sees photos reduced, while they are compared at native resolution."""
    model = build_model()
    reducing = Preprocessing(crop=48, shorter_side=96)
    card = model.card.model_copy(update={"preprocessing": reducing})
    folder = tmp_path_factory.mktemp("reducing") / "tiny"
    save_model(QualityModel(model.network, card), folder)
    return folder


@pytest.fixture(scope="module")
def service(model_folder):
    with serving(model_folder) as running:
        yield running


def culled_by_command(folder, model, out, *options):
    arguments = ["cull", folder, "--model", model, "--out", out, *options]
    done = CliRunner().invoke(app, [str(argument) for argument in arguments])
    assert out.exists(), done.output
    return [json.loads(line) for line in out.read_text().splitlines()]


def asked(service, photos, **options):
    files = [("files", (photo.name, photo.read_bytes())) for photo in photos]
    with service.client() as client:
        return client.post("/v1/cull", files=files, **options)


@pytest.mark.parametrize(("gap", "counts"), [(None, {1, 3, 4, None}), (0, {1, 2, None})])
def test_rows_are_those_of_the_command(service, library, model_folder, tmp_path, gap, counts):
    options = [] if gap is None else ["--gap", gap]
    expected = culled_by_command(library, model_folder, tmp_path / "cull.jsonl", *options)
    parameters = {} if gap is None else {"gap": gap}
    answer = asked(service, sorted(library.iterdir()), params=parameters)
    assert answer.status_code == 200
    results = answer.json()["results"]
    assert [list(row) for row in results[:-1]] == [["name", *list(expected[0])[1:]]] * 9
    assert {row["photos"] for row in results} == counts
    assert {row["duplicate"] for row in results} >= {"", "exact"}
    for row, same in zip(results, expected, strict=True):
        assert row.pop("name") == same.pop("path").rpartition("/")[2]
        assert row.pop("duplicate_of") == same.pop("duplicate_of").rpartition("/")[2]
        for number in ("score", "crop_std"):  # batches of other sizes may round differently
            assert row.pop(number) == pytest.approx(same.pop(number), abs=1e-5)
        if same["status"] == "error":
            assert row.pop("code") == 415
            errors = row.pop("error"), same.pop("error")
            assert errors[0].startswith("cannot read 'broken.jpg': ")
            assert errors[0].rpartition("': ")[2] == errors[1].rpartition("': ")[2]
        del row["seconds"], same["seconds"]
        assert row == same


def test_photos_of_one_name_are_told_apart_by_their_content(service, library):
    sharp, blurred = (library / name for name in ("b2.jpg", "b1.jpg"))
    files = [("files", ("b.jpg", photo.read_bytes())) for photo in (blurred, sharp, sharp)]
    with service.client() as client:
        results = client.post("/v1/cull", files=files).json()["results"]
    assert [row["rank"] for row in results] == [1, 2, 3]
    assert "exact" in [row["duplicate"] for row in results]
    apart = {(row["sha256"], row["score"]) for row in results}
    assert len(apart) == 2


def test_what_is_refused(service, library):
    alone = asked(service, [library / "broken.jpg"])
    assert alone.status_code == 415
    assert alone.json()["error"] == alone.json()["results"][0]["error"]
    few = asked(service, [library / "c.jpg"]).json()["results"]
    assert [(row["name"], row["photos"], row["keep"]) for row in few] == [("c.jpg", 1, True)]
    assert asked(service, []).status_code == 400
    assert asked(service, [library / "c.jpg"] * 65).status_code == 413
    wrong = asked(service, [library / "c.jpg"], params={"gap": -1})
    assert wrong.status_code == 422
    assert "'gap'" in wrong.json()["error"]


@pytest.fixture
def services(model_folder):
    """Scoring and culling in this process, with one worker."""
    limits = Limits(workers=1)
    scoring = ScoringService(load_model(model_folder), limits, Metrics(), "cpu")
    culling = CullingService(scoring)
    yield scoring, culling
    culling.close()
    scoring.close()


def uploads_of(library, names):
    return [Upload(path.name, path.read_bytes()) for path in sorted(library.glob(names))]


def test_one_photo_of_a_request_is_in_memory_at_native_resolution(services, library, monkeypatch):
    scoring, culling = services
    read, given, alive = [], [], []
    native = scoring.native

    def counted(name, content):
        gc.collect()
        alive.append(sum(pixels() is not None for pixels in given))
        reading = native(name, content)
        given.append(weakref.ref(reading.pixels))
        read.append((name, reading.pixels.shape))
        return reading

    monkeypatch.setattr(scoring, "native", counted)
    rows = asyncio.run(culling.cull(uploads_of(library, "[ac]*.jpg")))
    assert len(rows) == 5
    shapes = {"a0.jpg", "a1.jpg", "a2.jpg", "copy of a1.jpg"}  # c.jpg is alone in its moment
    assert {name for name, _ in read} == shapes
    assert {shape for _, shape in read} == {(3, 290, 290)}  # at native resolution
    assert alive == [0] * 4


def test_a_worker_that_dies_over_a_comparison_costs_one_photo_its_measures(
    services, library, monkeypatch
):
    scoring, culling = services
    native = scoring.native

    def deadly(name, content):
        if name == "b1.jpg":
            (worker,) = scoring._pool._idle.queue
            worker._process.kill()
        return native(name, content)

    whole = asyncio.run(culling.cull(uploads_of(library, "b*.jpg")))
    monkeypatch.setattr(scoring, "native", deadly)
    again = asyncio.run(culling.cull(uploads_of(library, "b*.jpg")))
    assert [row.status for _, row in again] == ["ok"] * 3 + ["error"]
    scores = [{row.path: row.score for _, row in rows[:-1]} for rows in (whole, again)]
    assert scores[0] == pytest.approx(scores[1], abs=1e-5)
    assert scoring._pool.restarts == 1


def test_others_are_scored_while_photos_are_compared(services, library):
    scoring, culling = services
    ended = []

    async def scenario():
        async def note(name, coming):
            await coming
            ended.append(name)

        await asyncio.gather(
            note("cull", culling.cull(uploads_of(library, "*.jpg"))),
            note("score", scoring.score(uploads_of(library, "c.jpg")[0])),
        )

    asyncio.run(scenario())
    assert ended == ["score", "cull"]
