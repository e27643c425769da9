"""Tables as saved by spreadsheets, and texts that spreadsheets would run."""

import csv
import io
import re

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from qfm_iqm.errors import TableError
from qfm_iqm.text_tables import as_utf8, guarded, read_dicts, read_text_table, unguarded, write_csv

ENCODINGS = {
    "utf-8": "UTF-8",
    "utf-8-sig": "UTF-8",
    "utf-16": "UTF-16",
    "utf-16-be": "UTF-16",
    "utf-32": "UTF-32",
    "cp1252": "Windows-1252",
}
DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs"}


def encoded(text, encoding):
    """The bytes of a text as programs save it: big-endian UTF-16 has a mark too."""
    return (f"\ufeff{text}" if encoding == "utf-16-be" else text).encode(encoding)


def table(folder, text, encoding="utf-8"):
    path = folder / "t.csv"
    path.write_bytes(encoded(text, encoding))
    return path


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("delimiter", DELIMITERS)
@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_spreadsheets_save(tmp_path, encoding, delimiter, end):
    rows = [["path", "score", "note"], ["Zoë/a.png", "69,5", "x"], ["b, c; d.png", "7", ""]]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter, lineterminator=end).writerows(rows)
    blank = delimiter * 2 + end
    found = read_text_table(table(tmp_path, file.getvalue() + blank + end, encoding))
    assert found.header == rows[0]
    assert found.rows == rows[1:]
    assert found.lines == [2, 3]
    assert found.form == (
        f"read as {ENCODINGS[encoding]} with {DELIMITERS[delimiter]} between the cells"
    )
    assert found.numbers(["69,5", "7"]) == ["69.5", "7"]


plain = st.text(st.characters(codec="cp1252", exclude_categories=["Cc"]), min_size=1, max_size=8)


def is_utf8_by_chance(text, encoding):
    """Whether bytes in another encoding are UTF-8 too: no reader can tell which was meant."""
    try:
        return encoding == "cp1252" and text != text.encode(encoding).decode("utf-8")
    except UnicodeDecodeError:
        return False


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.tuples(plain, plain), min_size=1, max_size=5),
    st.sampled_from(sorted(ENCODINGS)),
    st.sampled_from(sorted(DELIMITERS)),
)
def test_any_cells_are_read_as_they_were_written(tmp_path_factory, rows, encoding, delimiter):
    rows = [row for row in rows if any(map(str.strip, row)) and not any("'" in c for c in row)]
    file = io.StringIO(newline="")
    csv.writer(file, delimiter=delimiter).writerows([("name", "mos"), *rows])
    assume(not is_utf8_by_chance(file.getvalue(), encoding))
    path = table(tmp_path_factory.mktemp("t"), file.getvalue(), encoding)
    found = read_text_table(path)
    assert (found.header, list(map(tuple, found.rows))) == (["name", "mos"], rows)


@pytest.mark.parametrize("first", ["sep=;", "SEP=;", '"sep=;"', "sep=;;;"])
def test_a_first_line_may_name_the_delimiter(tmp_path, first):
    found = read_text_table(table(tmp_path, f"{first}\r\nname;a,b,c\r\nx;1,2,3\r\n"))
    assert (found.header, found.rows, found.lines) == (["name", "a,b,c"], [["x", "1,2,3"]], [3])


def test_the_delimiter_is_what_all_rows_agree_on(tmp_path):
    text = "name;mos (0,1);std (a,b,c)\nx;1;2\ny;3;4\n"
    assert read_text_table(table(tmp_path, text)).rows == [["x", "1", "2"], ["y", "3", "4"]]
    assert read_text_table(table(tmp_path, "name\nx\n")).rows == [["x"]]
    assert read_text_table(table(tmp_path, 'name,mos\n"a;b;c",1\n')).rows == [["a;b;c", "1"]]


