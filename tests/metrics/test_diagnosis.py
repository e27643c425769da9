"""The derived figures of a diagnosis, and its plain form."""

import json
from dataclasses import replace

import pytest

from qfm_iqm.metrics.aliasing import AliasedPair, Aliasing
from qfm_iqm.metrics.diagnosis import Diagnosis, Response

SPACE = Aliasing(0.25, 0.5, 10, 1.0, (AliasedPair(0, 2, 0.9, 1.5),))
FOUND = Diagnosis(
    model="tiny",
    weights_sha256="ab",
    names=("a", "b", "c"),
    mos=(1.0, 2.0, 4.0),
    trained=SPACE,
    backbone=None,
    backbone_missing="No hub.",
    noise_sensitivity=0.1,
    fallbacks=1,
    responses=tuple(
        Response(kind, level, 2.0 * level, change=0.1 * level, drop=0.05 * level)
        for kind in ("blur", "noise")
        for level in (1, 2, 3)
    ),
    alpha=0.1,
    tau=0.25,
    seed=0,
)


def test_selectivity_divides_the_mean_response_by_the_answer_to_semantics():
    assert FOUND.quality_sensitivity == pytest.approx(0.2)
    assert FOUND.selectivity == pytest.approx(2)
    assert FOUND.selectivity_missing == ""
    assert {kind: [one.level for one in rows] for kind, rows in FOUND.by_distortion.items()} == {
        "blur": [1, 2, 3],
        "noise": [1, 2, 3],
    }


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"noise_sensitivity": 1e-8},
            "the model's predictions do not change with added semantics.",
        ),
        ({"noise_sensitivity": 0.0, "alpha": 0.0}, "with alpha = 0, nothing is added"),
        (
            {"noise_sensitivity": 0.0, "responses": (Response("blur", 1, 0.6, 0.0, 0.0),)},
            "the model's predictions never change.",
        ),
    ],
)
def test_without_an_answer_to_semantics_there_is_no_selectivity(changes, sentence):
    found = replace(FOUND, **changes)
    assert found.selectivity is None
    assert found.selectivity_missing.startswith("Selectivity is undefined: ")
    assert sentence in found.selectivity_missing


def test_the_plain_form_holds_everything():
    plain = json.loads(json.dumps(FOUND.as_dict(), allow_nan=False))
    assert plain["settings"] == {
        "images": 3, "alpha": 0.1, "tau": 0.25, "neighbors": 10, "threshold": 1.0, "seed": 0,
    }  # fmt: skip
    assert plain["aliasing"] == {
        "random_pairs": 0.5,
        "trained": {
            "rate": 0.25,
            "pairs": [
                {"names": ["a", "c"], "mos": [1.0, 4.0], "similarity": 0.9, "label_gap": 1.5}
            ],
        },
        "backbone": None,
        "backbone_missing": "No hub.",
    }
    assert plain["selectivity"] == pytest.approx(2)
    assert plain["responses"][-1] == pytest.approx(
        {"distortion": "noise", "level": 3, "strength": 6.0, "change": 0.3, "drop": 0.15}
    )
    assert replace(FOUND, backbone=SPACE).as_dict()["aliasing"]["backbone"]["rate"] == 0.25
