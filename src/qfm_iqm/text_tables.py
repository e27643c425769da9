"""Reads text tables and lists from common programs; writes CSV that is safe in spreadsheets.

Design choices:

* A byte order mark determines the encoding. Without one, a file is UTF-8, or else Windows-1252, in
  which Excel saves a plain CSV; nothing else is guessed.
* The delimiter is the comma, semicolon, tab or bar that gives most rows the header's width, or the
  one that a first line like `sep=;` names.
* A spreadsheet runs a cell that begins with one of `= + - @` as a formula. Such texts are written
  with a leading apostrophe and read without it, so that every name stays the same.
"""

import codecs
import csv
import io
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from qfm_iqm.errors import TableError
from qfm_iqm.files import writing_text

SUFFIXES = (".csv", ".tsv", ".txt")
"""File extensions of text tables; Excel saves "Unicode Text" as `.txt`."""

_MARKS = (  # UTF-32 first: its mark begins with that of UTF-16
    (codecs.BOM_UTF32_LE, "UTF-32-LE"),
    (codecs.BOM_UTF32_BE, "UTF-32-BE"),
    (codecs.BOM_UTF16_LE, "UTF-16-LE"),
    (codecs.BOM_UTF16_BE, "UTF-16-BE"),
)
_DELIMITERS = {",": "commas", ";": "semicolons", "\t": "tabs", "|": "bars"}
_SAMPLE = 1 << 16  # characters to find the delimiter in
_SEP_LINE = re.compile(r'"?sep=([,;\t|])"?[,;\t|]*(?:\r\n|\r|\n)', re.IGNORECASE)
_COMMA_NUMBER = re.compile(r"\s*[+-]?\d+,\d+(?:[eE][+-]?\d+)?\s*")
_THOUSANDS = re.compile(r"\s*[+-]?[1-9]\d{0,2},\d{3}\s*")  # 1,234 may mean 1234
_FORMULA = re.compile(r"'*[=+\-@\t\r\n]")
# How this package's tables of file names begin.
_OURS = (b"path,sha256,", b"path,moment,", b"path,time,score", b"fold,split,image")


@dataclass(frozen=True)
class TextTable:
    """The cells of a text table.

    Attributes:
        header: column names.
        rows: rows with as many cells as the header; rows without text are left out.
        lines: for each row, the line of the file in which it ends.
        form: encoding and delimiter used to read the file, for messages.
        delimiter: character between cells.
    """

    header: list[str]
    rows: list[list[str]]
    lines: list[int]
    form: str
    delimiter: str

    def numbers(self, cells: Sequence[str]) -> Sequence[str]:
        """Replaces decimal commas by points in a column of numbers.

        The cells are returned unchanged if any holds a point, or if the commas may separate
        thousands: the caller then rejects them as numbers.
        """
        commas = [_COMMA_NUMBER.fullmatch(cell) is not None for cell in cells]
        if not any(commas) or any("." in cell for cell in cells):
            return cells
        found = [cell for cell, comma in zip(cells, commas, strict=True) if comma]
        if self.delimiter == "," and all(map(_THOUSANDS.fullmatch, found)):
            return cells
        return [c.replace(",", ".") if comma else c for c, comma in zip(cells, commas, strict=True)]


def read_text_table(path: Path, *, strip: bool = False) -> TextTable:
    """Reads a text table saved by any common program.

    Args:
        path: the file.
        strip: remove spaces around cells.

    Raises:
        TableError: the file is empty, of unknown encoding, or not a table.
        OSError: it cannot be read.
    """
    text, encoding = read_text(path)
    lines_before = 0
    if named := _SEP_LINE.match(text):
        text, lines_before = text[named.end() :], 1
    delimiter = named[1] if named else _delimiter(text)
    form = f"read as {encoding} with {_DELIMITERS[delimiter]} between the cells"
    rows: list[list[str]] = []
    lines: list[int] = []
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, strict=True)
    try:
        for raw in reader:
            cells = [cell.strip(" ") for cell in raw] if strip else raw
            if any(map(str.strip, cells)):
                rows.append([unguarded(cell) if cell[:1] == "'" else cell for cell in cells])
                lines.append(reader.line_num + lines_before)
    except csv.Error as error:
        raise TableError(
            f"{path}: line {reader.line_num + lines_before} is not valid CSV ({error}); "
            f"correct its quotes ({form})."
        ) from error
    if not rows:
        raise TableError(f"{path}: the file is empty.")
    header = [cell.strip() for cell in rows[0]]
    width = _width(header)
    wrong = [n for n, cells in zip(lines, rows, strict=True) if not _fits(cells, width)]
    if wrong:
        shown = ", ".join(map(str, wrong[:3])) + (", ..." if len(wrong) > 3 else "")
        raise TableError(
            f"{path}: every row must have the header's {width} cells, but {len(wrong)} do not "
            f"(line {shown}); quote the cells that hold the delimiter ({form})."
        )
    return TextTable(
        header[:width], [cells[:width] for cells in rows[1:]], lines[1:], form, delimiter
    )