@pytest.mark.parametrize(
    ("delimiter", "cells", "numbers"),
    [
        (";", ["69,83", "", "70"], ["69.83", "", "70"]),
        (";", ["1,234"], ["1.234"]),
        (";", ["-1,5E-05", "+2,0"], ["-1.5E-05", "+2.0"]),
        (",", ["69,833608", "1,234"], ["69.833608", "1.234"]),
        (",", ["0,512"], ["0.512"]),
        (",", ["1,234", "12"], ["1,234", "12"]),  # may be a thousands separator
        (";", ["1,5", "2.5"], ["1,5", "2.5"]),
        (";", ["1.234,5"], ["1.234,5"]),
        (";", ["a,b", "1,2,3"], ["a,b", "1,2,3"]),
    ],
)
def test_decimal_commas(tmp_path, delimiter, cells, numbers):
    found = read_text_table(table(tmp_path, f"name{delimiter}mos\nx{delimiter}1\n"))
    assert list(found.numbers(cells)) == numbers


OURS = b"path,sha256,width\ncaf\\xe9.jpg,,1\n".replace(b"\\xe9", b"\xe9")


def test_names_that_are_no_text_stay_what_they_are_in_our_own_tables(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes(OURS)
    assert read_text_table(path).rows[0][0] == b"caf\xe9.jpg".decode(errors="surrogateescape")
    path.write_bytes(OURS.replace(b"\n", b"\r\n"))  # saved again by Excel
    assert read_text_table(path).rows[0][0] == "café.jpg"


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b"", "the file is empty"),
        (b"\xef\xbb\xbf\r\n", "the file is empty"),
        (b"sep=;\n", "the file is empty"),
        ("name,mos\n".encode("utf-16-le"), r"null characters.*save it as 'CSV UTF-8'"),
        (b"\xff\xfen\x00a", "begins like utf-16-le, but is damaged"),
        (b"name,mos\n\x81,1\n", r"neither UTF-8 nor Windows-1252 \(byte 9\)"),
        (
            b"name;mos\na;1\nb;2;3\n",
            r"header's 2 cells, but 1 do not \(line 3\).*read as UTF-8 with semicolons",
        ),
        (b'name;mos\n"a;1\n', "line 2 is not valid CSV.*semicolons"),
    ],
)
def test_what_is_no_table_is_refused_in_one_sentence(tmp_path, content, sentence):
    path = tmp_path / "t.csv"
    path.write_bytes(content)
    with pytest.raises(TableError, match=sentence) as caught:
        read_text_table(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_rows_as_dicts(tmp_path):
    path = tmp_path / "t.csv"
    write_csv(path, ["name", "mos"], [["=a", 1.5], ["b,c", None]])
    rows = [{"name": "=a", "mos": "1.5"}, {"name": "b,c", "mos": ""}]
    assert read_dicts(path) == read_dicts(path, "mos") == rows
    with pytest.raises(TableError, match=r"t\.csv has no column note: it is another table"):
        read_dicts(path, "mos", "note")
    with pytest.raises(TableError, match=r"gone\.csv cannot be read: No such file"):
        read_dicts(tmp_path / "gone.csv")


def test_a_mark_alone_makes_text():
    assert as_utf8("ä".encode("utf-16")) == ("ä".encode(), "UTF-16")
    assert as_utf8(b"\xe4\0b") == (b"\xe4\0b", "")


any_text = st.text(st.characters(exclude_categories=["Cs"])) | st.text("'=+-@\t\r\n;a", max_size=4)


@given(any_text)
def test_a_guarded_text_is_no_formula_and_comes_back(text):
    cell = guarded(text)
    assert not re.match(r"[=+\-@\t\r\n]", cell)
    assert unguarded(cell) == text
    assert cell in (text, f"'{text}")


@given(any_text, any_text)
def test_two_texts_never_become_one_cell(one, other):
    assert (guarded(one) == guarded(other)) == (one == other)


def test_numbers_are_no_formulas():
    assert [guarded(-1.5), guarded(None), guarded("'a"), guarded("a=b")] == [
        -1.5,
        None,
        "'a",
        "a=b",
    ]
