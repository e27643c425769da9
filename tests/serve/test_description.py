"""The service's machine-readable description: every response, and authorization."""

import json

import pytest

pytest.importorskip("fastapi", reason="the service needs the extra 'serve'")

from qfm_iqm.model.folder import load_model
from qfm_iqm.serve.app import create_app


@pytest.fixture(scope="module")
def model(tiny_model_folder):
    return load_model(tiny_model_folder)


def test_every_field_has_its_meaning(model):
    schemas = create_app(model).openapi()["components"]["schemas"]
    for name in (
        "Scores",
        "ScoredImage",
        "Culled",
        "CulledImage",
        "ImageMap",
        "Mistake",
        "ModelFacts",
    ):
        for field, schema in schemas[name]["properties"].items():
            assert schema.get("description"), f"{name}.{field}"


@pytest.mark.parametrize(
    ("route", "kind"), [("/v1/score", "ScoredImage"), ("/v1/cull", "CulledImage")]
)
def test_every_field_of_a_row_is_described(service, photo_folder, route, kind):
    with service.client() as client:
        rows = client.post(
            route,
            files=[
                ("files", ("a.jpg", (photo_folder / "photo_01.jpg").read_bytes())),
                ("files", ("b.jpg", b"no image")),
            ],
        ).json()["results"]
        described = client.get("/openapi.json").json()["components"]["schemas"][kind]
    assert [list(row) for row in rows] == [
        [field for field in described["properties"] if field != "code"],
        [field for field in described["properties"] if field != "code"] + ["code"],
    ]


def test_every_refusal_is_described(model):
    paths = create_app(model, token="a-token-of-ours").openapi()["paths"]
    codes = {path: set(next(iter(of.values()))["responses"]) for path, of in paths.items()}
    always = {"200", "403", "421"}
    scoring = always | {"400", "401", "408", "413", "415", "429"}
    assert codes == {
        "/v1/score": scoring | {"422"},
        "/v1/cull": scoring | {"422"},
        "/v1/map": scoring | {"422"},
        "/v1/model": always | {"401"},
        "/healthz": always,
        "/metrics": always | {"401"},
    }


def test_a_token_is_described_where_it_is_asked_for(model):
    closed = create_app(model, token="a-token-of-ours").openapi()
    (scheme,) = closed["components"]["securitySchemes"].values()
    assert (scheme["type"], scheme["scheme"]) == ("http", "bearer")
    locked = {path for path, of in closed["paths"].items() if "security" in json.dumps(of)}
    assert locked == {"/v1/score", "/v1/cull", "/v1/map", "/v1/model", "/metrics"}
    opened = create_app(model).openapi()
    assert "securitySchemes" not in opened["components"]
    assert "401" not in json.dumps(opened["paths"])
