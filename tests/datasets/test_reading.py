"""What is read, what is refused, and the error messages."""

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from qfm_iqm.datasets.reading import read_table
from qfm_iqm.errors import TableError

# Third-party data, if any, is beside the repository; none of it is copied here.
SHARED = Path(__file__).parents[2].parent / "shared"


def write(folder, text, name="t.csv"):
    path = folder / name
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return path


def test_columns_are_read(tmp_path):
    path = write(tmp_path, "name,mos,std,subset,content\na.jpg,0.5,.1,x,c1\nb.jpg,1e-1,.2,y,c1\n")
    table = read_table(path)
    assert table.names == ("a.jpg", "b.jpg")
    assert table.mos.tolist() == [0.5, 0.1] and table.mos.dtype == np.float64
    assert table.contents == ("c1", "c1")
    assert dict(table.columns) == {"std": (".1", ".2"), "subset": ("x", "y")}
    assert table.source == str(path) and len(table) == 2


def test_each_image_is_its_own_content_by_default(tmp_path):
    table = read_table(write(tmp_path, "name,mos\na,1\nb,2\n"))
    assert table.contents == ("a", "b")


@pytest.mark.parametrize(
    "header",
    ["name,mos", " Image Name , MOS", "image_name,Mos", "filename,mos", "PATH,MOS", "img_name,mos"],
)
def test_headers_in_any_case_and_their_aliases(tmp_path, header):
    table = read_table(write(tmp_path, f"{header}\n a b.jpg ,0.25\n"))
    assert (table.names, table.mos.tolist()) == (("a b.jpg",), [0.25])


def test_what_spreadsheets_leave_behind(tmp_path):
    text = "\ufeffImage Name,MOS,,,\r\nss01 (1).jpg,0.5,,,\r\n,,,,\r\n\r\nb.jpg,0.25\r\n,,,,\r\n"
    table = read_table(write(tmp_path, text))
    assert table.names == ("ss01 (1).jpg", "b.jpg")
    assert table.mos.tolist() == [0.5, 0.25] and not table.columns


def test_columns_hide_nothing(tmp_path):
    table = read_table(write(tmp_path, ",name,path,mos,ISO,iso\n7,a,p,1,2,3\n"))
    assert table.names == ("a",)
    assert dict(table.columns) == {
        "column_1": ("7",),
        "path": ("p",),
        "iso": ("2",),
        "iso_2": ("3",),
    }


def test_quoted_cells(tmp_path):
    table = read_table(write(tmp_path, 'name,mos\n"a, ""b"".jpg","0.5"\n'))
    assert table.names == ('a, "b".jpg',)


def test_reference_names_are_contents(tmp_path):
    rows = "refs/I01.BMP,i01_1,2\ni01.bmp,i01_2,3\nI01,i01_3,4\nv1.5,v_1,5\n"
    table = read_table(write(tmp_path, f"ref_name,dist_name,mos\n{rows}"))
    assert table.names == ("i01_1", "i01_2", "i01_3", "v_1")
    assert table.contents == ("i01", "i01", "i01", "v1.5")


def test_another_label_column_when_asked(tmp_path):
    path = write(tmp_path, "image_name,MOS,MOS_zscore\na,3,50\nb,4,60\n")
    table = read_table(path, label="MOS_zscore")
    assert table.mos.tolist() == [50, 60] and table.columns["mos"] == ("3", "4")


def test_without_labels(tmp_path):
    path = write(tmp_path, "name,subset\na,x\nb,y\n")
    assert read_table(path, require_mos=False).mos is None
    with pytest.raises(TableError, match="no label column 'mos', only the columns name, subset"):
        read_table(path)


