"""Causes are the same on every path to a score, and do not change the score."""

from dataclasses import replace

import numpy as np
from PIL import Image

from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer


def said(row):
    return {name: row[name] for name in ("cause", "second_cause", *CAUSES)}


def test_scores_are_the_same_with_causes(photo_paths, photo_rows, tiny_model_folder):
    nothing = dict.fromkeys(CAUSES) | {"cause": "", "second_cause": ""}
    plain = list(Scorer(str(tiny_model_folder), readers=2).score_paths(photo_paths))
    assert plain == [replace(row, **nothing) for row in photo_rows]
    for row in photo_rows:
        assert {row.cause, row.second_cause} <= {*CAUSES, "none"}
        assert row.cause != row.second_cause or row.cause == "none"
        assert all(0 <= getattr(row, cause) < 100 for cause in CAUSES)


def test_processes_and_the_model_say_the_same(photo_paths, photo_rows, tiny_model_folder):
    scorer = Scorer(str(tiny_model_folder), causes=True, readers=1, processes=True)
    assert list(scorer.score_paths(photo_paths)) == photo_rows
    model = load_model(tiny_model_folder)
    for file, row in zip(photo_paths[:3], photo_rows, strict=False):
        found = model.causes(file)
        assert (found.main, found.second, dict(found.severities)) == (
            row.cause,
            row.second_cause,
            {cause: getattr(row, cause) for cause in CAUSES},
        )
    with Image.open(photo_paths[5]) as image:
        assert model.causes(np.asarray(image.convert("RGB"))) == model.causes(photo_paths[5])


def test_the_service_says_the_same(photo_paths, photo_rows, service):
    with service.client() as client:
        for file, row in zip(photo_paths[:4], photo_rows, strict=False):
            with open(file, "rb") as content:  # noqa: PTH123
                body = content.read()
            (found,) = client.post("/v1/score?causes=true", content=body).json()["results"]
            assert said(found) == said(vars(row))
        (found,) = client.post("/v1/score", content=body).json()["results"]
        assert said(found) == dict.fromkeys(CAUSES) | {"cause": "", "second_cause": ""}
        assert client.post("/v1/score?causes=maybe", content=body).status_code == 422


def test_an_error_has_no_causes(tiny_model_folder, tmp_path):
    (tmp_path / "broken.jpg").write_text("no image")
    (row,) = Scorer(str(tiny_model_folder), causes=True).score_paths(tmp_path / "broken.jpg")
    assert isinstance(row, ScoreRow)
    assert (row.cause, row.blur) == ("", None)