def read_dicts(path: Path, *columns: str) -> list[dict[str, str]]:
    """Reads the rows of a text table as dicts by column name.

    Args:
        path: the file.
        columns: names that the header must hold.

    Raises:
        TableError: the file cannot be read, is not a table, or lacks a column.
    """
    try:
        table = read_text_table(path)
    except OSError as error:
        raise TableError(f"The table {path} cannot be read: {error.strerror}.") from error
    if missing := [name for name in columns if name not in table.header]:
        raise TableError(f"{path} has no column {', '.join(missing)}: it is another table.")
    return [dict(zip(table.header, row, strict=True)) for row in table.rows]


def read_text(path: Path) -> tuple[str, str]:
    """The text of a file, and the name of its encoding.

    Raises:
        TableError: the encoding is unknown.
        OSError: it cannot be read.
    """
    content = path.read_bytes()
    try:
        plain, marked = as_utf8(content)
    except UnicodeDecodeError as error:
        raise TableError(f"{path} begins like {error.encoding}, but is damaged.") from error
    encoding = marked or "UTF-8"
    try:
        text = plain.decode()
    except UnicodeDecodeError:
        # Our own tables hold file names that are invalid UTF-8 as raw bytes. A header that ends in
        # a carriage return means that a Windows program has saved the table again.
        if plain.startswith(_OURS) and not plain.partition(b"\n")[0].endswith(b"\r"):
            text = plain.decode(errors="surrogateescape")
        else:
            encoding = "Windows-1252"
            try:
                text = plain.decode("cp1252")
            except UnicodeDecodeError as error:
                raise TableError(
                    f"{path} is neither UTF-8 nor Windows-1252 (byte {error.start}); "
                    "save it as 'CSV UTF-8'."
                ) from error
    if "\0" in text:
        raise TableError(
            f"{path} holds null characters, so it is not a text table ({encoding}); "
            "save it as 'CSV UTF-8'."
        )
    return text, encoding


def as_utf8(content: bytes) -> tuple[bytes, str]:
    """Converts content with a byte order mark to UTF-8 without it; also names the encoding.

    Content without a mark is returned unchanged, with an empty name.

    Raises:
        UnicodeDecodeError: the mark is of UTF-16 or UTF-32, but the content is not.
    """
    if content.startswith(codecs.BOM_UTF8):
        return content[len(codecs.BOM_UTF8) :], "UTF-8"
    for mark, encoding in _MARKS:
        if content.startswith(mark):
            text = content[len(mark) :].decode(encoding)
            return text.encode(), encoding.rpartition("-")[0]
    return content, ""


def guarded(value: Any) -> Any:
    """A value for a CSV cell: an apostrophe keeps spreadsheets from running text as a formula."""
    return f"'{value}" if isinstance(value, str) and _FORMULA.match(value) else value


def write_csv(path: Path, header: Iterable[str], rows: Iterable[Iterable[Any]]) -> None:
    """Writes a CSV table in one step, with all digits and texts guarded against formulas.

    Args:
        path: file to write.
        header: column names.
        rows: texts and numbers; None leaves a cell empty.

    Raises:
        TableError: the file cannot be written.
    """
    with writing_text(path) as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(map(guarded, header))
        writer.writerows(map(guarded, row) for row in rows)


def markdown_row(cells: Iterable[str]) -> str:
    """A row of a Markdown table."""
    return f"| {' | '.join(cells)} |"


def unguarded(cell: str) -> str:
    """Reverses `guarded`; any other cell is returned unchanged."""
    return cell[1:] if cell[:1] == "'" and _FORMULA.match(cell) else cell


def _delimiter(text: str) -> str:
    """The delimiter that gives most of the first rows the header's width."""
    best, found = ",", (0, 0)
    for delimiter in _DELIMITERS:
        sample = io.StringIO(text[:_SAMPLE], newline="")
        try:
            rows = [
                row
                for row in islice(csv.reader(sample, delimiter=delimiter), 50)
                if any(map(str.strip, row))
            ]
        except csv.Error:  # reading the whole table will report it
            continue
        width = _width(rows[0]) if rows else 0
        fitting = sum(_fits(row, width) for row in rows[1:])
        if width > 1 and (fitting, width) > found:
            best, found = delimiter, (fitting, width)
    return best


def _width(header: Sequence[str]) -> int:
    """The number of columns, without unnamed ones at the end."""
    return max((n for n, cell in enumerate(header, 1) if cell.strip()), default=0)


def _fits(cells: Sequence[str], width: int) -> bool:
    """Whether a row has the header's width, not counting empty cells at its end."""
    return len(cells) >= width and not any(map(str.strip, cells[width:]))
