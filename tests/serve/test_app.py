"""The service as clients see it: a real process, over HTTP."""

import io
import json
import re
import socket
import time
from contextlib import ExitStack

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.model.folder import load_model
from qfm_iqm.report.maps import map_data

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")

from qfm_iqm.serve.server import CONNECTIONS


def png(side=40, seed=0):
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), np.uint8)
    encoded = io.BytesIO()
    Image.fromarray(pixels).save(encoded, "PNG")
    return encoded.getvalue()


def scored_by_command(folder, model, tmp_path):
    out = tmp_path / "scores.jsonl"
    done = CliRunner().invoke(app, ["score", str(folder), "-m", str(model), "-o", str(out)])
    assert done.exit_code == 0, done.output
    return [json.loads(line) for line in out.read_text().splitlines()]


def test_rows_are_those_of_the_command(service, photo_folder, tiny_model_folder, tmp_path):
    expected = scored_by_command(photo_folder, tiny_model_folder, tmp_path)
    photos = sorted(photo_folder.iterdir(), reverse=True)  # in another order and batch
    with service.client() as client:
        files = [("files", (photo.name, photo.read_bytes())) for photo in photos]
        together = client.post("/v1/score", files=files)
        alone = client.post("/v1/score", content=photos[0].read_bytes())
    assert together.status_code == 200
    results = together.json()["results"]
    assert [row["name"] for row in results] == [photo.name for photo in photos]
    by_name = {row.pop("path").rpartition("/")[2]: row for row in expected}
    assert {row["out_of_distribution"] for row in results} == {True, None}
    of_photos = [*zip(photos, results, strict=True), (photos[0], alone.json()["results"][0])]
    for photo, row in of_photos:
        same = by_name[photo.name]
        # Batches of other sizes round differently in the sixth decimal, on some processors.
        for number in ("score", "crop_std"):
            assert row.pop(number) == pytest.approx(same[number], abs=1e-5)
        assert row["out_of_distribution"] is (
            True if min(row["width"], row["height"]) < 48 else None
        )
        rest = row.keys() - {"name", "path", "seconds"}
        assert {key: row[key] for key in rest} == {key: same[key] for key in rest}


def test_a_map_is_that_of_the_model(service, photo_folder, tiny_model_folder):
    photo = photo_folder / "photo_01.jpg"
    model = load_model(tiny_model_folder)
    with service.client() as client:
        answer = client.post("/v1/map", content=photo.read_bytes())
        assert client.post("/v1/map", content=b"no image").status_code == 415
    assert answer.status_code == 200
    found = answer.json()
    expected = map_data(model.explain(photo), model.card.label.shown)
    assert (found["rows"], found["columns"]) == (expected["rows"], expected["columns"])
    assert np.allclose(found["values"], expected["values"], atol=1)
    assert found["low"] == pytest.approx(expected["low"], abs=2e-3)


@pytest.mark.parametrize("asked", ["score?cuases=true", "score?gap=5", "cull?causes=1", "map?x="])
def test_a_parameter_without_effect_is_refused(service, asked):
    with service.client() as client:
        answer = client.post(f"/v1/{asked}", content=png())
    assert answer.status_code == 422
    name = asked.partition("?")[2].partition("=")[0]
    assert answer.json() == {"error": f"There is no parameter '{name}' here: see /docs."}


@pytest.mark.parametrize(
    ("asked", "says"),
    [
        ("score?causes=true&causes=false", "The parameter 'causes' is given more than once."),
        ("cull?gap=5&gap=6", "The parameter 'gap' is given more than once."),
        ("cull?gap=inf", "The parameter 'gap' is wrong: "),
        ("cull?gap=1e400", "The parameter 'gap' is wrong: "),
    ],
)
def test_a_parameter_that_is_wrong(service, asked, says):
    with service.client() as client:
        answer = client.post(f"/v1/{asked}", content=png())
    assert answer.status_code == 422
    assert answer.json()["error"].startswith(says)


def test_a_form_field_without_effect_is_refused(service):
    with service.client() as client:
        files = {"files": ("a.png", png())}
        answer = client.post("/v1/score", data={"causes": "true"}, files=files)
    assert answer.status_code == 422
    says = "The form field 'causes' has no effect: give parameters in the URL."
    assert answer.json() == {"error": says}


def test_an_upgrade_to_websockets_is_ignored_without_advice(service):
    with service.client() as client:
        headers = {"Connection": "Upgrade", "Upgrade": "websocket"}
        assert client.get("/healthz", headers=headers).text == "ok"
    deadline = time.monotonic() + 30
    while "Unsupported upgrade request" not in "".join(service.said):
        assert time.monotonic() < deadline
        time.sleep(0.1)
    time.sleep(0.1)  # the advice would be the next line
    assert "install" not in "".join(service.said)


