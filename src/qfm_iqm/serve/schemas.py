"""The service's responses, for its OpenAPI description."""

from collections.abc import Mapping
from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import BaseModel, Field, create_model

from qfm_iqm.culling.row import CULL_SCHEMA, CullRow
from qfm_iqm.scoring.row import SCHEMA, Column, ScoreRow


def _described(name: str, what: str, kind: type[ScoreRow], schema: Mapping[str, Column]) -> Any:
    """Creates a pydantic model of rows in responses, see `answer_of`."""
    kinds, defaults = get_type_hints(kind), {one.name: one.default for one in fields(kind)}
    columns: dict[str, Any] = {
        column: (kinds[column], Field(defaults[column], description=schema[column].help))
        for column in schema
        if column != "path"
    }
    return create_model(
        name,
        __doc__=f"{what}, with the client's name instead of a path.",
        name=(str, Field(description="Name given by the client.")),
        code=(int | None, Field(None, description="413 or 415 for an image that was refused.")),
        **columns,
    )


ScoredImage = _described("ScoredImage", "One image: a row of `qfm score`", ScoreRow, SCHEMA)
CulledImage = _described("CulledImage", "One photo: a row of `qfm cull`", CullRow, CULL_SCHEMA)


def answer_of(row: ScoreRow, code: int) -> dict[str, Any]:
    """Converts a row to its form in a response.

    Args:
        row: the row, with the client's name as path.
        code: HTTP code that the image would have alone; included if it was refused.
    """
    schema = CULL_SCHEMA if isinstance(row, CullRow) else SCHEMA
    said = {column: getattr(row, column) for column in schema if column != "path"}
    return {"name": row.path} | said | ({} if code == 200 else {"code": code})


class Scores(BaseModel):
    """The images of a request, in its order."""

    results: list[ScoredImage] = Field(description="One row for each image.")  # type: ignore[valid-type]


class Culled(BaseModel):
    """The photos of a request: moments in the order of time, their photos by rank."""

    results: list[CulledImage] = Field(  # type: ignore[valid-type]
        description="One row for each photo; those that could not be scored come last."
    )


class ImageMap(BaseModel):
    """Where an image is better and worse."""

    name: str = Field(description="Name given by the client.")
    rows: int = Field(description="Rows of the map, from top to bottom.")
    columns: int = Field(description="Columns of the map, from left to right.")
    values: list[int] = Field(description="Row by row, from 0 for low to 255 for high.")
    low: float = Field(description="Score that 0 stands for.")
    high: float = Field(description="Score that 255 stands for.")


class Mistake(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One sentence.")


class ModelFacts(BaseModel):
    """The model that scores, and the limits of requests."""

    name: str = Field(description="Name of the model, as in rows.")
    description: str = Field(description="Description from its card.")
    license: str = Field(description="License of its weights.")
    label: dict[str, Any] = Field(description="Name, ends and direction of the scores.")
    columns: list[dict[str, str]] = Field(
        description="Columns of a row: name, title, type and help text of each."
    )
    results: list[dict[str, Any]] = Field(description="Its results on rated images.")
    weights_sha256: str = Field(description="SHA-256 of its weights.")
    version: str = Field(description="Version of qfm-iqm that wrote it.")
    limits: dict[str, int | float] = Field(
        description="Bytes of a file and of a request, files of a request, pixels and aspect ratio "
        "of an image."
    )
