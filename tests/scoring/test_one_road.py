"""Every way to score an image gives the same result, also for damaged files."""

import json
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image
from qfm_iqm.model.folder import load_model
from qfm_iqm.scoring.scorer import Scorer

from ..image.damaged import WHOLE, damaged_files

COUNT = 162  # six of each format
MAX_PIXELS = 1_000_000  # the shared service's


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    folder = tmp_path_factory.mktemp("damaged")
    paths = []
    files = [*WHOLE.items(), *damaged_files(COUNT)]
    for number, (name, content) in enumerate(files):
        path = folder / f"{number:04d}-{name}"
        path.write_bytes(content)
        paths.append(str(path))
    return paths


def reason(error):
    """An error without the name of its file."""
    return error.partition(": ")[2] if error.startswith("cannot read ") else error


def answers(rows):
    return [(row["score"], reason(row["error"])) for row in rows]


def of_scorer(paths, model, **options):
    scorer = Scorer(load_model(model), max_pixels=MAX_PIXELS, readers=2, **options)
    return answers({"score": row.score, "error": row.error} for row in scorer.score_paths(paths))


def of_gate(paths, model, folder):
    out = folder / "gate.json"
    command = ["gate", *paths, "--min", "0", "--json", out]
    options = ["--model", model, "--max-megapixels", MAX_PIXELS / 1e6]
    CliRunner().invoke(app, [*map(str, command + options)])
    verdicts = json.loads(out.read_text())["images"]
    errors = [one["reason"] if one["outcome"] == "error" else "" for one in verdicts]
    rows = zip(verdicts, errors, strict=True)
    return answers({"score": one["score"], "error": error} for one, error in rows)


def of_service(paths, service):
    rows = []
    with service.client() as client:
        for path in paths:
            with open(path, "rb") as file:  # noqa: PTH123
                found = client.post("/v1/score", files=[("files", ("image", file.read()))])
            rows += found.json()["results"]
    return answers(rows)


def of_reading(paths):
    found = []
    for path in paths:
        try:
            read_image(path, max_pixels=MAX_PIXELS)
        except ImageError as error:
            found.append(reason(str(error)))
        else:
            found.append("")
    return found


def of_model(paths, model):
    loaded, rows = load_model(model), []
    for path in paths:
        try:
            rows.append({"score": loaded.score(path).value, "error": ""})
        except ImageError as error:
            rows.append({"score": None, "error": str(error)})
    return answers(rows)


def of_archive(paths, model, folder):
    with tarfile.open(folder / "shard.tar", "w") as tar:
        for path in paths:
            tar.add(path, Path(path).name)
    return of_scorer([f"{folder}/shard.tar/{Path(path).name}" for path in paths], model)


def of_parquet(paths, model, folder):
    rows = [{"bytes": Path(path).read_bytes(), "path": Path(path).name} for path in paths]
    pq.write_table(pa.table({"image": rows}), folder / "photos.parquet", row_group_size=20)
    return of_scorer([f"{folder}/photos.parquet/{Path(path).name}" for path in paths], model)


def test_all_ways_give_one_answer(paths, tiny_model_folder, service, tmp_path):
    expected = of_scorer(paths, tiny_model_folder)
    whole = expected[: len(WHOLE)]
    assert [error for _, error in whole] == [""] * len(WHOLE)
    assert 0.4 < sum(error != "" for _, error in expected) / len(expected) < 0.9
    ways = {
        "processes": of_scorer(paths, tiny_model_folder, processes=True),
        "gate": of_gate(paths, tiny_model_folder, tmp_path),
        "serve": of_service(paths, service),
        "archive": of_archive(paths, tiny_model_folder, tmp_path),
        "parquet": of_parquet(paths, tiny_model_folder, tmp_path),
        "model.score": of_model(paths, tiny_model_folder),
    }
    for way, found in ways.items():
        differ = []
        for path, ours, theirs in zip(paths, expected, found, strict=True):
            same = ours[1] == theirs[1] and ours[0] == pytest.approx(theirs[0], abs=1e-4)
            differ += [] if same else [(path, ours, theirs)]
        assert not differ, way
    assert of_reading(paths) == [error for _, error in expected]
