"""Which files of a folder are one photo."""

import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.image.boxes import movie_seconds
from qfm_iqm.scoring.inputs import find_images
from qfm_iqm.scoring.pairs import followers

from ..image.clips import clip, numbered

LIVE = clip(numbered(20), container="mov")  # 2 s
LONG = clip(numbered(3), [0, 5, 10], container="mov")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = Path("trip")
    (root / "sub").mkdir(parents=True)
    for name, content in {
        "IMG_1.HEIC": b"", "IMG_1.MOV": LIVE,  # a Live Photo
        "IMG_2.JPG": b"", "IMG_2.MOV": LONG,  # a photo, and a video of the same name
        "IMG_3.MOV": LIVE,  # a video alone
        "IMG_4.jpg": b"", "IMG_4.CR2": b"", "IMG_4.dng": b"",  # RAW and JPEG
        "IMG_5.NEF": b"",  # RAW alone
        "IMG_6.png": b"", "IMG_6.dng": b"",  # no camera writes PNG: an export
        "IMG_7.jpg": b"", "IMG_7.mov": b"no movie",
        "sub/IMG_8.jpg": b"", "IMG_8.arw": b"",  # in different folders
    }.items():  # fmt: skip
        (root / name).write_bytes(content)
    return root


JOINED = {"trip/IMG_1.MOV", "trip/IMG_4.CR2", "trip/IMG_4.dng"}


def all_of(folder):
    return {str(path) for path in folder.rglob("*") if path.is_file()}


def test_a_pair_counts_as_its_photo(folder):
    found = find_images(["trip"], videos=True)
    assert set(found.files) == all_of(folder) - JOINED
    assert (found.joined, found.skipped) == (3, 0)
    assert set(find_images(["trip"], videos=True, pairs=False).files) == all_of(folder)
    photos = find_images(["trip"])
    assert not any(file.lower().endswith(".mov") for file in photos.files)


def test_a_named_file_is_always_scored(folder):
    named = ["trip/IMG_1.HEIC", "trip/IMG_1.MOV", "trip/IMG_4.CR2", "trip/IMG_4.jpg"]
    assert list(find_images(named, videos=True).files) == named
    assert set(find_images(["trip", *named], videos=True).files) == all_of(folder) - {
        "trip/IMG_4.dng"
    }


def test_only_files_that_are_taken_are_joined(folder):
    found = find_images(["trip"], include=["*.MOV", "*.CR2"], videos=True)
    assert set(found.files) == {f"trip/IMG_{n}.MOV" for n in (1, 2, 3)} | {"trip/IMG_4.CR2"}
    assert found.joined == 0


def test_in_a_bucket_too():
    fsspec = pytest.importorskip("fsspec")
    files = fsspec.filesystem("memory")
    for name, content in (("a.jpg", b""), ("a.mov", LIVE), ("b.jpg", b""), ("b.mov", LONG)):
        files.pipe(f"/live/{name}", content)
    urls = [f"memory://live/{name}" for name in ("a.jpg", "a.mov", "b.jpg", "b.mov")]
    assert followers(urls) == {"memory://live/a.mov"}


def test_the_length_that_a_movie_names():
    assert movie_seconds(io.BytesIO(LIVE)) == pytest.approx(2, abs=0.11)
    assert movie_seconds(io.BytesIO(LONG)) == pytest.approx(10.1, abs=0.2)
    for part in range(0, len(LIVE), 97):
        assert (movie_seconds(io.BytesIO(LIVE[:part])) or 2) == pytest.approx(2, abs=0.11)
    file = io.BytesIO()
    Image.fromarray(np.zeros((8, 8, 3), np.uint8)).save(file, "JPEG")
    assert movie_seconds(file) is None
