"""What the service answers, as its OpenAPI description says it."""

from __future__ import annotations

from dataclasses import fields
from typing import Any, get_type_hints

from pydantic import BaseModel, Field, create_model

from qfm_iqm.scoring.row import SCHEMA, ScoreRow

_KINDS = get_type_hints(ScoreRow)
_COLUMNS: dict[str, Any] = {
    column.name: (_KINDS[column.name], Field(column.default, description=SCHEMA[column.name].help))
    for column in fields(ScoreRow)
    if column.name != "path"
}

ScoredImage = create_model(
    "ScoredImage",
    __doc__="One image: a row of `qfm score`, with the client's name in place of a path.",
    name=(str, Field(description="The name that the client gave it.")),
    code=(int | None, Field(None, description="413 or 415 for an image that was refused.")),
    **_COLUMNS,
)


class Scores(BaseModel):
    """The images of a request, in its order."""

    results: list[ScoredImage] = Field(description="One row for each image.")  # type: ignore[valid-type]


class ImageMap(BaseModel):
    """Where an image is better and worse."""

    name: str = Field(description="The name that the client gave it.")
    rows: int = Field(description="Rows of the map, from top to bottom.")
    columns: int = Field(description="Columns of the map, from left to right.")
    values: list[int] = Field(description="Row by row, 0 to 255, standing for low to high.")
    low: float = Field(description="What 0 stands for, in the units of the scores.")
    high: float = Field(description="What 255 stands for, in the units of the scores.")


class Mistake(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One sentence.")


class ModelFacts(BaseModel):
    """The model that scores, and what may be asked of it."""

    name: str = Field(description="The model's name, as rows give it.")
    description: str = Field(description="What it is, in its own card's words.")
    license: str = Field(description="Terms of its weights.")
    label: dict[str, Any] = Field(description="Name, ends and direction of the scores.")
    columns: list[dict[str, str]] = Field(
        description="Facts of an image in its row: name, title, type and help text of each."
    )
    results: list[dict[str, Any]] = Field(description="How it did on rated images.")
    weights_sha256: str = Field(description="SHA-256 of its weights.")
    version: str = Field(description="Version of qfm-iqm that wrote it.")
    limits: dict[str, int] = Field(
        description="Bytes of a file and of a request, files of a request, pixels of an image."
    )
