"""`qfm cull`, with the default model."""

import csv
import shutil
import signal
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.culling.row import CULL_SCHEMA

from ..image.clips import clip, numbered


@pytest.fixture
def photos(photo_folder, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for name in ("photo_00.jpg", "photo_03.jpg"):
        shutil.copy(photo_folder / name, folder / name)
    shutil.copy(photo_folder / "photo_00.jpg", folder / "again.jpg")
    return folder


def hashes(folder):
    return {path: path.read_bytes() for path in folder.iterdir() if path.suffix == ".jpg"}


def test_one_of_a_thing_is_no_plural(qfm, photo_folder, tmp_path):
    shutil.copy(photo_folder / "photo_00.jpg", tmp_path / "a.jpg")
    command = ("cull", tmp_path / "a.jpg", "--out", tmp_path / "cull.csv", "--xmp")
    assert "Wrote 1 XMP sidecar." in qfm(*command).err
    assert "1 file already has a row." in qfm(*command, "--resume").err


def test_table_page_and_sidecars(qfm, photos, tmp_path):
    out, page = tmp_path / "cull.csv", tmp_path / "cull.html"
    before = hashes(photos)
    answer = qfm("cull", photos, "--out", out, "--report", page, "--xmp")
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(out.open(newline="")))
    assert list(rows[0]) == list(CULL_SCHEMA)
    assert [row["photos"] for row in rows] == ["2", "2", "1"]
    assert "3 photos of 2 moments" in answer.err
    assert "1 exact duplicate," in answer.err
    assert "Wrote 3 XMP sidecars." in answer.err
    assert sorted(path.name for path in photos.glob("*.xmp")) == [
        "again.jpg.xmp", "photo_00.jpg.xmp", "photo_03.jpg.xmp"
    ]  # fmt: skip
    assert hashes(photos) == before
    assert "Photos to keep" in page.read_text()
    answer = qfm("cull", photos, "--out", out, "--xmp")
    assert "Wrote 0 XMP sidecars, 3 kept an existing rating." in answer.err
    answer = qfm("cull", photos, "--out", out, "--xmp", "--overwrite-ratings", "--xmp-name", "both")
    assert "Wrote 6 XMP sidecars." in answer.err
    assert (photos / "again.xmp").exists()
    # A culling table is also a score table.
    assert qfm("report", out, "--out", page, "--maps", 0).code == 0


def test_a_file_that_cannot_be_read_is_a_row_and_code_1(qfm, photos, tmp_path):
    (photos / "broken.jpg").write_text("no photo")
    answer = qfm("cull", photos, "--out", tmp_path / "cull.jsonl")
    assert answer.code == 1
    assert "broken.jpg" in answer.err
    assert len((tmp_path / "cull.jsonl").read_text().splitlines()) == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--out", "cull.txt"], "cull.txt"),
        (["--out", "cull.csv", "--report", "cull.pdf"], "cull.pdf"),
        (["--out", "cull.csv", "--xmp-name", "stem"], "--xmp-name has no effect without --xmp"),
        (["--out", "cull.csv", "--overwrite-ratings"], "no effect without --xmp"),
    ],
)
def test_mistakes_are_one_sentence(qfm, photos, tmp_path, monkeypatch, options, said):
    monkeypatch.chdir(tmp_path)
    answer = qfm("cull", photos, *options)
    assert answer.code == 2
    assert said in answer.err
    assert "Traceback" not in answer.err
    assert not (tmp_path / "cull.csv").exists()


def test_a_killed_job_goes_on(qfm, start, tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    draw = np.random.default_rng(0)
    for number in range(140):
        pixels = np.kron(draw.integers(0, 256, (8, 8, 3)), np.ones((40, 40, 1))).astype(np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:03}.jpg")
    out = tmp_path / "cull.csv"
    shards = tmp_path / "cull.csv.job" / "shards"
    process = start("cull", folder, "--out", out, "--readers", 1)
    while process.poll() is None and not (shards.is_dir() and list(shards.glob("*.jsonl"))):
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    if not Path(out).exists():  # the kill came before its end
        assert qfm("cull", folder, "--out", out).code == 2
    answer = qfm("cull", folder, "--out", out, "--resume", "--readers", 1)
    assert answer.code == 0, answer.err
    rows = list(csv.DictReader(out.open(newline="")))
    assert sorted(row["path"] for row in rows) == [f"{folder}/{n:03}.jpg" for n in range(140)]


def test_a_photo_that_is_gone_is_said_to_be_left_out(qfm, photos, tmp_path):
    out = tmp_path / "cull.csv"
    qfm("cull", photos, "--out", out)
    (photos / "again.jpg").unlink()
    answer = qfm("cull", photos, "--out", out, "--resume")
    assert f"{out} leaves out 1 photo that no longer exists." in answer.err
    assert len(out.read_text().splitlines()) == 3


def test_a_photo_that_is_named_twice_is_one_photo(qfm, photos, tmp_path):
    out, folder = tmp_path / "cull.csv", photos.parent / "elsewhere"
    folder.mkdir()
    twice = folder / ".." / photos.name
    names = sorted(path.name for path in photos.iterdir())
    for more in (twice, twice, photos):
        assert qfm("cull", photos, more, "--out", out, "--resume").code == 0
        rows = list(csv.DictReader(out.open(newline="")))
        assert sorted(Path(row["path"]).name for row in rows) == names


def test_a_video_named_like_a_photo_is_an_error_row(qfm, photos, tmp_path):
    pytest.importorskip("av", reason="videos need the extra 'video'")
    (photos / "sent.jpg").write_bytes(clip(numbered(10)))
    out = tmp_path / "cull.csv"
    answer = qfm("cull", photos, "--out", out)
    assert answer.code == 1, answer.err
    assert "sent.jpg': it is a video, and qfm cull ranks photos" in answer.err
    assert len(out.read_text().splitlines()) == 5


def test_names_that_are_not_text_are_read_back(qfm, photos, tmp_path):
    out = tmp_path / "cull.csv"
    for name, target in (("\udcff.jpg", "photo_03.jpg"), ("\u05d0\U0001f600.jpg", "photo_00.jpg")):
        shutil.copy(photos / target, photos / name)
    qfm("cull", photos, "--out", out)
    answer = qfm("cull", photos, "--out", out, "--resume")
    assert "leaves out" not in answer.err
    assert len(out.read_text("utf-8", "surrogateescape").splitlines()) == 6


def test_a_video_is_refused(qfm, tmp_path):
    (tmp_path / "clip.mp4").touch()
    answer = qfm("cull", tmp_path / "clip.mp4", "--out", tmp_path / "cull.csv")
    assert answer.code == 2
    assert "clip.mp4 is a video" in answer.err