@pytest.mark.parametrize("way", ["score", "map"])
def test_a_strip_is_refused(service, way):
    strip = io.BytesIO()
    Image.new("RGB", (2001, 100)).save(strip, "PNG")
    with service.client() as client:
        answer = client.post(f"/v1/{way}", content=strip.getvalue())
    assert answer.status_code == 413
    assert "one side is more than 20 times as long as the other" in answer.text


def test_a_broken_file_among_good_ones(service):
    files = [
        ("files", ("a.png", png())),
        ("files", ("../../b.png", b"no image")),
        ("files", ("c.png", png(seed=1))),
    ]
    with service.client() as client:
        answer = client.post("/v1/score", files=files)
    assert answer.status_code == 200
    rows = answer.json()["results"]
    assert [row["status"] for row in rows] == ["ok", "error", "ok"]
    assert [row.get("code") for row in rows] == [None, 415, None]
    assert rows[1]["error"].startswith("cannot read '../../b.png': it is not an image")


def test_the_row_of_a_broken_file_is_that_of_the_command(service, tiny_model_folder, tmp_path):
    broken, out = tmp_path / "broken.png", tmp_path / "scores.jsonl"
    broken.write_bytes(png()[:-40])
    CliRunner().invoke(app, ["score", str(broken), "-m", str(tiny_model_folder), "-o", str(out)])
    same = json.loads(out.read_text())
    with service.client() as client:
        answer = client.post("/v1/score", content=broken.read_bytes())
    (row,) = answer.json()["results"]
    assert row.pop("seconds") > 0
    assert row["sha256"]
    for column in row.keys() - {"name", "error", "code"}:
        assert row[column] == same[column]


@pytest.mark.parametrize(
    ("content", "code", "says"),
    [
        (b"plain text", 415, "not an image of a known format"),
        (b"", 400, "There is no image in the request"),
        (png()[:-40], 415, "truncated|damaged"),
        (b"\x89PNG\r\n\x1a\n" + bytes(2_999_000), 415, "damaged"),
        (bytes(3_100_000), 413, "limit of 3 MB"),
        (bytes(6_000_000), 413, "limit of 5 MB"),
    ],
    ids=["text", "empty", "cut", "damaged", "too large a file", "too large a request"],
)
def test_what_is_refused(service, content, code, says):
    with service.client() as client:
        answer = client.post("/v1/score", content=content)
        assert answer.status_code == code
        assert re.search(says, answer.json()["error"])
        assert client.get("/healthz").text == "ok"


def test_too_many_pixels_are_refused_by_the_header(service):
    bomb = io.BytesIO()
    Image.new("1", (8000, 8000)).save(bomb, "PNG")
    with service.client() as client:
        answer = client.post("/v1/score", content=bomb.getvalue())
    assert answer.status_code == 413
    assert "8000 x 8000 pixels exceed the limit of 1 megapixels" in answer.json()["error"]


def test_too_many_files_and_odd_requests(service):
    with service.client() as client:
        many = client.post("/v1/score", files=[("files", (f"{i}.png", b"x")) for i in range(65)])
        assert many.status_code == 413
        fields = client.post("/v1/score", data={"path": "/etc/passwd"}, files={"x": ("", b"")})
        assert fields.status_code == 400
        bare = client.post(
            "/v1/score", content=b"x", headers={"Content-Type": "multipart/form-data"}
        )
        assert bare.status_code == 400
        assert (
            client.post("/v1/map", files=[("f", ("a", png())), ("f", ("b", png()))]).status_code
            == 400
        )


@pytest.mark.parametrize(
    ("method", "path", "code", "says"),
    [
        ("GET", "/nothing", 404, "There is nothing at /nothing: see /docs."),
        ("GET", "/static/page.html", 404, "There is nothing at /static/page.html: see /docs."),
        ("GET", "/v1/score", 405, "/v1/score does not take GET: see /docs."),
        ("DELETE", "/", 405, "/ does not take DELETE: see /docs."),
    ],
)
def test_what_is_not_there_is_refused_as_all_else(service, method, path, code, says):
    with service.client() as client:
        answer = client.request(method, path)
    assert (answer.status_code, answer.json()) == (code, {"error": says})
    assert ("allow" in answer.headers) == (code == 405)


@pytest.mark.parametrize(
    "path", ["/", "/docs", "/static/page.js", "/healthz", "/metrics", "/v1/model"]
)
def test_head_is_answered_as_get_without_a_body(service, path):
    with service.client() as client:
        head, get = client.head(path), client.get(path)
    assert (head.status_code, head.content) == (200, b"")
    assert head.headers["content-type"] == get.headers["content-type"]
    assert head.headers["content-security-policy"]


