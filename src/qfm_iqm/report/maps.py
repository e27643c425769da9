"""Quality maps as plain data, which the report and the page draw over a photo."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from qfm_iqm.model.card import LabelUnits

if TYPE_CHECKING:  # the import would load torch
    from qfm_iqm.model.quality_map import QualityMap

STEPS = 255
LEAST = 0.1  # share of the scale; smaller differences do not get full color


def map_data(found: QualityMap, label: LabelUnits) -> dict[str, Any]:
    """Quantizes a map symmetrically around the image's score, which is drawn white.

    Args:
        found: the map.
        label: the scale, which determines the least difference with full color.

    Returns:
        `rows`, `columns`, and `values`, row by row in 0..255, which stand for `low`..`high`.
    """
    values_RC = found.values.astype(np.float64)
    length = label.span or float(np.ptp(values_RC)) or 1.0
    half_width = max(float(np.abs(values_RC - found.score).max()), LEAST * length)
    steps_RC = np.rint((values_RC - (found.score - half_width)) / (2 * half_width) * STEPS)
    rows, columns = values_RC.shape
    return {
        "rows": rows,
        "columns": columns,
        "values": steps_RC.clip(0, STEPS).astype(int).ravel().tolist(),
        "low": round(found.score - half_width, 4),
        "high": round(found.score + half_width, 4),
    }
