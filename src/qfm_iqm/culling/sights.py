"""Sights: what culling keeps of each scored photo, its score and features to find its moment."""

import base64
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import numpy.typing as npt

from qfm_iqm.arrays import Bytes
from qfm_iqm.culling.layout import layout
from qfm_iqm.image.load import Reading
from qfm_iqm.image.perceptual_hash import perceptual_hash
from qfm_iqm.image.resize import as_bytes
from qfm_iqm.scoring.crop_stream import CroppedImage, Pending
from qfm_iqm.scoring.row import ScoreRow
from qfm_iqm.scoring.scorer import Scorer
from qfm_iqm.scoring.video import FrameScore


@dataclass(frozen=True)
class Sight(ScoreRow):
    """A scored photo with its content features, about two kilobytes."""

    taken: Annotated[
        str, "When the photo was taken, as ISO 8601; empty if the photo has no time."
    ] = ""
    hash: Annotated[str, "Perceptual hash, as hexadecimal digits."] = ""
    layout: Annotated[str, "See `culling.layout`: 16-bit floats as base64."] = ""


@dataclass(frozen=True)
class Seen(Reading):
    """A reading with content features; see `Sight`."""

    hash: str = ""
    layout: str = ""


def seen(reading: Reading) -> Reading:
    """Adds content features to a reading; a reading without pixels is returned unchanged."""
    if reading.pixels is None:
        return reading
    pixels_CHW = as_bytes(reading.pixels)
    kept = layout(pixels_CHW).astype("<f2").tobytes()
    return Seen(
        **vars(reading),
        hash=perceptual_hash(pixels_CHW).tobytes().hex(),
        layout=base64.b64encode(kept).decode(),
    )


def sight_of(row: ScoreRow, reading: Reading) -> Sight:
    """Makes the sight of a photo.

    Args:
        row: the photo's row, with a score or an error.
        reading: the photo's reading from `seen`.
    """
    if row.status == "error":
        return Sight(**vars(row))
    if not isinstance(reading, Seen):  # a video, whatever its name
        return Sight(
            row.path, row.sha256, status="error", model=row.model, weights=row.weights,
            error=f"cannot read '{row.path}': it is a video, and qfm cull ranks photos",
            runtime=row.runtime, precision=row.precision, seconds=row.seconds,
        )  # fmt: skip
    return Sight(**vars(row), taken=reading.taken, hash=reading.hash, layout=reading.layout)


class SightScorer(Scorer):
    """A scorer whose rows are sights, with features from the scored pixels."""

    def _with_crops(self, reading: Reading | None) -> CroppedImage | None:
        return super()._with_crops(None if reading is None else seen(reading))

    def _row(self, pending: Pending, frames: Sequence[FrameScore]) -> Sight:
        return sight_of(super()._row(pending, frames), pending.reading)


def layouts(sights: Sequence[Sight]) -> npt.NDArray[np.float16]:
    """Layout features (N, D) of photos."""
    found = [np.frombuffer(base64.b64decode(sight.layout), "<f2") for sight in sights]
    return np.array(found, np.float16).reshape(len(sights), -1)


def hashes(sights: Sequence[Sight]) -> Bytes:
    """Perceptual hashes (N, 8) of photos."""
    content = b"".join(bytes.fromhex(sight.hash) for sight in sights)
    return np.frombuffer(content, np.uint8).reshape(-1, 8)
