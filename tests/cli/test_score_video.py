"""Videos, pairs and RAW files on the command line."""

import csv
import json

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from qfm_iqm.cli.commands import app
from qfm_iqm.errors import QFMError

from ..image.clips import clip, numbered
from ..image.raws import dng
from ..image.samples import PHOTO

SMALL = np.asarray(Image.fromarray(PHOTO).resize((96, 72)))


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    folder = tmp_path_factory.mktemp("mixed")
    (folder / "clip.mp4").write_bytes(clip(numbered(25)))
    (folder / "cut.avi").write_bytes(clip(numbered(25), container="avi")[:-200])
    Image.fromarray(PHOTO).save(folder / "live.jpg")
    (folder / "live.mov").write_bytes(clip(numbered(10), container="mov"))
    (folder / "raw.dng").write_bytes(dng(SMALL))
    return folder


def run(*arguments):
    result = CliRunner().invoke(app, list(map(str, arguments)))
    return result.exit_code, result.stdout, result.stderr


def test_a_folder_of_all_kinds(folder, tmp_path):
    out, frames, report = (tmp_path / name for name in ("s.csv", "f.csv", "r.html"))
    code, _, said = run(
        "score", folder, "--out", out, "--frames", frames, "--report", report, "--raw", "develop"
    )
    rows = {row["path"].rpartition("/")[2]: row for row in csv.DictReader(out.open())}
    assert code == 1
    assert list(rows) == ["clip.mp4", "cut.avi", "live.jpg", "raw.dng"]
    assert "1 file joined with their photo" in said
    assert rows["cut.avi"]["error"].endswith("its data end too early (a truncated file)")
    assert (rows["clip.mp4"]["frames"], rows["raw.dng"]["width"]) == ("3", "96")
    times = [row["time"] for row in csv.DictReader(frames.open())]
    assert times == ["0.0", "1.0", "2.0"]
    block = report.read_text().split('<script type="application/json" id="data">')[1]
    data = json.loads(block.split("</script>")[0])
    assert [len(points) for points in data["curves"]["0"]] == [3, 3]
    assert "0" in data["thumbnails"]  # a frame of the video


def test_a_gate_takes_videos(folder, tmp_path):
    run("gate", folder / "clip.mp4", "--min", "0", "--json", tmp_path / "g.json")
    (found,) = json.loads((tmp_path / "g.json").read_text())["images"]
    assert found["outcome"] == "pass"


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        (["--every", "0"], "--every must be a finite number of seconds above 0, not 0."),
        (["--every", "nan"], "--every must be a finite number of seconds above 0, not nan."),
        (["--frames", "frames.txt"], "its name must end in .csv"),
        (["--no-pairs"], "--no-pairs has no effect where no folder is named"),
        (["--frames", "f.csv", "--engine", "ray"], "--frames has no effect with --engine ray"),
    ],
)
def test_what_makes_no_sense_is_refused(folder, options, sentence, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(app, ["score", str(folder / "clip.mp4"), *options])
    assert isinstance(result.exception, QFMError)
    assert sentence in str(result.exception)
