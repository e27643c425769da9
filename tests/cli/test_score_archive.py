"""`qfm score` and `qfm gate` over archives of images; Ray: `tests/scoring/test_ray_job.py`."""

import csv
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from qfm_iqm.scoring.table import read_rows


def tar_of(photos, path):
    """Photos and their captions, as WebDataset has them."""
    with tarfile.open(path, "w") as tar:
        for photo in photos:
            tar.add(photo, photo.name)
            caption = tarfile.TarInfo(f"{photo.stem}.txt")
            caption.size = 7
            tar.addfile(caption, io.BytesIO(b"a photo"))


def parquet_of(photos, path):
    """Photos and their captions, as Hugging Face datasets have them."""
    datasets = pytest.importorskip("datasets")
    rows = [{"bytes": photo.read_bytes(), "path": photo.name} for photo in photos]
    features = datasets.Features({"image": datasets.Image(), "text": datasets.Value("string")})
    columns = {"image": rows, "text": ["a photo"] * len(photos)}
    datasets.Dataset.from_dict(columns, features=features).to_parquet(path, batch_size=4)


WRITERS = {".tar": tar_of, ".parquet": parquet_of}


@pytest.fixture(params=WRITERS)
def ending(request):
    return request.param


@pytest.fixture
def shards(photo_folder, tmp_path, ending):
    """A folder of twelve photos with their captions in two shards."""
    folder = tmp_path / "shards"
    folder.mkdir()
    photos = sorted(photo_folder.iterdir())
    for number in range(2):
        WRITERS[ending](photos[number * 6 : number * 6 + 6], folder / f"shard-{number}{ending}")
    return folder


def by_name(rows):
    return {Path(row.path).name: replace(row, path="") for row in rows}


def test_each_member_is_a_row_as_of_a_file(
    qfm, shards, ending, photo_folder, tiny_model_folder, tmp_path
):
    out = tmp_path / "scores.csv"
    answer = qfm("score", shards, "-m", tiny_model_folder, "-o", out)
    assert answer.code == 0, answer.err
    assert ("12 other files skipped" in answer.err) == (ending == ".tar")
    rows = list(read_rows(out))
    assert rows[0].path == f"{shards}/shard-0{ending}/photo_00.jpg"
    assert qfm("score", photo_folder, "-m", tiny_model_folder, "-o", tmp_path / "b.csv").code == 0
    assert by_name(rows) == by_name(read_rows(tmp_path / "b.csv"))
    again = qfm("score", shards, "-m", tiny_model_folder, "-o", out, "--resume")
    assert "12 files already have a row" in again.err


def test_processes_read_archives_too(qfm, shards, tiny_model_folder, tmp_path):
    tables = []
    for options in ([], ["--max-memory", "8GB"]):
        answer = qfm("score", shards, "-m", tiny_model_folder, "-o", tmp_path / "a.csv", *options)
        assert answer.code == 0, answer.err
        tables.append(list(read_rows(tmp_path / "a.csv")))
    assert tables[0] == tables[1]


SAID = {
    ".tar": "the archive is truncated or damaged after",
    ".parquet": "its data are damaged",
}


def test_a_broken_shard_is_an_error_beside_what_it_holds(qfm, shards, ending, tiny_model_folder):
    content = (shards / f"shard-1{ending}").read_bytes()
    (shards / f"shard-1{ending}").write_bytes(content[: len(content) // 2])
    answer = qfm("score", shards, "-m", tiny_model_folder)
    assert answer.code == 1
    *_, last = csv.DictReader(io.StringIO(answer.out))
    assert last["path"].endswith(f"shards/shard-1{ending}")
    assert SAID[ending] in last["error"]


def test_the_report_shows_members(qfm, shards, ending, tiny_model_folder, tmp_path):
    options = ["-m", tiny_model_folder, "--report", tmp_path / "page.html"]
    assert qfm("score", shards / f"shard-0{ending}", *options).code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("UklGR") == 6  # start of WebP in base64: thumbnails


def test_the_gate_takes_shards(qfm, shards, tiny_model_folder, tmp_path):
    out = tmp_path / "gate.json"
    answer = qfm("gate", shards, "-m", tiny_model_folder, "--min", "-1000", "--json", out)
    assert answer.code == 0, answer.err
    assert len(json.loads(out.read_text())["images"]) == 12


def test_a_table_of_scores_is_no_archive(qfm, shards, tiny_model_folder):
    out = shards / "scores.parquet"
    for _ in range(2):
        answer = qfm("score", shards, "-m", tiny_model_folder, "-o", out)
        assert answer.code == 0, answer.err
        assert len(read_rows(out)) == 12
    answer = qfm("score", out, "-m", tiny_model_folder)
    assert answer.code == 1
    assert "none of its columns holds images" in answer.out


def test_culling_is_for_photos_beside_each_other(
    qfm, shards, ending, photo_folder, tiny_model_folder, tmp_path
):
    shutil.copy(photo_folder / "photo_00.jpg", shards)
    out = tmp_path / "cull.csv"
    answer = qfm("cull", shards, "-m", tiny_model_folder, "-o", out)
    assert answer.code == 0, answer.err
    assert "2 other files skipped" in answer.err
    other = tmp_path / "other.csv"
    answer = qfm("cull", shards / f"shard-0{ending}", "-m", tiny_model_folder, "-o", other)
    assert answer.code == 1
    assert "; qfm score takes the images in it" in answer.err