def test_a_client_that_goes_away_is_counted_and_fills_no_log(service):
    host, port = service.url.removeprefix("http://").split(":")
    form = "multipart/form-data; boundary=b"
    gone = 'qfm_requests_total{code="499",route="/v1/score"} 2.0'
    for kind, start in (("image/png", b"x"), (form, b"--b\r\n")):
        with socket.create_connection((host, int(port))) as connection:
            head = f"POST /v1/score HTTP/1.1\r\nHost: {host}\r\nContent-Type: {kind}\r\n"
            connection.sendall(head.encode() + b"Content-Length: 999\r\n\r\n" + start)
            time.sleep(0.3)
    with service.client() as client:
        deadline = time.monotonic() + 30
        while gone not in client.get("/metrics").text:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert "Traceback" not in "".join(service.said)


def test_more_connections_than_the_service_takes_are_told_so(service):
    host, port = service.url.removeprefix("http://").split(":")
    with ExitStack() as idle, service.client() as client:
        for _ in range(CONNECTIONS):
            idle.enter_context(socket.create_connection((host, int(port)), 30))
        assert client.get("/healthz").status_code == 503
        idle.close()
        deadline = time.monotonic() + 30
        while client.get("/healthz").status_code != 200:
            assert time.monotonic() < deadline
            time.sleep(0.1)


def test_a_body_without_a_length_is_counted(service):
    def pieces():
        for _ in range(60):
            yield bytes(100_000)

    with service.client() as client:
        assert client.post("/v1/score", content=pieces()).status_code == 413


def test_the_model_says_what_it_is(service):
    with service.client() as client:
        facts = client.get("/v1/model").json()
    assert facts["name"] == "tiny-test_vit"
    assert facts["label"]["higher_is_better"] is True
    assert facts["limits"] == {
        "file_bytes": 3_000_000,
        "request_bytes": 5_000_000,
        "files": 64,
        "pixels": 1_000_000,
        "aspect": 20,
    }


def test_metrics_count(service):
    def figure(text, name):
        return sum(float(line.split()[-1]) for line in text.splitlines() if line.startswith(name))

    with service.client() as client:
        before = client.get("/metrics").text
        client.post("/v1/score", content=png())
        client.post("/v1/score", content=b"none")
        after = client.get("/metrics").text
    for name in (
        'qfm_images_total{outcome="ok"}',
        'qfm_images_total{outcome="refused"}',
        'qfm_requests_total{code="415",route="/v1/score"}',
    ):
        assert figure(after, name) - figure(before, name) == 1, name
    assert figure(after, "qfm_pending_images") == 0
    assert figure(after, "process_resident_memory_bytes") > 0


def test_pages_come_from_here_and_carry_the_headers(service):
    with service.client() as client:
        for path in ("/", "/docs"):
            page = client.get(path)
            assert page.status_code == 200
            assert "{{" not in page.text  # all placeholders are filled
            policy = page.headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert page.headers["x-content-type-options"] == "nosniff"
            assert page.headers["referrer-policy"] == "no-referrer"
            assert "server" not in page.headers
            linked = re.findall(r'(?:src|href)="([^"]+)"', page.text)
            assert "/static/common.js" in linked
            for target in linked:
                assert target.startswith(("/", "data:,"))
                if target.startswith("/"):
                    assert client.get(target).status_code == 200
        described = client.get("/openapi.json").json()["paths"]
        assert {"/v1/score", "/v1/cull", "/v1/map", "/v1/model", "/healthz", "/metrics"} == set(
            described
        )
        assert client.get("/static/../app.py").status_code == 404
        assert client.get("/static/page.html").status_code == 404


def test_requests_from_elsewhere_are_refused(service):
    with service.client() as client:
        own = client.post("/v1/score", content=png(), headers={"Origin": service.url})
        assert own.status_code == 200
        for headers, code in (
            ({"Origin": "https://elsewhere.example"}, 403),
            ({"Origin": "null"}, 403),
            ({"Sec-Fetch-Site": "cross-site"}, 403),
            ({"Host": "elsewhere.example"}, 421),
            ({"Host": "[::1"}, 421),
            ({"Host": "127.0.0.1.elsewhere.example:80"}, 421),
        ):
            answer = client.post("/v1/score", content=png(), headers=headers)
            assert answer.status_code == code, headers
            assert answer.json()["error"]
        assert client.get("/healthz", headers={"Host": "localhost"}).status_code == 200
