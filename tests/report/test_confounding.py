"""The figure shows every variant, and the oracle as a ceiling; the clusters stand side by side."""

from xml.etree import ElementTree

import numpy as np
from PIL import Image

from qfm_iqm.metrics.confounding import Gain
from qfm_iqm.report.confounding import _gains, draw_clusters, draw_gains


def test_the_figure_holds_the_gains(tmp_path):
    gains = {
        "qfm": {0.5: Gain(0.0, -0.01, 0.01), 0.9: Gain(0.03, 0.02, 0.05)},
        "oracle": {0.5: Gain(0.01, 0.0, 0.02), 0.9: Gain(0.06, 0.05, 0.07)},
        "semantics": {},
    }
    draw_gains(gains, tmp_path / "gains.svg")
    ElementTree.parse(tmp_path / "gains.svg")
    (axes,) = _gains(gains).axes
    names = [text.get_text() for text in axes.get_legend().get_texts()]
    assert names == ["qfm", "oracle"]
    bars = {container.get_label(): container for container in axes.containers}
    line, _, (ends,) = bars["oracle"].lines
    assert line.get_linestyle() == "--"
    assert line.get_ydata().tolist() == [0.01, 0.06]
    assert np.allclose(
        [segment[:, 1] for segment in ends.get_segments()], [[0, 0.02], [0.05, 0.07]]
    )


def test_both_clusters_are_shown(tmp_path):
    for n in range(4):
        Image.new("RGB", (40, 30), (60 * n, 0, 0)).save(tmp_path / f"{n}.png")
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    draw_clusters((paths[:2], paths[2:]), tmp_path / "clusters.png")
    assert Image.open(tmp_path / "clusters.png").size[0] > 1000
