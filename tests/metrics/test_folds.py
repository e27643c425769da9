import csv
import statistics

import pytest

from qfm_iqm.metrics.folds import (
    FoldFigure,
    Summary,
    summarize,
    summary_table,
)
from qfm_iqm.metrics.published import Published, published, published_cross
from qfm_iqm.text_tables import write_csv

VALUES = [0.9, 0.7, 0.85, 0.8]


def figures(protocol="validation-selected", subset="whole", metric="srcc", values=VALUES):
    return [
        FoldFigure("all", protocol, fold, subset, metric, value, 10, 3, f"{fold}b" * 32)
        for fold, value in enumerate(values)
    ]


def test_median_and_spread_over_folds():
    found = summarize(
        [*figures(), *figures("test-selected"), *figures(metric="plcc", values=[0.5])]
    )
    assert [(one.protocol, one.metric, one.folds) for one in found] == [
        ("validation-selected", "srcc", 4),
        ("test-selected", "srcc", 4),
        ("validation-selected", "plcc", 1),
    ]
    first = found[0]
    assert first.median == statistics.median(VALUES)
    assert abs(first.std - statistics.stdev(VALUES)) < 1e-12
    assert (first.lowest, first.highest) == (0.7, 0.9)
    assert (found[2].median, found[2].std) == (0.5, 0.0)
    assert first.split_sha256.split() == [f"{fold}b" * 32 for fold in range(4)]


def test_tables_are_written_to_the_last_digit(tmp_path):
    rows = figures(values=[1 / 3])
    write_csv(tmp_path / "f.csv", FoldFigure._fields, rows)
    write_csv(tmp_path / "s.csv", Summary._fields, summarize(rows))
    with (tmp_path / "f.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert list(found) == list(FoldFigure._fields)
    assert float(found["value"]) == 1 / 3
    with (tmp_path / "s.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert float(found["median"]) == 1 / 3


def test_the_table_marks_what_is_optimistic_and_what_is_unconfirmed():
    rows = summarize(
        [*figures(), *figures("test-selected"), *figures(subset="blur"), *figures(metric="plcc")]
    )
    beside = [Published("A", 0.9, 0.91), Published("B", 0.954, 0.965, True)]
    text = summary_table(rows, beside)
    assert "| all | validation-selected | whole | 4 | 0.8250 (0.0854) | 0.8250 (0.0854) |" in text
    assert "| all | test-selected (optimistic) | whole | 4 | 0.8250 (0.0854) |  |" in text
    assert "| A | published | whole | 10 | 0.900 | 0.910 |" in text
    assert "| B | published | whole | 10 | 0.954? | 0.965? |" in text
    splits = ", ".join(f"{fold}b" * 6 for fold in range(4))
    assert f"\nSplits (SHA-256): {splits}.\n" in text
    assert text.endswith("? not checked against the paper.\n")
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {7}


def test_published_figures_are_found_by_dataset():
    live = {one.method: one for one in published("live")}
    assert (live["DEIQT"].srcc, live["DEIQT"].plcc, live["DEIQT"].unconfirmed) == (
        0.98,
        0.982,
        False,
    )
    assert live["QFM-IQM"].unconfirmed
    assert "BRISQUE" not in {one.method for one in published("csiq")}
    spaq = {one.method: one for one in published("spaq")}
    assert (spaq["QFM-IQM"].srcc, spaq["QFM-IQM"].plcc) == (0.920, 0.924)
    assert "TReS" not in spaq
    assert published("kodak") == published("") == []


# SRCC/PLCC as the papers give them, by dataset and method; "?" is from memory, "-" is not reported.
PAPERS = {
    "live": "BRISQUE .929/.944 HyperIQA .962/.966 MUSIQ .940/.911 TReS .969/.968 DEIQT .980/.982 "
    "LoDa .975/.979 QFM-IQM .981/.983? CMPA .983/.987",
    "csiq": "HyperIQA .923/.942 MUSIQ .871/.893 TReS .922/.942 DEIQT .946/.963? "
    "QFM-IQM .954/.965? CSFIQA .967/- LML-IQA -/.977",
    "tid2013": "BRISQUE .626/.571 HyperIQA .840/.858 MUSIQ .773/.815 TReS .863/.883 "
    "DEIQT .892/.908 LoDa .869/.901 QFM-IQM .916/.932? LML-IQA -/.942",
    "kadid10k": "BRISQUE .528/.567 HyperIQA .852/.845 MUSIQ .875/.872 TReS .859/.858 "
    "DEIQT .889/.887 LoDa .931/.936 QFM-IQM .906/.906? CMPA .938/.941",
    "livec": "BRISQUE .629/.629 HyperIQA .859/.882 MUSIQ .702/.746 TReS .846/.877 "
    "DEIQT .875/.894 LoDa .876/.899 QFM-IQM .891/.913 CMPA .903/.918",
    "koniq10k": "BRISQUE .681/.685 HyperIQA .906/.917 MUSIQ .916/.928 TReS .915/.928 "
    "DEIQT .921/.934 LoDa .932/.944 QFM-IQM .922/.936 CMPA .938/.948",
    "livefb": "BRISQUE .303/.341 HyperIQA .544/.602 MUSIQ .566/.661 TReS .544/.625 "
    "DEIQT .571/.663 LoDa .578/.679 QFM-IQM .567/.667 GRMP .616/.704",
    "spaq": "BRISQUE .809/.817 HyperIQA .911/.915 MUSIQ .918/.921 DEIQT .919/.923 "
    "LoDa .925/.928 QFM-IQM .920/.924 CMPA .929/.934",
    "biq2021": "PIQE .213/- NIQE .356/- BRISQUE .603/- NBIQA .642/- NASNet-Large .6725/.7083 "
    "SGL-IQA .71/- DeepEns .7922/.8098",
}


@pytest.mark.parametrize("dataset", PAPERS)
def test_every_cell_of_the_papers_table_is_there(dataset):
    words = PAPERS[dataset].split()
    expected = []
    for method, cell in zip(words[::2], words[1::2], strict=True):
        pair = [None if text == "-" else float(text) for text in cell.rstrip("?").split("/")]
        splits = 1 if dataset == "biq2021" else 10
        expected.append(Published(method, *pair, cell.endswith("?"), splits))
    assert published(dataset) == expected


def test_a_method_may_have_reported_one_figure_only():
    rows = summarize([*figures(), *figures(metric="plcc")])
    lines = summary_table(rows, published("csiq")).splitlines()
    assert "| CSFIQA | published | whole | 10 | 0.967 |  |" in lines
    assert "| LML-IQA | published | whole | 10 |  | 0.977 |" in lines


def test_cross_dataset_figures_are_those_of_deiqt():
    names = ("livefb", "koniq10k", "livec")
    found = {
        (one, other): figure.srcc
        for one in names
        for other in names
        if (figure := published_cross(one, other)) is not None
    }
    assert found == {
        ("livefb", "koniq10k"): 0.733,
        ("livefb", "livec"): 0.781,
        ("livec", "koniq10k"): 0.744,
        ("koniq10k", "livec"): 0.794,
    }
