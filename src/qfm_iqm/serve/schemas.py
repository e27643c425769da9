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
    unusual: bool | None = Field(
        default=None, description="Whether it is unlike known photos, or small."
    )
    width: int | None = Field(description="Pixels, upright.")
    height: int | None = Field(description="Pixels, upright.")
    status: str = Field(description="ok or error.")
    error: str = Field(description="One sentence; empty for a score.")
    model: str = Field(description="Name of the model.")
    sha256: str = Field(default="", description="Of the image's bytes; empty for none.")
    weights: str = Field(default="", description="SHA-256 of the weights that scored.")
    runtime: str = Field(default="", description="What computed: torch, onnx or openvino.")
    precision: str = Field(default="", description="In which: fp32, bf16 or int8.")
    seconds: float | None = Field(default=None, description="Of computing that it took.")
    code: int | None = Field(default=None, description="413 or 415 for an image that was refused.")


class Scores(BaseModel):
    """The images of a request, in its order."""

    results: list[ScoredImage] = Field(description="One row for each image.")


class ImageMap(BaseModel):
    """Where an image is better and worse."""

    name: str = Field(description="As the client called it.")
    rows: int = Field(description="Of the map, from top to bottom.")
    columns: int = Field(description="Of the map, from left to right.")
    values: list[int] = Field(description="Row by row, 0 to 255, standing for low to high.")
    low: float = Field(description="What 0 stands for, in the units of the scores.")
    high: float = Field(description="What 255 stands for, in the units of the scores.")


class Mistake(BaseModel):
    """Why a request was refused."""

    error: str = Field(description="One sentence.")


class ModelFacts(BaseModel):
    """The model that scores, and what may be asked of it."""

    name: str = Field(description="As rows name it.")
    description: str = Field(description="What it is, in its own card's words.")
    license: str = Field(description="Terms of its weights.")
    label: dict[str, Any] = Field(description="Name, ends and direction of the scores.")
    results: list[dict[str, Any]] = Field(description="How it did on rated images.")
    weights_sha256: str = Field(description="SHA-256 of its weights.")
    version: str = Field(description="Of qfm-iqm that wrote it.")
    limits: dict[str, int] = Field(
        description="Bytes of a file and of a request, files of a request, pixels of an image."
    )
