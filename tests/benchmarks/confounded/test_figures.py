"""The figure shows every variant, the oracle as a ceiling, and the clusters side by side."""

from xml.etree import ElementTree

from PIL import Image

from confounded.figures import _gains, draw_clusters, draw_gains
from confounded.measures import Gain


def test_the_figure_holds_the_gains(tmp_path):
    gains = {
        "qfm": {0.5: Gain(0.0, -0.01, 0.01), 0.9: Gain(0.03, 0.02, 0.05)},
        "oracle": {0.5: Gain(0.01, 0.0, 0.02), 0.9: Gain(0.06, 0.05, 0.07)},
        "semantics": {},
        "balanced": {0.9: Gain(0.02, 0.01, 0.03)},
    }
    draw_gains(gains, tmp_path / "gains.svg")
    ElementTree.parse(tmp_path / "gains.svg")
    panels = [axes for axes in _gains(gains).axes if axes.axison]
    assert [axes.get_title(loc="left") for axes in panels] == ["qfm", "oracle"]
    zero, ceiling, own = panels[0].lines
    assert set(zero.get_ydata()) == {0}
    assert (ceiling.get_linestyle(), ceiling.get_ydata().tolist()) == ("--", [0.01, 0.06])
    assert own.get_ydata().tolist() == [0.0, 0.03]
    corners = panels[0].collections[0].get_paths()[0].vertices
    assert {(0, -0.01), (0, 0.01), (1, 0.02), (1, 0.05)} <= set(map(tuple, corners))


def test_a_single_rho_is_drawn_too():
    figure = _gains({"qfm": {0.9: Gain(0.03, 0.02, 0.05)}, "semantics": {}})
    assert [axes.get_title(loc="left") for axes in figure.axes if axes.axison] == ["qfm"]


def test_without_gains_the_figure_is_empty(tmp_path):
    for gains in ({}, {"qfm": {}}):
        draw_gains(gains, tmp_path / "gains.svg")
        assert not [axes for axes in _gains(gains).axes if axes.axison]


def test_both_clusters_are_shown(tmp_path):
    for n in range(4):
        Image.new("RGB", (40, 30), (60 * n, 0, 0)).save(tmp_path / f"{n}.png")
    paths = [tmp_path / f"{n}.png" for n in range(4)]
    draw_clusters((paths[:2], paths[2:]), tmp_path / "clusters.png")
    assert Image.open(tmp_path / "clusters.png").size[0] > 1000
