"""Score columns for batches of images, as in `datasets` and Ray Data.

For `datasets.Dataset.map(..., batched=True)` and `ray.data.Dataset.map_batches`; neither library
is needed here.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from qfm_iqm.causes.severity import CAUSES
from qfm_iqm.errors import ImageError, QFMError
from qfm_iqm.image.load import decoded, fetch
from qfm_iqm.scoring.crop_stream import CroppedImage, with_crops
from qfm_iqm.scoring.row import SCHEMA, ScoreRow
from qfm_iqm.scoring.scorer import Scorer

if TYPE_CHECKING:
    from qfm_iqm.image.decode import Source
    from qfm_iqm.model.model import QualityModel
    from qfm_iqm.scoring.runtimes.base import Runtime

COLUMNS = ("score", "percentile", "out_of_distribution", "error")


class ScoreColumns:
    """A callable that scores the images of a batch and returns the columns to add.

    An image may be a PIL image, encoded bytes, a uint8 array (H, W, 3), a path or URL, or a dict of
    bytes and path as `datasets.Image(decode=False)` returns it. An image that cannot be read gets a
    row with its error.

    Args:
        model: a quality model, a loaded runtime, or a model's name.
        image: name of the image column.
        columns: fields of `ScoreRow` to add; those of causes are computed if one is named.
        keep: input columns to return as well. `datasets` keeps all of them by itself; Ray Data
            keeps none.
        options: options of `Scorer`.

    Raises:
        QFMError: `ScoreRow` has no such field.

    Examples:
        >>> add_scores = ScoreColumns("default", columns=["error"])
        >>> add_scores({"image": [None]})
        {'error': ['there is no image']}
    """

    def __init__(
        self,
        model: QualityModel | Runtime | str = "default",
        *,
        image: str = "image",
        columns: str | Sequence[str] = COLUMNS,
        keep: Sequence[str] = (),
        **options: Any,
    ) -> None:
        columns = (columns,) if isinstance(columns, str) else columns
        unknown = [name for name in columns if name not in SCHEMA]
        if unknown:
            raise QFMError(f"There is no column '{unknown[0]}': choose from {', '.join(SCHEMA)}.")
        self.image, self.columns, self.keep = image, tuple(columns), tuple(keep)
        if {"cause", "second_cause", *CAUSES}.intersection(columns):
            options = {"causes": True} | options
        self._model, self._options = model, options
        self._scorer: Scorer | None = self._build()
        # `datasets` hashes this state to cache results: other weights must give another hash.
        self.weights = self._scorer.runtime.weights

    def __getstate__(self) -> dict[str, Any]:
        """State for another process, which loads the model again."""
        return self.__dict__ | {"_scorer": None}

    def __call__(self, batch: Mapping[str, Any]) -> dict[str, list[Any]]:
        """Scores a batch.

        Args:
            batch: columns by name.

        Raises:
            QFMError: the image column or a column to keep is missing, or there is no batch.
        """
        missing = [name for name in (self.image, *self.keep) if name not in batch]
        if missing:
            raise QFMError(f"The batch has no column '{missing[0]}': {', '.join(batch)}.")
        self._scorer = self._scorer or self._build()
        images = batch[self.image]
        if isinstance(images, (str, bytes, Mapping)) or not hasattr(images, "__len__"):
            raise QFMError("Give batches of images, as Dataset.map(..., batched=True) does.")
        rows = list(self._rows(self._scorer, images))
        kept = {name: list(batch[name]) for name in self.keep}
        return kept | {name: [getattr(row, name) for row in rows] for name in self.columns}

    def _build(self) -> Scorer:
        return Scorer(self._model, source=self._crops, **self._options)

    def _rows(self, scorer: Scorer, images: Sequence[Any]) -> Iterator[ScoreRow]:
        self._images = images
        try:
            yield from scorer.score_paths(str(place) for place in range(len(images)))
        finally:
            del self._images

    def _crops(self, place: str) -> CroppedImage:
        """The crops of the image at a position of the batch."""
        assert self._scorer is not None
        policy = self._scorer.policy
        image = decoded(place, _source(self._images[int(place)]), policy)
        return with_crops(image, policy.preprocessing)


def _source(image: Any) -> Source:
    """Converts an image to an input of the decoder.

    Raises:
        ImageError: the image is missing, or of an unsupported type, dtype or shape.
    """
    if isinstance(image, Mapping):  # from `datasets.Image(decode=False)`
        image = image.get("bytes") or image.get("path")
    if image is None:
        raise ImageError("there is no image")
    if isinstance(image, str | Path):
        return fetch(str(image))
    if isinstance(image, np.ndarray):
        if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3:
            raise ImageError(
                f"an array must be (H, W, 3) of uint8, not {image.shape} of {image.dtype}"
            )
        return Image.fromarray(np.ascontiguousarray(image))
    if isinstance(image, bytes | bytearray | Image.Image):
        return image if isinstance(image, Image.Image) else io.BytesIO(image)
    raise ImageError(f"it is a {type(image).__name__}, not an image")
