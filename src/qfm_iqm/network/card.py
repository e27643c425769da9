"""The model card: everything about a model that is not a weight, as `card.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qfm_iqm.errors import ModelError
from qfm_iqm.image.cropping import Preprocessing
from qfm_iqm.network.config import NetworkConfig
from qfm_iqm.network.meaning import Curve, Meaning
from qfm_iqm.network.units import LabelUnits

CARD_FORMAT = 1


class ResultRow(BaseModel):
    """One measured figure: a metric on a part of the data, with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    part: str
    metric: str
    images: int
    value: float
    ci_low: float
    ci_high: float


class BaseWeights(BaseModel):
    """The public weights that a packed model is put upon; part of its card.

    Attributes:
        name: timm's, with tag.
        sha256: of their content (`packing.content_hash`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str


class ModelCard(BaseModel):
    """What a model is, what it was trained on, and how good it is.

    Attributes:
        format: version of this card's layout.
        name: of the model.
        description: one paragraph for people.
        license: terms of the weights, and of what they were made from.
        network: the network's constructor arguments.
        preprocessing: how an image becomes crops.
        label: units and direction of its scores; people are shown these as 0 to 100
            (`LabelUnits.show`).
        calibration: from the network's answers to label units, by `qfm calibrate`; None takes
            them as they are.
        meaning: reference population, interval and what is unusual, by `qfm finish`.
        training: data, its terms, split hash, recipe, versions: free-form, for people and checks.
        results: measured figures.
        base: the public backbone weights that `model.safetensors` is put upon at loading; None for
            a file that holds the whole network.
        weights_sha256: of `model.safetensors`.
        version: of qfm-iqm that wrote it.
    """

    model_config = ConfigDict(extra="forbid")

    format: int = CARD_FORMAT
    name: str
    description: str = ""
    license: str = ""
    network: NetworkConfig
    preprocessing: Preprocessing
    label: LabelUnits = LabelUnits()
    calibration: Curve | None = None
    meaning: Meaning | None = None
    training: dict[str, Any] = Field(default_factory=dict)
    results: list[ResultRow] = Field(default_factory=list)
    base: BaseWeights | None = None
    weights_sha256: str = ""
    version: str = ""

    @model_validator(mode="after")
    def _one_crop_size(self) -> ModelCard:
        if self.preprocessing.crop != self.network.crop:
            raise ValueError(
                f"crops are made at {self.preprocessing.crop} pixels and the network takes "
                f"{self.network.crop}"
            )
        return self

    def of_new_weights(self, **changes: Any) -> ModelCard:
        """This card for other weights: figures and what scores mean were found for the old ones."""
        stale: dict[str, Any] = {"results": [], "meaning": None, "calibration": None, "base": None}
        return self.model_copy(update=stale | changes)


def read_card(path: Path) -> ModelCard:
    """Reads and checks a card.

    Raises:
        ModelError: no card, not JSON, a later format, or a field that is missing or wrong.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        raise ModelError(f"{path.parent} is no model folder: it has no {path.name}.") from None
    except (OSError, ValueError) as error:
        raise ModelError(f"The model card {path} cannot be read: {error}") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > CARD_FORMAT:
        raise ModelError(
            f"The model card {path} has format {found}, and this qfm-iqm reads up to format "
            f"{CARD_FORMAT}: upgrade with pip install -U qfm-iqm."
        )
    try:
        return ModelCard.model_validate(content)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"]) or "the card"
        raise ModelError(
            f"The model card {path} is not valid at {where}: {first['msg']}."
        ) from None
