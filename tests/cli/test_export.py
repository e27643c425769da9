import csv
import io
import re

import pytest

pytest.importorskip("onnxruntime")
pytest.importorskip("onnxscript")


def rows_of(answer):
    assert answer.code == 0, answer.err
    return list(csv.DictReader(io.StringIO(answer.out)))


def test_a_model_is_exported_held_against_rated_photos_and_scored(
    qfm, photo_folder, tiny_model_folder, tmp_path
):
    out, table = tmp_path / "exported", tmp_path / "rated.csv"
    theirs = rows_of(qfm("score", photo_folder, "-m", tiny_model_folder))
    lines = [f"{row['path'].rsplit('/', 1)[1]},{row['score']}" for row in theirs]
    table.write_text("name,mos\n" + "\n".join(lines) + "\n")
    answer = qfm(
        "export", "--model", tiny_model_folder, "--to", "onnx", "--out", out,
        "--table", table, "--root", photo_folder,
    )  # fmt: skip
    assert answer.code == 0
    assert re.search(r"onnx in fp32; scores of \d+ crops differ from torch's by up to", answer.err)
    assert re.search(r"SRCC changes by [+-]0\.0000", answer.err)
    assert {path.name for path in out.iterdir()} == {"card.json", "runtime.json", "model.onnx"}
    ours = rows_of(qfm("score", photo_folder, "--model", out))
    assert {(row["runtime"], row["precision"]) for row in ours} == {("onnx", "fp32")}
    for row, torchs in zip(ours, theirs, strict=True):
        assert float(row["score"]) == pytest.approx(float(torchs["score"]), abs=0.01)
        assert row["weights"] == torchs["weights"]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--to", "abacus"], "'abacus' is not one of"),
        (["--to", "onnx", "--precision", "bf16"], "'bf16' is not one of"),
        (["--to", "onnx", "--precision", "int8"], "int8 is calibrated on real photos"),
    ],
)
def test_mistakes_are_sentences(qfm, tiny_model_folder, tmp_path, arguments, sentence):
    answer = qfm("export", "--model", tiny_model_folder, "--out", tmp_path / "out", *arguments)
    assert answer.code == 2
    assert sentence in answer.err
    assert "Traceback" not in answer.err
    assert list(tmp_path.iterdir()) == []


def test_a_folder_for_the_hub(qfm, tiny_model_folder, photo_folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    answer = qfm("export", "--to", "hub-folder", "-m", tiny_model_folder)
    assert answer.code == 0
    assert "hf upload OWNER/NAME tiny-test_vit-hub" in answer.err
    (row,) = rows_of(qfm("score", photo_folder / "photo_00.jpg", "-m", "tiny-test_vit-hub"))
    assert row["status"] == "ok"


@pytest.mark.parametrize(
    "given", [["--precision", "fp32"], ["--photos", "a"], ["--table", "a.csv"], ["--label", "mos"]]
)
def test_what_a_hub_folder_has_no_use_for_is_refused(qfm, tiny_model_folder, tmp_path, given):
    where = ["-m", tiny_model_folder, "-o", tmp_path / "out"]
    answer = qfm("export", "--to", "hub-folder", *where, *given)
    assert answer.code == 2
    assert f"{given[0]} has no effect with --to hub-folder" in answer.err
    assert list(tmp_path.iterdir()) == []
