import zipfile

import numpy as np
import pytest
from openpyxl import Workbook
from scipy.io import savemat

from qfm_iqm.datasets.labelfiles import matched, read_lines, read_mat, read_sheet
from qfm_iqm.datasets.table import finite_numbers
from qfm_iqm.errors import TableError


def test_matlab_numbers_texts_and_cells_come_flat(tmp_path):
    cells = np.empty((1, 2), dtype=object)
    cells[:] = ["a.bmp", "b.bmp"]
    content = {"column": np.array([[1], [2]]), "cells": cells, "text": np.array(["xy", "z "])}
    savemat(tmp_path / "m.mat", content)
    column, texts, padded = read_mat(tmp_path / "m.mat", "column", "cells", "text")
    assert column.tolist() == [1.0, 2.0]
    assert column.dtype == np.float64
    assert texts == ["a.bmp", "b.bmp"]
    assert padded == ["xy", "z"]


def gap():
    cells = np.empty((1, 2), dtype=object)
    cells[:] = ["a.bmp", np.array([])]
    return cells


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (gap(), "texts without a gap"),
        ({"field": 1.0}, "holds something else"),
        (b"", "not a readable MATLAB file"),
        (b"MATLAB 5.0 MAT-file" + bytes(110), "not a readable MATLAB file"),
    ],
    ids=["an empty cell", "a struct", "no bytes", "cut off"],
)
def test_a_matlab_file_that_cannot_be_used_is_refused(tmp_path, value, message):
    path = tmp_path / "m.mat"
    if isinstance(value, bytes):
        path.write_bytes(value)
    else:
        savemat(path, {"x": value})
    with pytest.raises(TableError, match=message):
        read_mat(path, "x")


@pytest.mark.parametrize("damage", ["the archive", "a member", "the XML"])
def test_a_damaged_sheet_is_refused(tmp_path, damage):
    whole, path = tmp_path / "whole.xlsx", tmp_path / "s.xlsx"
    book = Workbook()
    for row in range(200):
        book.active.append((row, "MOS", row / 7))
    book.save(whole)
    with zipfile.ZipFile(whole) as archive:
        contents = {name: archive.read(name) for name in archive.namelist()}
        member = archive.getinfo("xl/worksheets/sheet1.xml")
    if damage == "the XML":
        contents[member.filename] = contents[member.filename][:3000]
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
    else:
        start = 0 if damage == "the archive" else member.header_offset + 60
        damaged = bytearray(whole.read_bytes())
        damaged[start : start + 300] = b"\xff" * 300
        path.write_bytes(damaged[:500] if damage == "the archive" else damaged)
    with pytest.raises(TableError, match="not a readable Excel file"):
        read_sheet(path, ("MOS",))


def test_a_sheets_header_may_stand_anywhere(tmp_path):
    book = Workbook()
    book.active.append(("a title",))
    book.active.append(())
    book.active.append((None, "Image  Name", "other", "MOS"))
    book.active.append((None, 1600, "x", 0.5))
    book.active.append((None, None, "only here", None))
    book.active.append((None, "b", "x", "0.25"))
    book.save(tmp_path / "s.xlsx")
    found = read_sheet(tmp_path / "s.xlsx", ("MOS", "image name"))
    assert found == {"mos": ["0.5", "0.25"], "image_name": ["1600", "b"]}
    with pytest.raises(TableError, match="no row with the columns dmos"):
        read_sheet(tmp_path / "s.xlsx", ("dmos",))
    with pytest.raises(TableError, match="no sheet 'all'; its sheets are: Sheet"):
        read_sheet(tmp_path / "s.xlsx", ("MOS",), "all")


def test_lines_with_any_ends_and_a_mark(tmp_path):
    (tmp_path / "l.txt").write_bytes("\ufeff1.5  a\r\n\r\n2 b\n".encode())
    assert read_lines(tmp_path / "l.txt", 2) == [["1.5", "a"], ["2", "b"]]
    (tmp_path / "l.txt").write_bytes(b"1 a\n2 b c\n")
    with pytest.raises(TableError, match=r"but 1 do not \(line 2\)"):
        read_lines(tmp_path / "l.txt", 2)
    (tmp_path / "l.txt").write_bytes(b"\xff\xfe1")
    with pytest.raises(TableError, match="cannot be read as text"):
        read_lines(tmp_path / "l.txt", 2)


def test_numbers_and_names_of_another_form_are_named(tmp_path):
    assert finite_numbers(tmp_path, "mos", ["1", " 2.5"]).tolist() == [1.0, 2.5]
    with pytest.raises(TableError, match=r"2 of 3 values of mos .*row 1: 'inf', row 3: ''"):
        finite_numbers(tmp_path, "mos", ["inf", "2", ""])
    assert [one[1] for one in matched(r"(a)\.png", ["a.png", "A.PNG"], tmp_path, "x")] == ["a", "A"]
    with pytest.raises(TableError, match=r"names must look like a\.png, but 1 do not \(b\.png\)"):
        matched(r"(a)\.png", ["a.png", "b.png"], tmp_path, "a.png")
