"""Rows as the tables that people compute with: Arrow, pandas, polars.

Arrow comes with the package; the other two are asked for where they are installed.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

from qfm_iqm.errors import QFMError
from qfm_iqm.scoring.rows import ScoreRow, arrow_table

if TYPE_CHECKING:
    import pandas as pd
    import polars as pl
    import pyarrow as pa


def to_arrow(rows: Iterable[ScoreRow]) -> pa.Table:
    """Rows as an Arrow table; text that is no valid Unicode is escaped."""
    return arrow_table(rows)


def to_pandas(rows: Iterable[ScoreRow]) -> pd.DataFrame:
    """Rows as a pandas table, with nullable whole numbers.

    Raises:
        QFMError: pandas is not installed.
    """
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        raise QFMError("pandas is not installed: pip install pandas.") from error
    import pyarrow as pa

    kinds = {pa.int64(): pd.Int64Dtype()}
    frame: pd.DataFrame = arrow_table(rows).to_pandas(types_mapper=kinds.get)
    return frame


def to_polars(rows: Iterable[ScoreRow]) -> pl.DataFrame:
    """Rows as a polars table.

    Raises:
        QFMError: polars is not installed.
    """
    try:
        import polars as pl
    except ModuleNotFoundError as error:
        raise QFMError("polars is not installed: pip install polars.") from error
    frame = pl.from_arrow(arrow_table(rows))
    assert isinstance(frame, pl.DataFrame)
    return frame
