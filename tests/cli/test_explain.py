import sys

import pytest
from PIL import Image


def test_photo_map_and_scale_are_drawn(qfm, tiny_model_folder, photo_folder, tmp_path):
    out = tmp_path / "map.png"
    answer = qfm("explain", photo_folder / "photo_05.png", "-m", tiny_model_folder, "--out", out)
    assert answer.code == 0, answer.err
    with Image.open(out) as figure:
        assert figure.width > 600
    assert "patches" in answer.out
    assert str(out) in answer.out
    again = qfm("explain", photo_folder / "photo_06.png", "-m", tiny_model_folder, "--out", out)
    assert again.code == 0, again.err  # a map is replaced, a photo is not
    photo = tmp_path / "photo.png"
    photo.write_bytes((photo_folder / "photo_06.png").read_bytes())
    refused = qfm("explain", photo_folder / "photo_05.png", "-m", tiny_model_folder, "--out", photo)
    assert refused.code == 2
    assert "exists and is not a file of this kind written by qfm" in refused.err
    assert photo.read_bytes() == (photo_folder / "photo_06.png").read_bytes()


@pytest.mark.parametrize(
    ("image", "out", "sentence"),
    [
        ("photo_05.png", "map.pdf", "must end in .svg or .png"),
        ("photo_05.png", "gone/map.png", "there is no folder gone"),
        ("gone.jpg", "map.png", "cannot read"),
    ],
)
def test_mistakes_are_one_sentence(
    qfm, tiny_model_folder, photo_folder, tmp_path, monkeypatch, image, out, sentence
):
    monkeypatch.chdir(tmp_path)
    answer = qfm("explain", photo_folder / image, "-m", tiny_model_folder, "--out", out)
    assert answer.code == 2
    assert answer.err.startswith("qfm: ")
    assert sentence in answer.err
    assert len(answer.err.splitlines()) == 1
    assert not list(tmp_path.iterdir())


def test_without_matplotlib_it_says_what_to_install(qfm, photo_folder, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    for name in ("map_figure", "drawing"):
        monkeypatch.delitem(sys.modules, f"qfm_iqm.report.{name}", raising=False)
    answer = qfm("explain", photo_folder / "photo_05.png", "--out", tmp_path / "map.png")
    assert answer.code == 2
    assert answer.err == (
        "qfm: A quality map needs matplotlib: install it with pip install 'qfm-iqm[figures]'.\n"
    )
