import csv

import pyarrow.parquet as pq
import pytest

from qfm_iqm.datasets.catalogue import DATASETS
from qfm_iqm.datasets.reading import COLUMNS, read_table, write_table
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import TableError


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
@pytest.mark.parametrize("name", ["live", "biq2021"])
def test_a_written_table_reads_back_to_the_last_digit(name, suffix, official_trees, tmp_path):
    table = DATASETS[name].load(official_trees[name][0])
    path = tmp_path / f"labels{suffix}"
    write_table(table, path)
    found = read_table(path)
    assert (found.names, found.contents) == (table.names, table.contents)
    assert found.mos.tolist() == table.mos.tolist()
    blank = ("",) * len(table)
    for column in ("std", "distortion", "level", "split"):
        assert found.column(column) == table.columns.get(column, blank)


def test_every_table_has_the_same_columns_in_the_same_order(tmp_path):
    table = RatedTable(("b.png", "ä, a.png"), [0.1, 1e-7])
    write_table(table, tmp_path / "t.csv")
    with (tmp_path / "t.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.reader(file))
    assert rows[0] == list(COLUMNS)
    assert rows[2] == ["ä, a.png", "1e-07", "", "ä, a.png", "", "", ""]
    write_table(table, tmp_path / "t.parquet")
    assert pq.read_table(tmp_path / "t.parquet").column_names == list(COLUMNS)


def test_what_cannot_be_written_is_said(tmp_path):
    with pytest.raises(TableError, match="no labels"):
        write_table(RatedTable(("a",)), tmp_path / "t.csv")
    table = RatedTable(("a",), [1.0])
    with pytest.raises(TableError, match=r"end in \.csv or \.parquet"):
        write_table(table, tmp_path / "t.txt")
    with pytest.raises(TableError, match="there is no folder"):
        write_table(table, tmp_path / "none" / "t.csv")
