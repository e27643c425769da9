"""Capture times from EXIF that Pillow writes and exiftool reads equally."""

import io
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image

from qfm_iqm.image.capture_time import capture_time
from qfm_iqm.image.decode_pool import read_ahead
from qfm_iqm.image.load import ReadingPolicy, read
from qfm_iqm.image.preprocess import Preprocessing


def encoded(tags, kind="JPEG"):
    exif = Image.Exif()
    exif.get_ifd(0x8769).update(tags)
    exif[0x0132] = "1999:01:01 00:00:00"  # the time of the file's change: not used
    content = io.BytesIO()
    pixels = np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8)
    Image.fromarray(pixels).save(content, kind, exif=exif)
    return content.getvalue()


CASES = [
    ({0x9003: "2024:05:01 12:30:05"}, "2024-05-01T12:30:05"),
    ({0x9003: "2024:05:01 12:30:05", 0x9291: "25"}, "2024-05-01T12:30:05.250000"),
    ({0x9003: "2024:05:01 12:30:05", 0x9291: "007", 0x9011: "-03:30"},
     "2024-05-01T12:30:05.007000-03:30"),
    ({0x9003: "0000:00:00 00:00:00", 0x9004: "2024:05:01 12:30:05"}, "2024-05-01T12:30:05"),
    ({0x9003: "2024:05:01 12:30:05", 0x9011: "+99:00"}, "2024-05-01T12:30:05"),
    ({0x9003: "2024:02:30 12:30:05"}, ""),
    ({0x9003: "    :  :     :  :  "}, ""),
    ({}, ""),
]  # fmt: skip


@pytest.mark.parametrize(("tags", "expected"), CASES)
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_times(tags, expected, kind):
    with Image.open(io.BytesIO(encoded(tags, kind))) as image:
        assert capture_time(image) == expected


def test_readings_carry_them_from_threads_and_from_processes(tmp_path):
    tags = {0x9003: "2024:05:01 12:30:05", 0x9291: "25", 0x9011: "+02:00"}
    path = tmp_path / "a.jpg"
    path.write_bytes(encoded(tags))
    policy = ReadingPolicy(Preprocessing(crop=48))
    expected = "2024-05-01T12:30:05.250000+02:00"
    assert read(str(path), policy).taken == expected
    for processes in (False, True):
        (found,) = read_ahead([str(path)], policy, 1, processes=processes, max_memory=None)
        assert found.taken == expected
    if shutil.which("exiftool"):
        told = subprocess.run(
            ["exiftool", "-s3", "-SubSecDateTimeOriginal", path], capture_output=True, text=True
        )
        assert told.stdout.strip() == "2024:05:01 12:30:05.25+02:00"
