"""Rows of the table of `qfm cull`: a photo's moment, its rank there, and the reason."""

from dataclasses import dataclass
from typing import Annotated, Literal

from qfm_iqm.scoring.row import ScoreRow, schema_of


@dataclass(frozen=True)
class CullRow(ScoreRow):
    """A score row with the columns of culling."""

    moment: Annotated[
        int | None, "Number of the photo's moment, from 1 in the order of time; empty on an error."
    ] = None
    photos: Annotated[int | None, "How many photos the moment has."] = None
    rank: Annotated[int | None, "Rank within the moment, 1 for the best."] = None
    keep: Annotated[bool | None, "Whether it is the best photo of its moment."] = None
    reason: Annotated[str, "Why it is kept, or is not, in words."] = ""
    duplicate: Annotated[
        Literal["", "exact", "near"],
        "Whether a better photo of the moment has the same bytes (exact) or nearly the same "
        "content (near).",
    ] = ""
    duplicate_of: Annotated[str, "That photo."] = ""
    rating: Annotated[
        int | None, "Stars from 1 to 5, by fifths of the scores of all photos culled together."
    ] = None
    taken: Annotated[
        str, "When the photo was taken, as ISO 8601; empty if the photo has no time."
    ] = ""


_ALL = schema_of(CullRow)
_FIRST = ("path", *(name for name in _ALL if name not in schema_of(ScoreRow)))
CULL_SCHEMA = {name: _ALL[name] for name in (*_FIRST, *(n for n in _ALL if n not in _FIRST))}
"""The columns by name, in the order of tables: the columns of culling come first."""
