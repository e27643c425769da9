import os
import subprocess
import sys
import textwrap
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import ImageFile

from qfm_iqm.errors import ImageError
from qfm_iqm.image.decode import read_image

from .samples import FILES, pixels, refusal


def test_nothing_is_printed_about_damage():
    """In a separate process, where neither warnings nor log lines are captured."""
    script = """
        import struct
        from qfm_iqm.errors import ImageError
        from qfm_iqm.image.decode import read_image
        from PIL import Image
        import io, warnings
        tags = [(256, 4, 1, 9), (257, 4, 1, 9), (258, 3, 1, 8), (262, 3, 1, 2), (277, 3, 1, 99),
                (273, 4, 1, 8), (282, 5, 1, 99999)]
        directory = b"".join(struct.pack("<HHII", *tag) for tag in tags)
        bad = b"II*\\0" + struct.pack("<IH", 8, len(tags)) + directory + bytes(4)
        file = io.BytesIO()
        Image.new("RGB", (64, 64)).save(file, "TIFF", compression="tiff_lzw")
        for data in (bad, file.getvalue()[:-40], file.getvalue()[:120]):
            for allow_truncated in (False, True):
                try:
                    read_image(data, allow_truncated=allow_truncated)
                except ImageError:
                    pass
    """
    finished = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(script)],
        capture_output=True,
        text=True,
        check=True,
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path)},
    )
    assert finished.stdout == ""
    assert finished.stderr == ""


def test_the_filters_for_warnings_are_left_as_they_were():
    before = list(warnings.filters)
    read_image(FILES["jpeg"])
    with pytest.raises(ImageError):
        read_image(b"II*\0")
    assert list(warnings.filters) == before


def test_threads_with_and_without_truncation_do_not_disturb_each_other():
    cut = {name: FILES[name][: len(FILES[name]) // 2] for name in ("jpeg", "png")}
    expected = {name: pixels(data, allow_truncated=True) for name, data in cut.items()}
    whole = pixels(FILES["jpeg"])
    before = list(warnings.filters)

    def job(number):
        name = ("jpeg", "png")[number % 2]
        if number % 3 == 0:
            refusal(cut[name])
        elif number % 3 == 1:
            np.testing.assert_array_equal(pixels(cut[name], allow_truncated=True), expected[name])
        else:
            np.testing.assert_array_equal(pixels(FILES["jpeg"]), whole)
        assert ImageFile.LOAD_TRUNCATED_IMAGES is False

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(job, range(96)))
    assert list(warnings.filters) == before
