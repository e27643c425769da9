"""What the service answers, as its OpenAPI description says it."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class ScoredImage(BaseModel):
    """One image: a row of `qfm score`, with the client's name in place of a path."""

    model_config = ConfigDict(extra="allow")

    name: str = Field(description="As the client called it.")
    score: float | None = Field(
        description="0 to 100, or in label units without a range; null for none."
    )
    spread: float | None = Field(description="Standard deviation of the crops' scores.")
    percentile: float | None = Field(default=None, description="Share in % that scores lower.")
    low: float | None = Field(default=None, description="Where people's mean opinion begins.")
    high: float | None = Field(default=None, description="Where it ends.")
    unusual: bool | None = Field(default=None, description="Whether it is unlike known photos.")
    width: int | None = Field(description="Pixels, upright.")
    height: int | None = Field(description="Pixels, upright.")
    status: str = Field(description="ok or error.")
    error: str = Field(description="One sentence; empty for a score.")
    model: str
    code: int | None = Field(default=None, description="413 or 415 for an image that was refused.")


class Scores(BaseModel):
    """The images of a request, in its order."""

    results: list[ScoredImage]


class ImageMap(BaseModel):
    """Where an image is better and worse."""

    name: str
    rows: int
    columns: int
    values: list[int] = Field(description="Row by row, 0 to 255, standing for low to high.")
    low: float = Field(description="In the units of the scores.")
    high: float = Field(description="In the units of the scores.")


class Mistake(BaseModel):
    """Why a request was refused."""

    error: str


class ModelFacts(BaseModel):
    """The model that scores, and what may be asked of it."""

    name: str
    description: str
    license: str
    label: dict[str, Any] = Field(description="Name, ends and direction of the scores.")
    results: list[dict[str, Any]]
    weights_sha256: str
    version: str
    limits: dict[str, Any]
