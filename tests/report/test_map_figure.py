"""The figure of a quality map: its text and its drawing."""

from xml.etree import ElementTree

import numpy as np
import pytest
import torch
from PIL import Image

from qfm_iqm.errors import TableError
from qfm_iqm.model.card import LabelUnits
from qfm_iqm.model.quality_map import QualityMap
from qfm_iqm.report.map_figure import color_span, draw_map

MOS = LabelUnits(name="MOS", minimum=0, maximum=100)


def map_of(values, size=(60, 90)):
    values = np.array(values, dtype=np.float32)
    return QualityMap(values, float(values.mean()), size[1], size[0])


def test_colors_span_the_map_but_at_least_a_tenth_of_the_scale():
    assert color_span(map_of([[20, 70]]), MOS) == (20, 70)
    assert color_span(map_of([[50, 52]]), MOS) == (46, 56)
    low, high = color_span(map_of([[50, 50]]), LabelUnits())
    assert low < 50 < high


def test_the_figure_says_score_and_units(tmp_path):
    draw_map(map_of([[30, 60], [70, 80]]), torch.rand(3, 60, 90), MOS, tmp_path / "map.svg")
    root = ElementTree.parse(tmp_path / "map.svg").getroot()
    said = "".join(root.itertext())
    assert "MOS 60: the mean of the map" in said
    assert len(list(root.iter("{http://www.w3.org/2000/svg}image"))) >= 2


@pytest.mark.parametrize(("higher", "darker"), [(True, "left"), (False, "right")])
def test_bad_patches_are_dark(tmp_path, higher, darker):
    units = LabelUnits(minimum=0, maximum=100, higher_is_better=higher)
    out = tmp_path / "map.png"
    draw_map(map_of([[10, 90]], (100, 100)), torch.ones(3, 100, 100), units, out)
    pixels = np.asarray(Image.open(out).convert("L"), dtype=float)
    # The map is the second image: its two patches meet in its middle.
    row = pixels[round(pixels.shape[0] * 0.6)]
    second = row[round(row.size * 0.47) : round(row.size * 0.85)]
    left, right = second[: second.size // 4].mean(), second[-second.size // 4 :].mean()
    assert bool(left < right) == (darker == "left")


def test_a_very_large_photo_is_drawn_reduced(tmp_path):
    draw_map(map_of([[1, 2]], (10, 4000)), torch.rand(3, 10, 4000), MOS, tmp_path / "map.png")
    assert (tmp_path / "map.png").stat().st_size > 0


def test_another_ending_is_refused(tmp_path):
    with pytest.raises(TableError, match=r"must end in \.svg or \.png"):
        draw_map(map_of([[1, 2]]), torch.rand(3, 60, 90), MOS, tmp_path / "map.pdf")
