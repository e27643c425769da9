import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from qfm_iqm.image.decode import read_image_uint8
from qfm_iqm.report.thumbnails import SIDE, thumbnails, worth_showing

scores = st.lists(st.none() | st.floats(0, 1), max_size=60)


@given(scores, st.integers(0, 70), st.booleans())
def test_the_worst_and_a_cross_section(values, count, higher):
    shown = worth_showing(values, count, higher_is_better=higher)
    scored = [place for place, value in enumerate(values) if value is not None]
    assert len(shown) == len(set(shown)) == min(count, len(scored))
    assert set(shown) <= set(scored)
    order = sorted(scored, key=lambda place: values[place] if higher else -values[place])
    assert shown == [place for place in order if place in set(shown)]
    sure = round(count * 0.6)
    assert shown[:sure] == order[: min(sure, len(shown))]
    if count >= 2 and scored:
        assert order[-1] in shown


def test_thumbnails_are_upright_small_and_alike(tmp_path):
    field = np.zeros((300, 600, 3), np.uint8)
    field[:, :300] = (200, 30, 30)
    Image.fromarray(field).save(tmp_path / "plain.png")
    exif = Image.Exif()
    exif[274] = 6  # rotated by 90 degrees
    Image.fromarray(field).save(tmp_path / "turned.jpg", exif=exif, quality=95)
    (tmp_path / "broken.jpg").write_text("no image")
    names = ("plain.png", "broken.jpg", "turned.jpg")
    plain, broken, turned = thumbnails([str(tmp_path / name) for name in names])
    assert broken is None
    small = Image.open(io.BytesIO(base64.b64decode(plain)))
    assert small.format == "WEBP"
    assert small.size == (SIDE, SIDE // 2)
    small = Image.open(io.BytesIO(base64.b64decode(turned)))
    assert small.size == (SIDE // 2, SIDE)
    whole = read_image_uint8(tmp_path / "turned.jpg").astype(float)
    pixels = np.asarray(small.convert("RGB")).astype(float)
    for part in (slice(0, 100), slice(140, 240)):  # the upper and the lower half
        expected = whole[:, part.start * 600 // SIDE : part.stop * 600 // SIDE].mean((1, 2))
        assert pixels[part].mean((0, 1)) == pytest.approx(expected, abs=12)
