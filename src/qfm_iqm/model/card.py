"""The model card: everything about a model that is not a weight, as `card.json`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qfm_iqm.errors import ModelError, reason_of
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.reference import Curve, ReferenceStatistics

BEST = 100.0  # of the scale that people are shown; the worst is 0


class LabelUnits(BaseModel):
    """What a score is measured in; part of a model's card.

    Attributes:
        name: of the scale, e.g. "MOS".
        minimum: lower end of the scale that people rated on, None if it has no fixed end.
        maximum: upper end.
        higher_is_better: the direction.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = "MOS"
    minimum: float | None = None
    maximum: float | None = None
    higher_is_better: bool = True

    @model_validator(mode="after")
    def _ends_in_order(self) -> LabelUnits:
        if self.span is not None and not self.span > 0:
            raise ValueError(f"minimum = {self.minimum} must be below maximum = {self.maximum}")
        return self

    @property
    def span(self) -> float | None:
        """Length of the range; None without a range."""
        if self.minimum is None or self.maximum is None:
            return None
        return self.maximum - self.minimum

    @property
    def worst_and_best(self) -> tuple[float, float] | None:
        """The ends of the range, the worse one first; None without a range."""
        if self.minimum is None or self.maximum is None:
            return None
        ends = self.minimum, self.maximum
        return ends if self.higher_is_better else ends[::-1]

    @property
    def shown(self) -> LabelUnits:
        """The units that people are shown: 0 to 100, or these very units if they have no range."""
        if self.span is None:
            return self
        return LabelUnits(name="quality", minimum=0.0, maximum=BEST)

    def show(self, value: float) -> float:
        """A value in these units as people are shown it; beyond the range, the range's end."""
        if self.worst_and_best is None:
            return value
        worst, best = self.worst_and_best
        return min(BEST, max(0.0, BEST * (value - worst) / (best - worst)))

    def show_width(self, width: float) -> float:
        """A difference in these units, without its sign, as people are shown it."""
        return abs(width) if self.span is None else BEST * abs(width) / self.span


class NetworkConfig(BaseModel):
    """The network constructor's arguments.

    Attributes:
        backbone: of the encoder, a name in `backbone.BACKBONES` or timm's.
        crop: side of the crops in pixels.
        width: token width after a linear projection; None keeps the backbone's.
        decoder: a name in `decoder.DECODERS`.
        heads: attention heads of the decoder; None takes one per 64 channels.
        panel: learned queries of the decoder.
    """

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    backbone: str
    crop: int = Field(default=224, ge=16)
    width: int | None = Field(default=None, ge=1)
    decoder: str = "attention-panel"
    heads: int | None = Field(default=None, ge=1)
    panel: int = Field(default=6, ge=1)


CARD_FORMAT = 1


class ResultRow(BaseModel):
    """One measured figure: a metric on a subset of the data, with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    subset: str
    metric: str
    images: int
    value: float
    ci_low: float
    ci_high: float


class BaseWeights(BaseModel):
    """The public weights that a packed model is put upon; part of its card.

    Attributes:
        name: timm's, with tag.
        sha256: of their content (`model.delta.content_hash`).
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
        calibration: from the network's predictions to label units, by `qfm calibrate`; None
            takes them as they are.
        reference_statistics: reference population, interval and out-of-distribution detector, by
            [reference] in a recipe.
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
    reference_statistics: ReferenceStatistics | None = None
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
        raise ModelError(f"The model card {path} cannot be read: {reason_of(error)}.") from error
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