def test_parquet_equals_csv(tmp_path):
    columns = {"name": ["a", "b"], "mos": [0.1, 1 / 3], "subset": ["x", None], "fold": [1, 2]}
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    table = read_table(tmp_path / "t.parquet")
    assert table.names == ("a", "b") and table.mos.tolist() == [0.1, 1 / 3]
    assert dict(table.columns) == {"subset": ("x", ""), "fold": ("1", "2")}


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"name": ["a"], "mos": [None]}, "1 of 1 value of .mos. is not a finite number"),
        ({"name": ["a", "b", "c"], "mos": [1.0, float("nan"), 2.0]}, "row 2: 'nan'"),
        ({"name": ["a"], "mos": [True]}, "row 1: 'True'"),
        ({"name": [b"a"], "mos": [1.0]}, "the column 'name' holds binary"),
        ({"name": ["a"], "mos": [[1.0]]}, "the column 'mos' holds list"),
        ({"name": pa.array([], pa.string()), "mos": pa.array([], pa.float64())}, "no rows"),
    ],
)
def test_parquet_that_is_refused(tmp_path, columns, message):
    pq.write_table(pa.table(columns), tmp_path / "t.parquet")
    with pytest.raises(TableError, match=message):
        read_table(tmp_path / "t.parquet")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "the file is empty"),
        ("\n\n", "the file is empty"),
        ("name,mos\n", "no rows"),
        ("file,mos\na,1\n", "columns are: file, mos"),
        ("file;mos\na;1\n", "columns are: file, mos; .* header \\(read as UTF-8 with semicolons"),
        ("name,dmos\na,1\n", "only the columns name, dmos"),
        ("name,mos\n,1\nb,2\n ,3\n", "the name is blank in 2 rows \\(row 1, 3, not counting"),
        (
            "name,mos,content\na,1,x\nb,2,\n",
            "the content is blank in 1 rows \\(row 2, not counting",
        ),
        ("name,mos\na,1\nb,2\na,3\na,4\n", "1 name is in more than one row \\(a\\)"),
        ("name,mos\na,1\nb,nan\nc,\n", "2 of 3 values .* \\(line 3: 'nan', line 4: ''\\)"),
        ("name,mos\na,inf\n", "line 2: 'inf'"),
        ("name,mos\na,1e999\n", "line 2: '1e999'"),
        ("name,mos\na,1_0\n", "line 2: '1_0'"),
        (
            "name,mos\n" + "".join(f"{i},x\n" for i in range(5)),
            "5 of 5 values .*line 4: 'x', \\.\\.\\.",
        ),
        ('name,mos\na,"1,500"\n', "line 2: '1,500'"),
        ("name;mos\na;0,5\nb;0.5\n", "semicolons.*line 2: '0,5'"),
        ("name,mos\na,0,5\nb,1\n", "header's 2 cells, but 1 do not \\(line 2\\)"),
        ("name,mos\na\n", "header's 2 cells, but 1 do not \\(line 2\\)"),
        ('name,mos\n"a,1\n', "not valid CSV"),
        (b"name,mos\n\x81.jpg,1\n", "byte 9"),
        (
            "name,dmos\na,1\n".encode("utf-16"),
            "no label column 'mos', .* name, dmos; .* with --label .*read as UTF-16 with commas",
        ),
    ],
)
def test_csv_that_is_refused(tmp_path, text, message):
    path = write(tmp_path, text)
    with pytest.raises(TableError, match=message) as caught:
        read_table(path)
    assert str(path) in str(caught.value) and "\n" not in str(caught.value)


@pytest.mark.parametrize("name", ["t.csv", "t.tsv", "t.txt", "t.TXT"])
@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
def test_tables_of_spreadsheets(tmp_path, name, encoding):
    text = "\r\n".join(["Image Name;MOS;note", "café.jpg;0,5;a", "b.jpg;1;", ";;", ""])
    table = read_table(write(tmp_path, text.encode(encoding), name))
    assert (table.names, table.mos.tolist()) == (("café.jpg", "b.jpg"), [0.5, 1])
    assert dict(table.columns) == {"note": ("a", "")}


@pytest.mark.parametrize("name", ["=1+1.png", "+a.png", "-a.png", "@a.png", "\ta.png", "'=a.png"])
def test_a_name_that_looks_like_a_formula_is_read_as_it_is(tmp_path, name):
    guarded = f"'{name}"
    assert read_table(write(tmp_path, f"name,mos\n{guarded},1\n")).names == (name,)
    if name[0] != "'":  # other programs do not guard names
        assert read_table(write(tmp_path, f"name,mos\n{name},1\n")).names == (name,)


def test_files_that_are_refused(tmp_path):
    with pytest.raises(TableError, match="There is no table"):
        read_table(tmp_path / "none.csv")
    with pytest.raises(TableError, match=r"ends in '\.xlsx'"):
        read_table(write(tmp_path, "x", "t.xlsx"))
    with pytest.raises(TableError, match="is a folder"):
        read_table(tmp_path)
    with pytest.raises(TableError, match="unreadable Parquet file"):
        read_table(write(tmp_path, "name,mos\na,1\n", "t.parquet"))


@pytest.mark.skipif(not (SHARED / "data/biq2021").is_dir(), reason="BIQ2021 is not here")
def test_biq2021():
    table = read_table(SHARED / "data/biq2021/labelled.csv")
    assert len(table) == 5000 and len(set(table.contents)) == 4919
    assert sorted(table.group("subset")) == ["ss01", "ss02", "ss03"]
    assert 0 <= table.mos.min() < table.mos.max() <= 1
    assert len(table.paths(SHARED / "data/biq2021")) == 5000
    unlabeled = read_table(SHARED / "data/biq2021/unlabelled.csv", require_mos=False)
    assert len(unlabeled) == 1200 and unlabeled.mos is None


@pytest.mark.skipif(not (SHARED / "labels/pyiqa_meta_info").is_dir(), reason="not here")
@pytest.mark.parametrize(
    ("name", "label", "images", "contents"),
    [
        ("CSIQ", "dmos", 866, 30),
        ("KADID10k", "dmos", 10125, 81),
        ("KonIQ10k", "mos", 10073, 10073),
        ("LIVEChallenge", "mos", 1169, 1169),
        ("LIVEIQA", "mos", 779, 29),
        ("SPAQ", "mos", 11125, 11125),
        ("TID2013", "mos", 3000, 25),
    ],
)
def test_pyiqa_tables_read_as_they_are(name, label, images, contents):
    table = read_table(SHARED / f"labels/pyiqa_meta_info/{name}.csv", label=label)
    assert (len(table), len(set(table.contents))) == (images, contents)
