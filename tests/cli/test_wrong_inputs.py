"""Wrong inputs are refused with one sentence, and nothing is written."""

import os
import shutil
import subprocess
import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from PIL import Image

from ..image.raws import dng
from ..image.samples import PHOTO
from .conftest import ENVIRONMENT, QFM


@pytest.fixture
def folder(tmp_path, photo_folder, tiny_model_folder, monkeypatch):
    """Photos, tables, lists and a model in the current folder."""
    monkeypatch.chdir(tmp_path)
    shutil.copytree(photo_folder, "photos")
    shutil.copy(photo_folder / "photo_00.jpg", "photo.jpg")
    shutil.copy(photo_folder / "photo_05.png", "photo.png")
    Path("model").symlink_to(tiny_model_folder)
    Path("plain.csv").write_text("name,score\nphoto.jpg,3\n")
    Path("scored.csv").write_text("path,score,model\nphoto.jpg,30,default\n")
    return tmp_path


REFUSED = [
    ("score --list photo.jpg -m model", "The list photo.jpg is not text"),
    ("score --list photo.png -m model", "The list photo.png is not text"),
    ("cull --list photo.jpg -m model --out t.csv", "The list photo.jpg is not text"),
    ("report plain.csv --out r.html --root nowhere", "--root nowhere: there is no such folder."),
    ("report scored.csv --out r.html -m vit-tiny",
     "--model vit-tiny did not score these images, default did"),
    ("explain photo.png -m model --out map.png --raw develop",
     "--raw has no effect on an image that is not a camera RAW file"),
    ("explain http://127.0.0.1:1/a.jpg -m model --out map.png",
     "cannot read 'http://127.0.0.1:1/a.jpg': 127.0.0.1:1 cannot be reached"),
    ("export --to onnx -m model --out /proc/onnx", "'/proc/onnx' cannot be written: No such file"),
    ("train photos", "photos cannot be read: Is a directory.\n"),
    ("bench ablate photos", "photos cannot be read: Is a directory.\n"),
    ("score photos -m model --out /proc/t.csv",
     "The job /proc/t.csv.job cannot be written: No such file or directory.\n"),
]  # fmt: skip


@pytest.mark.parametrize(("line", "sentence"), REFUSED, ids=[line for line, _ in REFUSED])
def test_it_is_refused(qfm, folder, line, sentence):
    before = sorted(folder.rglob("*"))
    answer = qfm(*line.split())
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert sorted(folder.rglob("*")) == before


@pytest.fixture
def closed_folder(monkeypatch):
    """A folder `photos` that may not be listed; root takes the rights of nobody for the test."""
    root = os.geteuid() == 0
    with TemporaryDirectory() as folder:  # not `tmp_path`, which only its owner may enter
        monkeypatch.chdir(folder)
        Path(folder).chmod(0o777)
        Path("photos").mkdir(mode=0)
        if root:
            os.seteuid(65534)
        yield
        if root:
            os.seteuid(0)
        Path("photos").chmod(0o755)
        monkeypatch.undo()


@pytest.mark.usefixtures("closed_folder")
@pytest.mark.parametrize("verb", [["score"], ["cull", "--out", "t.csv"]])
def test_a_folder_that_cannot_be_listed_is_not_called_empty(qfm, verb):
    answer = qfm(*verb, "photos")
    assert answer.code == 2
    assert answer.err == "qfm: The folder photos cannot be listed.\n"


@pytest.mark.usefixtures("closed_folder")
@pytest.mark.parametrize(
    "line",
    [
        "evaluate photos/labels.csv",
        "compare photos/a.csv photos/b.csv",
        "report photos/scores.csv --out r.html",
        "calibrate photos/ratings.csv --out model",
        "info -m photos/model",
        "score x.jpg -m photos/model",
        "data check livec --root photos/livec",
        "bench cross photos/labels.csv",
        "train photos/recipe.toml",
        f"info -m {'long' * 100}",
    ],
)
def test_a_place_that_the_system_refuses_is_one_sentence(qfm, line):
    answer = qfm(*line.split())
    assert answer.code == 2
    assert answer.out == ""
    assert answer.err.startswith("qfm: ")
    assert answer.err.endswith((": Permission denied.\n", ": File name too long.\n"))
    assert len(answer.err.splitlines()) == 1


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Says nothing."""


def test_a_photo_of_a_web_server_is_explained(qfm, folder, monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/photo.png"
        answer = qfm("explain", url, "-m", "model", "--out", "map.png")
        server.shutdown()
    assert answer.code == 0, answer.err
    local = qfm("explain", "photo.png", "-m", "model", "--out", "local.png")
    assert answer.out.replace(url, "photo.png").replace("map.png", "local.png") == local.out
    assert Path("map.png").read_bytes() == Path("local.png").read_bytes()


def test_a_raw_photo_is_developed(qfm, folder):
    small = np.asarray(Image.fromarray(PHOTO).resize((96, 72)))
    Path("raw.dng").write_bytes(dng(small))
    answer = qfm("explain", "raw.dng", "-m", "model", "--out", "map.png", "--raw", "develop")
    assert answer.code == 0, answer.err


@pytest.mark.parametrize("out", [(), ("--out", "t.csv")])
def test_without_a_video_there_is_no_table_of_frames(qfm, folder, out):
    answer = qfm("score", "photo.jpg", "-m", "model", "--frames", "f.csv", *out)
    assert answer.code == 0
    assert "No frame of a video was scored: f.csv is not written." in answer.err
    assert not Path("f.csv").exists()


def test_a_report_without_maps_needs_no_torch(folder):
    """Python says which modules it imports."""
    process = subprocess.run(
        [*QFM, "report", "scored.csv", "--out", "r.html", "--maps", "0", "-m", "default"],
        env=os.environ | ENVIRONMENT | {"PYTHONPROFILEIMPORTTIME": "1"},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert process.returncode == 0, process.stderr
    imported = {line.rpartition("|")[2].strip() for line in process.stderr.splitlines()}
    assert "qfm_iqm.report.scores" in imported
    assert "torch" not in imported
