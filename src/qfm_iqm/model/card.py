"""The model card `card.json`: everything about a model except its weights."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from qfm_iqm.errors import ModelError, reason_of
from qfm_iqm.image.preprocess import Preprocessing
from qfm_iqm.model.reference import Curve, Interval, ReferenceStatistics

BEST = 100.0  # best value on the display scale; the worst is 0


class LabelUnits(BaseModel):
    """The units of scores and labels; part of a model's card.

    Attributes:
        name: name of the scale, e.g. "MOS".
        minimum: lower end of the rating scale; None if it has no fixed end.
        maximum: upper end of the rating scale; None if it has no fixed end.
        higher_is_better: whether higher values mean better quality.
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
        """Maximum minus minimum; None without a range."""
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
        """The display units: 0 to 100, or these units if they have no range."""
        if self.span is None:
            return self
        return LabelUnits(name="quality", minimum=0.0, maximum=BEST)

    def show(self, value: float) -> float:
        """Converts a value to the display units; values beyond the range are clipped."""
        if self.worst_and_best is None:
            return value
        worst, best = self.worst_and_best
        return min(BEST, max(0.0, BEST * (value - worst) / (best - worst)))

    def show_width(self, width: float) -> float:
        """Converts the absolute value of a difference to the display units."""
        return abs(width) if self.span is None else BEST * abs(width) / self.span

    def show_interval(self, interval: Interval) -> str:
        """The interval's half-width in words, in the display units: mean, least and most."""
        mean, least, most = (
            f"{self.show_width(width):.1f}"
            for width in (interval.half_width, min(interval.half_widths), max(interval.half_widths))
        )
        return f"± {mean}" if least == most else f"± {mean} on average ({least} to {most})"


class NetworkConfig(BaseModel):
    """The arguments of the network's constructor.

    Attributes:
        backbone: name in `backbone.BACKBONES`, or timm's model name.
        crop: side of the crops in pixels.
        width: token width after a linear projection; None keeps the backbone's width.
        decoder: name in `decoder.DECODERS`.
        heads: attention heads of the decoder; None takes one per 64 channels.
        panel: number of learned queries of the decoder.
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
    """A measured value of a metric on a subset of the data, with its 95 % interval."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    data: str
    subset: str
    metric: str
    images: int
    value: float
    ci_low: float
    ci_high: float


class BaseWeights(BaseModel):
    """The public weights that a packed model is added to; part of its card.

    Attributes:
        name: timm's model name with weights tag.
        sha256: hash of the weights' content (`model.delta.content_hash`).
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    sha256: str


class ModelCard(BaseModel):
    """Description of a model: network, scores, training and measured results.

    Attributes:
        format: version of this card's layout.
        name: name of the model.
        description: one paragraph of text.
        license: license of the weights and of their sources.
        network: the network's constructor arguments.
        preprocessing: how an image is turned into crops.
        label: units and direction of the labels; scores are displayed as 0 to 100
            (`LabelUnits.show`).
        calibration: curve from the network's predictions to label units, from `qfm calibrate`;
            None leaves predictions unchanged.
        reference_statistics: reference population, interval and out-of-distribution detector, from
            [reference] in a recipe.
        training: free-form facts about the training: data and its terms, split hash, recipe,
            versions.
        results: measured results.
        base: the public backbone weights that `model.safetensors` is added to at loading; None if
            the file holds the whole network.
        weights_sha256: hash of `model.safetensors`.
        version: version of qfm-iqm that wrote the model.
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
                f"crops have {self.preprocessing.crop} pixels per side, but the network takes "
                f"{self.network.crop}"
            )
        return self


def read_card(path: Path) -> ModelCard:
    """Reads and validates a card.

    Raises:
        ModelError: the card is missing, not JSON, of a later format, or has a missing or wrong
            field.
    """
    try:
        content = json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        run = path.parent / "model"  # of a training
        hint = f" Do you mean {run}?" if (run / path.name).is_file() else ""
        raise ModelError(
            f"{path.parent} is not a model folder: it has no {path.name}.{hint}"
        ) from None
    except (OSError, ValueError) as error:
        raise ModelError(f"The model card {path} cannot be read: {reason_of(error)}.") from error
    found = content.get("format") if isinstance(content, dict) else None
    if isinstance(found, int) and found > CARD_FORMAT:
        raise ModelError(
            f"The model card {path} has format {found}, but this qfm-iqm reads up to format "
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
