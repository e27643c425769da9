"""Calibrates a model's card to a user's own ratings."""

import hashlib
import math
from pathlib import Path

import numpy as np
import torch

from qfm_iqm.arrays import Doubles
from qfm_iqm.datasets.table import RatedTable
from qfm_iqm.errors import ModelError, TableError
from qfm_iqm.evaluation.evaluate import Progress, score_rated
from qfm_iqm.evaluation.reference import interval_of
from qfm_iqm.metrics.calibration import Calibration, Kind, calibrate
from qfm_iqm.model.card import LabelUnits, ModelCard
from qfm_iqm.model.model import QualityModel
from qfm_iqm.model.reference import Curve


def calibrated_card(
    model: QualityModel,
    table: RatedTable,
    root: Path,
    *,
    ends: tuple[float, float] | None = None,
    higher_is_better: bool = True,
    kind: Kind = "isotonic",
    device: str | torch.device | None = None,
    progress: Progress | None = None,
) -> tuple[ModelCard, Calibration]:
    """Fits a curve from a model's scores to ratings.

    Args:
        model: a model without calibration.
        table: rated photos.
        root: base folder of the names.
        ends: lowest and highest value of the rating scale; None takes the model's scale.
        higher_is_better: whether higher ratings are better.
        kind: kind of curve.
        device: a torch device name; None takes a GPU if there is one.
        progress: wraps the iterator over rows; also gets their number.

    Returns:
        The new card, with a name of its own and the ratings' units, and the calibration with its
        errors. The interval of the card's reference statistics, if any, is recomputed from the
        cross-validation errors.

    Raises:
        ModelError: the model is already calibrated.
        TableError: photos cannot be read, ratings lie outside the scale, or no curve can be fitted.
    """
    if model.card.calibration is not None:
        raise ModelError(
            f"'{model.card.name}' is already calibrated: calibrate the model it was made from."
        )
    units = _rating_units(model.card.label, table, ends, higher_is_better)
    rows = score_rated(model, table, root, device=device, progress=progress)
    predictions = np.array([row.score for row in rows], dtype=np.float64)
    ratings = np.asarray(table.mos)
    # Where low is good the sign is flipped, so that both sides increase with quality.
    prediction_sign, sign = (1 if u.higher_is_better else -1 for u in (model.card.label, units))
    found = calibrate(
        prediction_sign * predictions,
        sign * ratings,
        sign * _as_it_was(predictions, model.card.label, units),
        kind=kind,
    )
    order = slice(None, None, prediction_sign)
    x, y = (prediction_sign * found.x)[order], (sign * found.y)[order]
    curve = Curve(kind=kind, x=tuple(x.tolist()), y=tuple(y.tolist()))
    return _with_curve(model.card, curve, units, found, sign * found.predicted, ratings), found


def _rating_units(
    label: LabelUnits, table: RatedTable, ends: tuple[float, float] | None, higher: bool
) -> LabelUnits:
    """The units of the ratings; refuses ratings outside their scale."""
    if table.mos is None:
        raise TableError(f"{table.source} has no ratings: a column mos is needed.")
    low, high = ends or (label.minimum, label.maximum)
    if low is None or high is None:
        raise TableError("The model's scale has no ends: give those of your ratings with --scale.")
    if not (math.isfinite(low) and math.isfinite(high) and low != high):
        raise TableError(f"--scale {low:g} {high:g}: give two different, finite ends.")
    if low > high:
        raise TableError(f"--scale {low:g} {high:g}: give the lower end first.")
    beyond = int(((table.mos < low) | (table.mos > high)).sum())
    if beyond:
        raise TableError(
            f"{beyond} ratings of {table.source} lie beyond the scale from {low:g} to {high:g}: "
            "give the ends of your rating scale with --scale."
        )
    return LabelUnits(name="rating", minimum=low, maximum=high, higher_is_better=higher)


def _as_it_was(predictions: Doubles, label: LabelUnits, units: LabelUnits) -> Doubles:
    """Predictions mapped linearly to the ratings' units, by the ends of both scales."""
    assert units.worst_and_best is not None
    if label.span is None:
        return predictions
    shares = np.array([label.show(prediction) for prediction in predictions]) / 100
    worst, best = units.worst_and_best
    return worst + shares * (best - worst)


def _with_curve(
    card: ModelCard,
    curve: Curve,
    units: LabelUnits,
    found: Calibration,
    predicted: Doubles,
    ratings: Doubles,
) -> ModelCard:
    """The card with a calibration, and with reference statistics in the calibrated units."""
    reference = card.reference_statistics
    if reference is not None:
        level = 0.9 if reference.interval is None else reference.interval.level
        interval = interval_of(ratings, predicted, level)
        reference = reference.model_copy(
            update={
                "quantiles": tuple(np.sort(curve(reference.quantiles)).tolist()),
                "interval": interval,
            }
        )
    # Scores of two models are told apart by the name, because both have the same weights.
    made = hashlib.sha256((curve.model_dump_json() + units.model_dump_json()).encode()).hexdigest()
    return card.model_copy(
        update={
            "name": f"{card.name}-calibrated-{made[:8]}",
            "calibration": curve,
            "label": units,
            "reference_statistics": reference,
        }
    )
