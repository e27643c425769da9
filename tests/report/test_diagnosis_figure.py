"""The figure of a diagnosis: its text, and that nothing in it overlaps."""

from dataclasses import replace
from xml.etree import ElementTree

import matplotlib
import pytest
from PIL import Image

from qfm_iqm.errors import ImageError, TableError
from qfm_iqm.metrics.aliasing import AliasedPair, Aliasing
from qfm_iqm.metrics.diagnosis import Diagnosis, Response
from qfm_iqm.report import diagnosis_figure, drawing
from qfm_iqm.report.diagnosis_figure import draw_diagnosis

PAIRS = tuple(AliasedPair(n, n + 1, 0.95 - n / 100, 1.1 + n / 10) for n in range(11))


@pytest.fixture(scope="module")
def paths(photo_folder):
    return sorted(photo_folder.iterdir())


@pytest.fixture
def found(paths):
    return Diagnosis(
        model="tiny",
        weights_sha256="ab",
        names=tuple(path.name for path in paths),
        mos=tuple(10.0 * n for n in range(len(paths))),
        trained=Aliasing(0.198, 0.393, 10, 1.0, PAIRS),
        backbone=Aliasing(0.295, 0.393, 10, 1.0, PAIRS[3:]),
        backbone_missing="",
        noise_sensitivity=0.0715,
        fallbacks=1,
        responses=tuple(
            Response(kind, level, level, change=slope * level, drop=0.8 * slope * level)
            for kind, slope in (("blur", 0.4), ("jpeg", 0.25), ("noise", 0.24))
            for level in range(1, 6)
        ),
        alpha=0.1,
        tau=0.25,
        seed=0,
    )


def texts(path):
    """All text of an SVG, line by line."""
    root = ElementTree.parse(path).getroot()
    assert root.tag == "{http://www.w3.org/2000/svg}svg"
    return [
        "".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")
    ]


def test_an_svg_is_xml_and_its_text_is_text(found, paths, tmp_path):
    draw_diagnosis(found, paths, tmp_path / "a.svg")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.svg"]
    draw_diagnosis(found, paths, tmp_path / "again.svg")
    assert (tmp_path / "a.svg").read_bytes() == (tmp_path / "again.svg").read_bytes()
    said = texts(tmp_path / "a.svg")
    for text in (
        "What does tiny respond to: quality or semantics?",
        "Feature aliasing",
        "Sensitivity",
        "Response to each degradation",
        "Near in the public backbone's features, far in quality",
        "Near in the trained features, far in quality",
        "39.3%", "29.5%", "19.8%", "0.071", "0.890", "blur", "jpeg", "noise",
        "MOS 0.00", "MOS 10.0", "cosine 0.95, labels 1.1 std apart",
    ):  # fmt: skip
        assert text in said
    assert any("12.4 times as much" in text for text in said)


def test_a_photo_is_shown_in_one_pair_only(found, paths, tmp_path):
    draw_diagnosis(replace(found, backbone=None), paths, tmp_path / "a.svg")
    said = texts(tmp_path / "a.svg")
    # Every other pair of the chain 0-1, 1-2, 2-3 ...
    assert [text for text in said if text.startswith("MOS ")] == [
        "MOS 0.00", "MOS 10.0", "MOS 20.0", "MOS 30.0", "MOS 40.0", "MOS 50.0", "MOS 60.0",
        "MOS 70.0",
    ]  # fmt: skip
    assert not any("backbone" in text for text in said)


def test_a_png_of_the_documented_size(found, paths, tmp_path):
    draw_diagnosis(found, paths, tmp_path / "a.PNG")
    with Image.open(tmp_path / "a.PNG") as image:
        assert image.format == "PNG"
        assert image.size[0] == 13 * 150
        assert image.info["Title"] == "Diagnosis of tiny"
    draw_diagnosis(found, paths, tmp_path / "again.png")
    assert (tmp_path / "a.PNG").read_bytes() == (tmp_path / "again.png").read_bytes()


@pytest.mark.parametrize("case", ["usual", "deaf", "crowded"])
def test_no_text_lies_on_another(found, paths, case):
    if case == "deaf":
        silent = tuple(replace(one, change=0.0, drop=0.0) for one in found.responses)
        nothing = replace(found.trained, rate=0.0, pairs=())
        found = replace(
            found, model="a $strange$ name_of " * 9, trained=nothing, backbone=None,
            noise_sensitivity=0.0, responses=silent,
        )  # fmt: skip
    if case == "crowded":
        one = found.by_distortion["blur"]
        same = [replace(r, distortion=kind) for kind in ("blur", "jpeg", "noise") for r in one]
        found = replace(found, responses=tuple(same), noise_sensitivity=2.0)
    with matplotlib.rc_context(drawing._STYLE):
        figure = diagnosis_figure._figure(found, paths)
        figure.draw_without_rendering()
        width, height = figure.bbox.size
        hidden = {  # ticks beyond the limits are not drawn
            label
            for axes in figure.axes
            for axis in (axes.xaxis, axes.yaxis)
            for tick in axis.get_major_ticks()
            for label in (tick.label1, tick.label2)
            if not axis.get_view_interval().min()
            <= tick.get_loc()
            <= axis.get_view_interval().max()
        }
        shown = [
            text
            for text in set(figure.findobj(matplotlib.text.Text)) - hidden
            if text.get_visible() and text.get_text() and (text.axes is None or text.axes.axison)
        ]
        placed = [(text.get_text(), text.get_window_extent()) for text in shown]
    assert len(placed) > 15
    for i, (text, box) in enumerate(placed):
        inside = box.x0 >= 0 and box.y0 >= 0 and box.x1 <= width and box.y1 <= height
        assert inside, text
        for other, other_box in placed[i + 1 :]:
            over_x = min(box.x1, other_box.x1) - max(box.x0, other_box.x0)
            over_y = min(box.y1, other_box.y1) - max(box.y0, other_box.y0)
            assert min(over_x, over_y) < 2, (text, other)


def test_nothing_aliased_is_said(found, paths, tmp_path):
    none = replace(found, trained=replace(found.trained, rate=0.0, pairs=()), backbone=None)
    draw_diagnosis(none, paths, tmp_path / "a.svg")
    assert any(text.startswith("There is no such pair") for text in texts(tmp_path / "a.svg"))


def test_mistakes_are_refused(found, paths, tmp_path):
    with pytest.raises(TableError, match=r"a\.pdf' cannot be written: its name must end in \.svg"):
        draw_diagnosis(found, paths, tmp_path / "a.pdf")
    with pytest.raises(TableError, match="cannot be written"):
        draw_diagnosis(found, paths, tmp_path / "gone" / "a.svg")
    with pytest.raises(ImageError):
        draw_diagnosis(found, [tmp_path / "gone.jpg"] * len(paths), tmp_path / "a.svg")
    assert list(tmp_path.iterdir()) == []
