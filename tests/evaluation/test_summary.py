import csv
import statistics

from qfm_iqm.evaluation.published import Published, published
from qfm_iqm.evaluation.summary import (
    FoldFigure,
    Summary,
    summarise,
    summary_table,
    write_rows,
)

VALUES = [0.9, 0.7, 0.85, 0.8]


def figures(protocol="honest", part="whole", metric="srcc", values=VALUES):
    return [
        FoldFigure("all", protocol, fold, part, metric, value, 10, 3, "ab")
        for fold, value in enumerate(values)
    ]


def test_median_and_spread_over_folds():
    found = summarise([*figures(), *figures("paper"), *figures(metric="plcc", values=[0.5])])
    assert [(one.protocol, one.metric, one.folds) for one in found] == [
        ("honest", "srcc", 4), ("paper", "srcc", 4), ("honest", "plcc", 1),
    ]  # fmt: skip
    first = found[0]
    assert first.median == statistics.median(VALUES)
    assert abs(first.std - statistics.stdev(VALUES)) < 1e-12
    assert (first.lowest, first.highest) == (0.7, 0.9)
    assert (found[2].median, found[2].std) == (0.5, 0.0)


def test_tables_are_written_to_the_last_digit(tmp_path):
    rows = figures(values=[1 / 3])
    write_rows(tmp_path / "f.csv", FoldFigure, rows)
    write_rows(tmp_path / "s.csv", Summary, summarise(rows))
    with (tmp_path / "f.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert list(found) == list(FoldFigure._fields)
    assert float(found["value"]) == 1 / 3
    with (tmp_path / "s.csv").open(newline="") as file:
        (found,) = csv.DictReader(file)
    assert float(found["median"]) == 1 / 3


def test_the_table_marks_what_is_optimistic_and_what_is_unconfirmed():
    rows = summarise(
        [*figures(), *figures("paper"), *figures(part="blur"), *figures(metric="plcc")]
    )
    beside = [Published("A", "csiq", 0.9, 0.91), Published("B", "csiq", 0.954, 0.965, True)]
    text = summary_table(rows, beside)
    assert "| all | honest | whole | 4 | 0.8250 (0.0854) | 0.8250 (0.0854) |" in text
    assert "| all | paper (optimistic) | whole | 4 | 0.8250 (0.0854) |  |" in text
    assert "| A | published | whole | 10 | 0.900 | 0.910 |" in text
    assert "| B | published | whole | 10 | 0.954? | 0.965? |" in text
    assert text.endswith("? not checked against the paper.\n")
    widths = {line.count("|") for line in text.splitlines() if line.startswith("|")}
    assert widths == {7}
    assert "blur" not in summary_table(rows, parts=False)


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
    assert published("biq2021") == published("") == []
