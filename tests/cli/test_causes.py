"""`--causes` and `--max-cause`: causes of low quality, in tables and as a gate."""

import csv
import json

import pytest

from qfm_iqm.causes.severity import CAUSES


def test_a_table_and_a_job_that_goes_on(qfm, photo_paths, photo_rows, tiny_model_folder, tmp_path):
    table = tmp_path / "scores.csv"
    command = ("score", *photo_paths[:3], "-m", tiny_model_folder, "-o", table)
    assert qfm(*command, "--causes").code == 0
    with table.open() as file:
        found = list(csv.DictReader(file))
    for texts, row in zip(found, photo_rows, strict=False):
        assert texts["cause"] == row.cause
        assert [float(texts[cause]) for cause in CAUSES] == [getattr(row, one) for one in CAUSES]
    # Rows with causes are complete and kept; rows without causes are scored again.
    named = [row.cause for row in photo_rows[:3]]
    for options, expected in (
        (("--resume",), named),
        ((), [""] * 3),
        (("--causes", "--resume"), named),
    ):
        assert qfm(*command, *options).code == 0
        with table.open() as file:
            assert [row["cause"] for row in csv.DictReader(file)] == expected


def test_a_gate_fails_what_a_cause_costs_too_much(
    qfm, photo_paths, photo_rows, tiny_model_folder, tmp_path
):
    out = tmp_path / "gate.json"
    middle = sorted(row.noise for row in photo_rows)[len(photo_rows) // 2]
    limits = {"noise": middle, "color": 60.0}
    asked = [text for cause, most in limits.items() for text in ("--max-cause", f"{cause}:{most}")]
    answer = qfm("gate", *photo_paths, "-m", tiny_model_folder, *asked, "--json", out)
    content = json.loads(out.read_text())
    expected = [
        "fail" if any(getattr(row, cause) > most for cause, most in limits.items()) else "pass"
        for row in photo_rows
    ]
    assert [one["outcome"] for one in content["images"]] == expected
    assert "fail" in expected
    assert "pass" in expected
    assert answer.code == 1
    assert content["rule"]["max_causes"] == limits


@pytest.mark.parametrize(
    ("limit", "sentence"),
    [
        (["smell:3"], "There is no cause 'smell': choose from blur, noise, "),
        (["blur"], "'blur' is not a cause's limit: give it as CAUSE:POINTS"),
        (["blur:nan"], "needs finite numbers"),
        (["blur:-1"], "0 points or more"),
        (["blur:1", "blur:2"], "is given twice for blur"),
    ],
)
def test_mistakes_about_causes_are_one_sentence(qfm, photo_paths, limit, sentence):
    asked = [text for one in limit for text in ("--max-cause", one)]
    answer = qfm("gate", photo_paths[0], *asked)
    assert answer.code == 2
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1


def test_explain_says_the_causes(qfm, photo_paths, photo_rows, tiny_model_folder, tmp_path):
    answer = qfm("explain", photo_paths[5], "-m", tiny_model_folder, "--out", tmp_path / "map.png")
    assert answer.code == 0, answer.err
    assert f"causes: {photo_rows[5].cause}" in answer.out


def test_a_page_of_fresh_scores_says_causes(qfm, photo_paths, tiny_model_folder, tmp_path):
    page = tmp_path / "page.html"
    answer = qfm("score", *photo_paths[:3], "-m", tiny_model_folder, "--report", page)
    assert answer.code == 0, answer.err
    assert '"cause"' in page.read_text("utf-8").split('id="data"')[1]
