"""An ablation's table and figure show the measured values."""

from xml.etree import ElementTree

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.text import Text

from qfm_iqm.errors import TableError
from qfm_iqm.metrics.paired_runs import Run, compare
from qfm_iqm.report.ablation import _figure, ablation_table, draw_ablation

NAMES = ("whole", "subset_mean", "ss01")
VALUES = {  # for three seeds: whole, subset_mean
    "baseline": ((0.80, 0.82, 0.81), (0.60, 0.61, 0.62)),
    "qfm": ((0.81, 0.83, 0.82), (0.63, 0.64, 0.65)),
    "random": ((0.80, 0.81, 0.83), (0.61, 0.61, 0.61)),
}


@pytest.fixture
def comparisons():
    runs = [
        Run("all", variant, seed, metric, subset, value)
        for variant, subsets in VALUES.items()
        for subset, values in zip(
            ("whole", "subset_mean", "ss01"), (*subsets, subsets[0]), strict=True
        )
        for seed, value in enumerate(values)
        for metric in ("srcc", "plcc")
    ]
    runs += [
        Run("few", variant, seed, "srcc", "whole", 0.5 + 0.1 * seed)
        for variant in ("baseline", "qfm")
        for seed in range(2)
    ]
    return compare(runs, ["baseline", "random"])


def rows(text, setting):
    """The table of a setting, as lists of cells."""
    section = text.split(f"### {setting}\n")[1].split("###")[0]
    lines = [line for line in section.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]


def test_the_table_holds_medians_and_paired_differences(comparisons):
    head, _, *found = rows(ablation_table(comparisons), "all")
    assert head == [
        "variant", "runs", "SRCC, whole", "minus baseline", "minus random",
        "SRCC, mean over subsets", "minus baseline", "minus random",
    ]  # fmt: skip
    assert [row[:3] for row in found] == [
        ["baseline", "3", "0.810"], ["qfm", "3", "0.820"], ["random", "3", "0.810"],
    ]  # fmt: skip
    qfm = dict(enumerate(found[1]))
    assert qfm[3] == "+0.010 (+0.010 to +0.010)"
    assert qfm[5] == "0.640"
    assert qfm[7].startswith("+0.030 (")
    assert found[0][3] == found[2][4] == "–"


def test_a_single_pair_has_no_interval(tmp_path):
    runs = [Run("one", name, 0, "srcc", "whole", value) for name, value in (("a", 0.5), ("b", 0.6))]
    comparisons = compare(runs, ["a"])
    _, _, *found = rows(ablation_table(comparisons), "one")
    assert found[1] == ["b", "1", "0.600", "+0.100"]
    draw_ablation(comparisons, tmp_path / "one.svg")
    assert "(1 run each)" in (tmp_path / "one.svg").read_text()


def test_a_setting_without_subsets_or_reference_has_shorter_rows(comparisons):
    head, _, *found = rows(ablation_table(comparisons), "few")
    assert head == ["variant", "runs", "SRCC, whole", "minus baseline"]
    assert [row[:3] for row in found] == [["baseline", "2", "0.550"], ["qfm", "2", "0.550"]]


def test_the_figure_names_settings_variants_and_medians(comparisons, tmp_path):
    draw_ablation(comparisons, tmp_path / "a.svg")
    root = ElementTree.parse(tmp_path / "a.svg").getroot()
    said = [
        "".join(node.itertext()).strip() for node in root.iter("{http://www.w3.org/2000/svg}text")
    ]
    for text in (
        "Paired difference of SRCC to baseline",
        "all  (3 runs each)",
        "few  (2 runs each)",
        "baseline: whole 0.810, mean over subsets 0.610",
        "baseline: whole 0.550",
        "qfm",
        "random",
    ):
        assert text in said, text
    assert "ss01" not in "".join(said)


def test_long_names_have_room():
    names = ("a_reference_with_a_long_name", "a_variant_whose_name_is_longer_still_and_goes_on")
    runs = [Run("one", name, 0, "srcc", "whole", 0.5) for name in names]
    figure = _figure(compare(runs, names[:1]), names[0])
    FigureCanvasAgg(figure).draw()
    texts = [t for t in figure.findobj(Text) if any(name in t.get_text() for name in names)]
    assert len(texts) >= 4  # title, reference's figures, row, axis
    for text in texts:
        box = text.get_window_extent()
        assert 0 <= box.x0 < box.x1 <= figure.bbox.width, text


def test_the_same_comparisons_give_the_same_bytes(comparisons, tmp_path):
    for name in ("a", "b"):
        draw_ablation(comparisons, tmp_path / f"{name}.svg")
        draw_ablation(comparisons, tmp_path / f"{name}.png")
    for ending in ("svg", "png"):
        assert (tmp_path / f"a.{ending}").read_bytes() == (tmp_path / f"b.{ending}").read_bytes()


def test_another_ending_is_refused(comparisons, tmp_path):
    with pytest.raises(TableError, match=r"must end in \.svg or \.png"):
        draw_ablation(comparisons, tmp_path / "a.pdf")
