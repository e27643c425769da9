"""`qfm score` and `qfm gate` over WebDataset's shards; Ray: `tests/scoring/test_ray_job.py`."""

import csv
import io
import json
import shutil
import tarfile
from dataclasses import replace
from pathlib import Path

import pytest

from qfm_iqm.scoring.table import read_rows


@pytest.fixture
def shards(photo_folder, tmp_path):
    """Twelve photos with their captions in two shards; the folder of the photos as they were."""
    folder = tmp_path / "shards"
    folder.mkdir()
    photos = sorted(photo_folder.iterdir())
    for number in range(2):
        with tarfile.open(folder / f"shard-{number}.tar", "w") as tar:
            for photo in photos[number * 6 : number * 6 + 6]:
                tar.add(photo, photo.name)
                caption = tarfile.TarInfo(f"{photo.stem}.txt")
                caption.size = 7
                tar.addfile(caption, io.BytesIO(b"a photo"))
    return folder


def by_name(rows):
    return {Path(row.path).name: replace(row, path="") for row in rows}


def test_each_member_is_a_row_as_of_a_file(qfm, shards, photo_folder, tiny_model_folder, tmp_path):
    out = tmp_path / "scores.csv"
    answer = qfm("score", shards, "-m", tiny_model_folder, "-o", out)
    assert answer.code == 0, answer.err
    assert "12 other files passed over" in answer.err
    rows = list(read_rows(out))
    assert rows[0].path == f"{shards}/shard-0.tar/photo_00.jpg"
    assert qfm("score", photo_folder, "-m", tiny_model_folder, "-o", tmp_path / "b.csv").code == 0
    assert by_name(rows) == by_name(read_rows(tmp_path / "b.csv"))
    again = qfm("score", shards, "-m", tiny_model_folder, "-o", out, "--resume")
    assert "12 files have their row already" in again.err


def test_processes_read_archives_too(qfm, shards, tiny_model_folder, tmp_path):
    tables = []
    for options in ([], ["--max-memory", "8GB"]):
        answer = qfm("score", shards, "-m", tiny_model_folder, "-o", tmp_path / "a.csv", *options)
        assert answer.code == 0, answer.err
        tables.append(list(read_rows(tmp_path / "a.csv")))
    assert tables[0] == tables[1]


def test_a_broken_shard_is_an_error_beside_what_it_holds(qfm, shards, tiny_model_folder):
    content = (shards / "shard-1.tar").read_bytes()
    (shards / "shard-1.tar").write_bytes(content[: len(content) // 2])
    answer = qfm("score", shards, "-m", tiny_model_folder)
    assert answer.code == 1
    *_, last = csv.DictReader(io.StringIO(answer.out))
    assert last["path"].endswith("shards/shard-1.tar")
    assert "the archive breaks off or is damaged after" in last["error"]


def test_the_report_shows_members(qfm, shards, tiny_model_folder, tmp_path):
    options = ["-m", tiny_model_folder, "--report", tmp_path / "page.html"]
    assert qfm("score", shards / "shard-0.tar", *options).code == 0
    page = (tmp_path / "page.html").read_text("utf-8")
    assert page.count("UklGR") == 6  # as WebP begins in base64: thumbnails


def test_the_gate_takes_shards(qfm, shards, tiny_model_folder, tmp_path):
    out = tmp_path / "gate.json"
    answer = qfm("gate", shards, "-m", tiny_model_folder, "--min", "-1000", "--json", out)
    assert answer.code == 0, answer.err
    assert len(json.loads(out.read_text())["images"]) == 12


def test_culling_is_for_photos_beside_each_other(qfm, shards, photo_folder, tmp_path):
    shutil.copy(photo_folder / "photo_00.jpg", shards)
    out = tmp_path / "cull.csv"
    answer = qfm("cull", shards, "-o", out)
    assert answer.code == 0, answer.err
    assert "2 other files passed over" in answer.err
    answer = qfm("cull", shards / "shard-0.tar", "-o", tmp_path / "other.csv")
    assert answer.code == 1
    assert "it is a tar archive; qfm score takes the images in it" in answer.err
