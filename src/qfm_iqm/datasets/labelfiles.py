"""Reads label files of official downloads as columns: .mat, .xlsx, lines of text.

`reading.read_table` reads CSV files. Nothing is unpickled: scipy reads MATLAB's format directly.
"""

import re
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.table import column_key, first_few
from qfm_iqm.errors import QFMError, TableError

Numbers = Doubles


def read_mat(path: Path, *variables: str) -> list[Any]:
    """Reads variables of a MATLAB file (up to version 7.2) as numbers (N,) or lists of text.

    Raises:
        TableError: the file is not a MATLAB file, or a variable is missing or holds something else.
    """
    # Imported here: most datasets do not need scipy.io.
    from scipy.io import loadmat

    try:
        content = loadmat(path)
    except Exception as error:  # damaged bytes end in any kind of error
        raise TableError(f"{path} is not a readable MATLAB file ({error}).") from error
    missing = [variable for variable in variables if variable not in content]
    if missing:
        there = ", ".join(key for key in content if not key.startswith("__")) or "none"
        raise TableError(f"{path} has no variable '{missing[0]}'; its variables are: {there}.")
    try:
        return [_flat(content[variable]) for variable in variables]
    except (TypeError, ValueError, IndexError, AttributeError) as error:
        raise TableError(
            f"{path} must hold {' and '.join(variables)} as numbers or as texts without a gap, "
            f"but holds something else ({error})."
        ) from error


def _flat(values: npt.NDArray[Any]) -> Any:
    """Numbers (N,), or the texts of a cell array."""
    if values.dtype == object:
        return [str(np.asarray(cell).ravel()[0]) for cell in values.ravel()]
    if values.dtype.kind in "US":
        return [str(text).strip() for text in values.ravel()]
    return values.ravel().astype(np.float64)


def read_sheet(
    path: Path, columns: Sequence[str], sheet: str | None = None
) -> dict[str, list[str]]:
    """Reads columns of an Excel sheet as text; the header may be in any row and column.

    Args:
        path: an .xlsx file.
        columns: names of the columns, in any letter case.
        sheet: name of the sheet; None for the first one.

    Raises:
        TableError: the file is not an Excel file, has no such sheet, or no row with these columns.
        QFMError: openpyxl is not installed.
    """
    try:
        from openpyxl import load_workbook
    except ModuleNotFoundError as error:
        raise QFMError(
            f"Reading {path.name} needs openpyxl: install it with pip install 'qfm-iqm[train]'."
        ) from error
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # warnings about styles are irrelevant
            book = load_workbook(path, read_only=True, data_only=True)
            if sheet is not None and sheet not in book.sheetnames:
                raise TableError(
                    f"{path} has no sheet '{sheet}'; its sheets are: {', '.join(book.sheetnames)}."
                )
            page = book[sheet] if sheet is not None else book.worksheets[0]
            rows = [[_text(cell) for cell in row] for row in page.iter_rows(values_only=True)]
            book.close()
    except TableError:
        raise
    except Exception as error:  # from the archive, its XML, or openpyxl
        raise TableError(f"{path} is not a readable Excel file ({error}).") from error
    wanted = [column_key(column) for column in columns]
    for number, row in enumerate(rows):
        header = [column_key(cell) for cell in row]
        if all(key in header for key in wanted):
            places = [header.index(key) for key in wanted]
            body = [cells for row in rows[number + 1 :] if any(cells := [row[i] for i in places])]
            return {key: [cells[i] for cells in body] for i, key in enumerate(wanted)}
    raise TableError(f"{path} has no row with the columns {', '.join(columns)}.")


def _text(cell: object) -> str:
    """A cell as displayed: Excel stores 1600 as 1600.0."""
    if cell is None:
        return ""
    if isinstance(cell, float) and cell.is_integer():
        return str(int(cell))
    return str(cell).strip()


def read_lines(path: Path, fields: int) -> list[list[str]]:
    """Reads lines of `fields` fields separated by white space; skips blank lines.

    Raises:
        TableError: the file is not text, or a line has another number of fields.
    """
    try:
        text = path.read_text("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise TableError(f"{path} cannot be read as text ({error}).") from error
    lines = [(n, line.split()) for n, line in enumerate(text.split("\n"), 1) if line.strip()]
    wrong = [n for n, cells in lines if len(cells) != fields]
    if wrong:
        raise TableError(
            f"{path}: every line must hold {fields} fields, but {len(wrong)} do not "
            f"({first_few(wrong, 'line')})."
        )
    return [cells for _, cells in lines]


def same_length(path: Path, columns: Mapping[str, Sequence[object] | Numbers]) -> int:
    """The common length of columns that belong together.

    Raises:
        TableError: their lengths differ.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        told = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise TableError(f"{path}: the label files have different lengths: {told}.")
    return next(iter(lengths.values()))


def matched(pattern: str, names: Sequence[str], path: Path, form: str) -> list[re.Match[str]]:
    """Matches a pattern with whole file names, in any letter case.

    Raises:
        TableError: a name does not match.
    """
    found = [re.fullmatch(pattern, name, re.IGNORECASE) for name in names]
    wrong = [name for name, match in zip(names, found, strict=True) if match is None]
    if wrong:
        raise TableError(
            f"{path}: names must look like {form}, but {len(wrong)} do not ({first_few(wrong)})."
        )
    return [match for match in found if match is not None]
